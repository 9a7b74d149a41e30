"""The three questions at the end of lesson 02."""

from __future__ import annotations

from labkit.course.model import Choice, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "ESO shows Vault a JWT. How does Vault find out that it is genuine?",
            (
                Choice(
                    "It asks the Kubernetes API with a TokenReview",
                    "So it also learns that the ServiceAccount still exists: a deleted one is "
                    "refused at once.",
                    right=True,
                ),
                Choice(
                    "It reads the claims and believes them",
                    "Anybody can write claims: you did, and were refused. Only the signature "
                    "counts, and Kubernetes knows its own.",
                ),
                Choice(
                    "It compares it with a copy that it keeps",
                    "There is nothing to keep: the token is new each time, and lives for minutes.",
                ),
            ),
        ),
        Question(
            "A role has bound_service_account_names=external-secrets and "
            "bound_service_account_namespaces=*. Who gets in?",
            (
                Choice(
                    "ESO alone",
                    "The name is ESO's in one namespace. In any other it is free for the taking.",
                ),
                Choice(
                    "Whoever may make a ServiceAccount of that name in any namespace",
                    "A name is unique in its namespace only, so both bindings belong together.",
                    right=True,
                ),
                Choice(
                    "Nobody: a * is not allowed there",
                    "It is allowed, and means every namespace.",
                ),
            ),
        ),
        Question(
            "You narrow a role at noon. At ten o'clock it gave somebody a token for a day. "
            "What can they do at one o'clock?",
            (
                Choice(
                    "Nothing: the role does not let them in any more",
                    "A role decides at the login, and theirs is over.",
                ),
                Choice(
                    "What the token could do at ten, until it ends or is revoked",
                    "That is why times are short, and why revoking is part of closing a door.",
                    right=True,
                ),
                Choice(
                    "Only what the role's new policies say",
                    "A token keeps the names of the policies that it was given. Changing what a "
                    "policy says does reach it; changing the role does not.",
                ),
            ),
        ),
    )
)
