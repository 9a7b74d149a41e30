"""Lesson 05: the application: a file in a mounted folder, and why not the environment."""

from __future__ import annotations

from labkit.course.lesson_05_deploy import DEPLOY
from labkit.course.lesson_05_folder import FOLDER, FROZEN, ROLLED_OUT
from labkit.course.model import Choice, Lesson, Question, Quiz

NAMES = {"report": "report-app"}

QUIZ = Quiz(
    (
        Question(
            "A Secret changes. Where does a running container see the new value?",
            (
                Choice(
                    "In its environment variables",
                    "They were copied when the process started, and nobody outside can change "
                    "them.",
                ),
                Choice(
                    "In a file that is mounted by subPath",
                    "That is the file of the container's start, for good.",
                ),
                Choice(
                    "In a folder that is mounted whole",
                    "The node writes a new folder and swaps the link ..data: all files change at "
                    "the same moment.",
                    right=True,
                ),
            ),
        ),
        Question(
            "An application watches the file /secrets/credentials (inotify, say). It sees one "
            "change at most, then none. Why?",
            (
                Choice(
                    "It should watch the folder: the file is a link, and what it led to is removed",
                    "After the swap the watch hangs on a file that is gone. The event to wait for "
                    "is the new ..data in the folder.",
                    right=True,
                ),
                Choice(
                    "Kubernetes updates a Secret once only",
                    "It updates it whenever the Secret changes.",
                ),
                Choice(
                    "The file is read-only",
                    "For the application it is. That does not hinder it from looking.",
                ),
            ),
        ),
        Question(
            "The new file is broken. What should a good application do?",
            (
                Choice(
                    "Stop, so that somebody notices",
                    "All replicas get the same file: a typing error in Vault would stop them all.",
                ),
                Choice(
                    "Go on with the last good values, and say so",
                    "It serves, and its page, its log and its health check all tell what is wrong.",
                    right=True,
                ),
                Choice(
                    "Use whatever of the file can be read",
                    "A new user with the old password is worse than both old.",
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=5,
    slug="application",
    title="The application",
    stage="external-secret",
    begins_with="the Secret mysql-credentials that ESO keeps up to date, and another team's "
    "application that reads it in its own way",
    missing="the application whose page shows it",
    begin=FROZEN + ROLLED_OUT,
    names=NAMES,
    exercises=(DEPLOY, FOLDER),
    quiz=QUIZ,
)
