"""A map of the course: each lesson, its checkpoints and its quiz, and what of it is passed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.course import minutes
from labkit.course.model import Exercise, Lesson
from labkit.progress import Progress


@dataclass(frozen=True)
class Step:
    """A checkpoint or a quiz on the map: ``state`` in words, ``done`` when it counts as done."""

    title: str
    state: str
    done: bool

    def __str__(self) -> str:
        return self.title if self.state == "passed" else f"{self.title}: {self.state}"


@dataclass(frozen=True)
class CourseMap:
    """``here`` is the number of the lesson that the lab is in, None when in none."""

    lessons: Sequence[Lesson]
    progress: Progress
    here: int | None = None

    def steps(self, lesson: Lesson) -> list[Step]:
        """A lesson's checkpoints, in order."""
        return [self._step(lesson, exercise) for exercise in lesson.exercises]

    def _step(self, lesson: Lesson, exercise: Exercise) -> Step:
        entry = self.progress.of(lesson.number, exercise.name)
        if entry.passed:
            state = "passed, solution played" if entry.solved else "passed"
        elif entry.attempts:
            state = f"not yet, {entry.attempts} look{'s' if entry.attempts > 1 else ''}"
        else:
            state = "not begun"
        return Step(f"{exercise.title} ({exercise.name})", state, entry.passed)

    def quiz(self, lesson: Lesson) -> Step:
        """A lesson's quiz; done when each question was answered, rightly or not."""
        answers = self.progress.quiz(lesson.number)
        many = len(lesson.quiz.questions)
        if not answers:
            return Step("Quiz", "not begun", done=False)
        right = f"{sum(answers.values())} of {len(answers)} right at the first try"
        if len(answers) < many:
            return Step("Quiz", f"{right}, {many - len(answers)} to go", done=False)
        return Step("Quiz", right, done=True)

    @property
    def passed(self) -> int:
        """How many checkpoints are passed."""
        return sum(step.done for lesson in self.lessons for step in self.steps(lesson))

    @property
    def total(self) -> int:
        """How many checkpoints there are."""
        return sum(len(lesson.exercises) for lesson in self.lessons)

    @property
    def minutes_left(self) -> int:
        """Minutes for what is not done yet, as measured (``course.minutes``)."""
        return sum(self._left(lesson) for lesson in self.lessons)

    def _left(self, lesson: Lesson) -> int:
        whole = minutes.of(lesson.number) or 0
        done = [step.done for step in self.steps(lesson)]
        if all(done):
            return 0
        if not any(done):
            return whole
        first = lesson.exercises[done.index(False)]
        return minutes.left(lesson.number, first.name, done=False) or whole

    def to_json(self) -> dict[str, Any]:
        """The map as plain data."""
        return {
            "passed": self.passed,
            "total": self.total,
            "minutes_left": self.minutes_left,
            "lessons": [
                {
                    "label": lesson.label,
                    "file": lesson.file_name,
                    "minutes": minutes.of(lesson.number),
                    "here": lesson.number == self.here,
                    "steps": [vars(step) for step in self.steps(lesson)],
                    "quiz": vars(self.quiz(lesson)),
                }
                for lesson in self.lessons
            ],
        }

    def __str__(self) -> str:
        lines = []
        for lesson in self.lessons:
            time = minutes.of(lesson.number)
            lines.append(
                lesson.label
                + (f" (about {time} minutes)" if time else "")
                + ("  <- you are here" if lesson.number == self.here else "")
            )
            for step in (*self.steps(lesson), self.quiz(lesson)):
                lines.append(f"  {'[x]' if step.done else '[ ]'} {step}")
        return "\n".join([*lines, self.summary])

    @property
    def summary(self) -> str:
        """The whole in a sentence."""
        left = self.minutes_left
        return f"{self.passed} of {self.total} checkpoints passed" + (
            f", about {left} minutes left in the course" if left else ""
        )

    def _repr_mimebundle_(self, **_: object) -> Any:
        return {"text/plain": str(self), "text/html": self.to_html()}

    def to_html(self) -> str:
        """The same as nested lists; states are words, not colours."""
        parts = []
        for lesson in self.lessons:
            items = "".join(
                f"<li>{'✓' if step.done else '○'} {html.escape(step.title)}: "
                f"{html.escape(step.state)}</li>"
                for step in (*self.steps(lesson), self.quiz(lesson))
            )
            time = minutes.of(lesson.number)
            about = f", about {time} minutes" if time else ""
            mark = " <b>(you are here)</b>" if lesson.number == self.here else ""
            parts.append(
                f'<li><a href="{html.escape(lesson.file_name)}">{html.escape(lesson.label)}</a>'
                f'{about}{mark}<ul style="list-style: none">{items}</ul></li>'
            )
        return (
            f'<nav aria-label="Course"><ul style="list-style: none">{"".join(parts)}</ul></nav>'
            f"<p>{self.summary}</p>"
        )
