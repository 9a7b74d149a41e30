"""Lesson 00: the whole way once, to see what the rest of the course takes apart."""

from __future__ import annotations

from labkit.course.model import Choice, Lesson, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "Somebody copies your whole Git repository. Which secrets do they have?",
            (
                Choice(
                    "The database password, Base64-encoded",
                    "A Kubernetes Secret is Base64-encoded, and it would be one in Git. Here Git "
                    "holds the ExternalSecret: names of a key and its properties.",
                ),
                Choice(
                    "The token with which ESO reads from Vault",
                    "There is none. The store names a role and a ServiceAccount; being allowed to "
                    "use that ServiceAccount is decided by the cluster, not by who can read the "
                    "file.",
                ),
                Choice(
                    "None",
                    "They learn what your secrets are called, and no value.",
                    right=True,
                ),
            ),
        ),
        Question(
            "Why is the token the hard part?",
            (
                Choice(
                    "Because it is long",
                    "Its length is fine. The question is where it is kept, and who keeps that "
                    "safe.",
                ),
                Choice(
                    "Because whatever fetches a secret needs a secret itself",
                    "It is called “secret zero”. Trusting an identity that the platform vouches "
                    "for ends the chain.",
                    right=True,
                ),
                Choice(
                    "Because Vault forgets tokens",
                    "Tokens do end, and that is a strength: ESO simply logs in again.",
                ),
            ),
        ),
        Question(
            "The page changed with no restart. Who noticed the new file?",
            (
                Choice(
                    "Kubernetes restarted the application",
                    "The same process has been running all the time: look at restarts above.",
                ),
                Choice(
                    "The application watches the folder",
                    "The node swapped the folder's content, the application saw it and read the "
                    "file again.",
                    right=True,
                ),
                Choice(
                    "ESO told it",
                    "ESO's work ends when it has written the Secret. It does not know of the "
                    "application.",
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=0,
    slug="start-here",
    title="Start here",
    stage="application",
    begins_with="the whole way, from Vault to the application's page",
    quiz=QUIZ,
)
