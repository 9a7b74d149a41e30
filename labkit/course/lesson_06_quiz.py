"""The three questions of lesson 06."""

from __future__ import annotations

from labkit.course.model import Choice, Question, Quiz

QUIZ = Quiz(
    (
        Question(
            "With refreshInterval 15s, how long does a rotation take to reach the page?",
            (
                Choice(
                    "Exactly 15 seconds",
                    "Only a rotation that comes right after ESO's last look waits that long.",
                ),
                Choice(
                    "Anything up to 15 seconds, and then a moment",
                    "It comes at a random point between two looks. After the look, the other hops "
                    "take a fraction of a second here, and up to a minute or so more with a stock "
                    "kubelet.",
                    right=True,
                ),
                Choice(
                    "It depends on how many pods there are",
                    "Every pod on every node reads its own copy; the wait is ESO's.",
                ),
            ),
        ),
        Question(
            "A leaked password was rotated, and the page shows the new one. Is the leak closed?",
            (
                Choice(
                    "Yes: nobody uses the old one any more",
                    "Whoever stole it does. It works until it is revoked where it is checked.",
                ),
                Choice(
                    "Only when the old one is revoked: in the database, and in Vault's history",
                    "Rotation makes a new one, revocation ends the old one. Both, in this order, "
                    "so that the application never stands without.",
                    right=True,
                ),
                Choice(
                    "Yes, once all pods were restarted",
                    "A restart changes nothing about the old password.",
                ),
            ),
        ),
        Question(
            "Why did the environment variable and the subPath mount never change?",
            (
                Choice(
                    "ESO does not update them",
                    "ESO wrote the one Secret that all three come from.",
                ),
                Choice(
                    "They are copies made when the container started",
                    "Only a mounted folder is swapped by the kubelet. So read secrets from files "
                    "in a folder, and watch the folder.",
                    right=True,
                ),
                Choice(
                    "The sync mode was wrong",
                    "No sync mode changes what a running process was given at its start.",
                ),
            ),
        ),
    )
)
