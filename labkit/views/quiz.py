"""The quiz at a lesson's end: choose an answer, check it, read why; and try another.

The browser gets the questions.  Whether an answer is right, and why, comes when it was
chosen.  What counts is the first answer to each question; keeping it is others' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.course.model import Quiz
from labkit.views.base import View

Kept = Mapping[int, bool]
"""By question (from 1): was the first answer right?"""


def state_of(quiz: Quiz, tried: Mapping[int, list[int]], kept: Kept) -> dict[str, Any]:
    """What is shown when of each question (from 1) these choices (from 0) were tried."""
    return {
        "questions": [
            {
                "text": question.text,
                "choices": [choice.text for choice in question.choices],
                "tried": [
                    {
                        "choice": place,
                        "right": question.choices[place].right,
                        "feedback": question.choices[place].feedback,
                    }
                    for place in tried.get(number, ())
                ],
            }
            for number, question in enumerate(quiz.questions, 1)
        ],
        "score": score(kept, len(quiz.questions)),
    }


def score(kept: Kept, many: int) -> str:
    """How it goes, as a sentence; empty when nothing was answered."""
    if not kept:
        return ""
    rest = many - len(kept)
    return f"{sum(kept.values())} of {len(kept)} right at the first try" + (
        f", {rest} to go." if rest > 0 else "."
    )


class QuizView(View, files="quiz"):
    """The widget.  ``kept`` is what is known of first answers, ``note`` keeps one more."""

    def __init__(self, quiz: Quiz, kept: Kept, note: Callable[[int, bool], Kept]) -> None:
        self._quiz = quiz
        self._kept = dict(kept)
        self._tried: dict[int, list[int]] = {}
        self.note = note
        super().__init__(state_of(quiz, {}, kept), {"answer": self._answer})

    def as_text(self) -> str:
        return str(self._quiz)

    def as_html(self) -> str:
        return self._quiz.to_html()

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        number, place = int(asked["question"]), int(asked["choice"])
        choice = self._quiz.questions[number - 1].choices[place]
        tried = self._tried.setdefault(number, [])
        if place not in tried:
            tried.append(place)
            self._kept = dict(self.note(number, choice.right))
        self.show(state_of(self._quiz, self._tried, self._kept))
        return {"question": number, "right": choice.right, "feedback": choice.feedback}
