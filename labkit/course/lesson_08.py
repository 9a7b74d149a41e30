"""Lesson 08: the twelve steps from Git to page, each with evidence, and what logs can tell."""

from __future__ import annotations

from labkit.course.lesson_08_findings import WHO
from labkit.course.lesson_08_mend import MEND
from labkit.course.lesson_08_team import BEGIN, NAMES
from labkit.course.model import Choice, Lesson, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "The API server's audit log has a TokenReview, asked for by "
            "system:serviceaccount:vault:vault. Who was it that logged in to Vault?",
            (
                Choice(
                    "The ServiceAccount vault",
                    "That is Vault itself: it asks whether a JWT that somebody showed is genuine.",
                ),
                Choice(
                    "This line cannot tell; Vault's audit log can",
                    "The JWT stood in the body of the request, and bodies are not logged. Vault's "
                    "answer to the login, at the same moment, names the ServiceAccount.",
                    right=True,
                ),
                Choice(
                    "ESO, who else",
                    "Here it was, as a rule. But that is knowing, not proving: anybody with a JWT "
                    "can make Vault ask.",
                ),
            ),
        ),
        Question(
            "A password from Vault turns up in a chat. How do you find out who read it?",
            (
                Choice(
                    "Search Vault's audit log for the password",
                    "It is not in there, and that is good: whoever reads logs would have it.",
                ),
                Choice(
                    "You cannot: the log holds HMACs, and nobody can turn them back",
                    "Nobody can turn them back. But Vault computes the same HMAC again from the "
                    "same text.",
                ),
                Choice(
                    "Let Vault compute its HMAC, and search for that",
                    "sys/audit-hash is made for this. The lines that you find name who got it, "
                    "when, and with which role.",
                    right=True,
                ),
            ),
        ),
        Question(
            "The story says “NOT PROVEN” at a step. What do you know?",
            (
                Choice(
                    "That it did not happen",
                    "A log that is full, rotated away or out of reach leaves no line either. "
                    "Read the reason beside it.",
                ),
                Choice(
                    "That no log shows it, and the reason why",
                    "Refused, never reached, or nobody there to write it down: three different "
                    "things, and the reason says which.",
                    right=True,
                ),
                Choice(
                    "That it happened, since the page is right",
                    "The page may show what came by another way, or earlier.",
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=8,
    slug="behind-the-scenes",
    title="Behind the scenes",
    stage="application",
    begins_with="the whole way from Vault to the page, and a team whose secret does not come",
    begin=BEGIN,
    names=NAMES,
    exercises=(MEND, WHO),
    quiz=QUIZ,
)
