"""The three questions at the end of lesson 03."""

from __future__ import annotations

from labkit.course.model import Choice, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "A ClusterSecretStore says Valid. What do you know?",
            (
                Choice(
                    "Every ExternalSecret that uses it will work",
                    "Paths and policies have not been tried: no secret was read yet.",
                ),
                Choice(
                    "ESO could sign in, if the store says completely as whom",
                    "Without serviceAccountRef.namespace ESO cannot even try, and says Valid "
                    "all the same.",
                    right=True,
                ),
                Choice(
                    "Vault holds the secret",
                    "A store names no secret. An ExternalSecret does.",
                ),
            ),
        ),
        Question(
            "The store's condition says “unable to create client”. Where is the reason?",
            (
                Choice(
                    "In the events of the store",
                    "The provider's own words are there: for a ClusterSecretStore in the "
                    "namespace default.",
                    right=True,
                ),
                Choice(
                    "Nowhere: switch ESO's debug log on",
                    "ESO's log has it as well, but you do not need access to that.",
                ),
                Choice(
                    "In the ExternalSecret",
                    "That one only says that its store is not ready.",
                ),
            ),
        ),
        Question(
            "A ClusterSecretStore has no conditions. Who can read the shop's password through it?",
            (
                Choice(
                    "Whoever may create an ExternalSecret in any namespace",
                    "ESO signs in as itself, whoever asks. That is what conditions, or a store "
                    "of a team's own, are for.",
                    right=True,
                ),
                Choice(
                    "Only pods of the namespace external-secrets",
                    "That is where ESO runs. Who uses the store is another question.",
                ),
                Choice(
                    "Only ServiceAccounts that the role demo admits",
                    "The role admits ESO, and ESO reads for everybody who asks it.",
                ),
            ),
        ),
    )
)
