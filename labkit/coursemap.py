"""A map of the course: each lesson, each checkpoint, and what of it is passed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.course.model import Lesson
from labkit.progress import Progress


@dataclass(frozen=True)
class CourseMap:
    """``here`` is the number of the lesson that the lab is in, None when in none."""

    lessons: Sequence[Lesson]
    progress: Progress
    here: int | None = None

    def _rows(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        rows = []
        for lesson in self.lessons:
            steps = []
            for exercise in lesson.exercises:
                entry = self.progress.of(lesson.number, exercise.name)
                if entry.passed:
                    state = "passed, solution played" if entry.solved else "passed"
                elif entry.attempts:
                    state = f"not yet, {entry.attempts} looks"
                else:
                    state = "not begun"
                steps.append((f"{exercise.title} ({exercise.name})", state))
            rows.append((lesson.label, "you are here" if lesson.number == self.here else "", steps))
        return rows

    @property
    def passed(self) -> int:
        """How many checkpoints are passed."""
        return sum(
            self.progress.of(lesson.number, exercise.name).passed
            for lesson in self.lessons
            for exercise in lesson.exercises
        )

    @property
    def total(self) -> int:
        """How many checkpoints there are."""
        return sum(len(lesson.exercises) for lesson in self.lessons)

    def __str__(self) -> str:
        lines = []
        for label, here, steps in self._rows():
            lines.append(label + (f"  <- {here}" if here else ""))
            for title, state in steps:
                mark = "[x]" if state.startswith("passed") else "[ ]"
                lines.append(f"  {mark} {title}" + ("" if state == "passed" else f": {state}"))
        lines.append(f"{self.passed} of {self.total} checkpoints passed")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.to_html()}

    def to_html(self) -> str:
        """The same as nested lists; states are words, not colours."""
        parts = []
        for label, here, steps in self._rows():
            items = "".join(
                f"<li>{'✓' if state.startswith('passed') else '○'} {html.escape(title)}: "
                f"{html.escape(state)}</li>"
                for title, state in steps
            )
            mark = f" <b>({here})</b>" if here else ""
            inner = f'<ul style="list-style: none">{items}</ul>' if items else ""
            parts.append(f"<li>{html.escape(label)}{mark}{inner}</li>")
        return (
            f'<nav aria-label="Course"><ul style="list-style: none">{"".join(parts)}</ul></nav>'
            f"<p>{self.passed} of {self.total} checkpoints passed</p>"
        )
