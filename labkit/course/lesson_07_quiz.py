"""The three questions of lesson 07."""

from __future__ import annotations

from labkit.course.model import Choice, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "A password is changed in Vault. What has to be committed?",
            (
                Choice(
                    "The new version's number, so that Argo CD syncs",
                    "Nothing in Git names a version. The ExternalSecret says where, never what.",
                ),
                Choice(
                    "Nothing",
                    "ESO reads Vault again and writes the Secret; the node swaps the file. Argo CD "
                    "has no part in it, and Git does not change.",
                    right=True,
                ),
                Choice(
                    "An annotation on the Deployment, so that the pods restart",
                    "That is for applications which read their secret once. This one watches it.",
                ),
            ),
        ),
        Question(
            "ESO's Secret is not in Git. Why does Argo CD, with prune on, leave it alone?",
            (
                Choice(
                    "Argo CD never deletes Secrets",
                    "It deletes whatever it deployed and no longer finds in Git, Secrets among it.",
                ),
                Choice(
                    "It has no mark of Argo CD's, and an owner: the ExternalSecret",
                    "Argo CD prunes what it tracks. With label tracking and no owner, the Secret "
                    "would have had a mark that ESO copied, and would have been pruned.",
                    right=True,
                ),
                Choice(
                    "Argo CD may not see Secrets",
                    "It may: the tree shows this one. It is the tracking that decides.",
                ),
            ),
        ),
        Question(
            "A password was in a commit, and the next one removed it. What comes first?",
            (
                Choice(
                    "Rewrite the history and force-push",
                    "Needed, and second: whoever fetched has it, and the server hands the old "
                    "commit out until it is emptied.",
                ),
                Choice(
                    "Rotate it",
                    "Then what leaked opens nothing, wherever it is. All else is tidying up.",
                    right=True,
                ),
                Choice(
                    "Nothing: it is gone from main",
                    "It is gone from the newest commit. Every clone has the one before.",
                ),
            ),
        ),
    )
)
