"""The course on the site: its table, its run sheets, and what a teacher wants of each lesson.

All of it is known to the course itself.  Minutes are ``labkit.course.minutes``' and the
machine's part of them ``course/durations.json``, both written by ``make notebooks``; what
people stumble over are the mistakes (``Fault``) that each exercise's checkpoint was made
for; the questions are the quiz's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from labkit import course
from labkit.course import minutes
from labkit.course.model import Exercise, Lesson

from .markdown import plain, table
from .paths import REPO

_QUIZ = 2  # minutes, at a lesson's end


def lessons() -> str:
    """Each lesson: how long it takes, what there is when it begins, what one does in it."""
    rows = [
        (
            f"[{lesson.label}](/notebooks/{lesson.file_name})",
            str(_minutes(lesson)),
            plain(lesson.begins_with),
            "<br>".join(plain(exercise.title) for exercise in lesson.exercises),
        )
        for lesson in course.LESSONS
    ]
    total = sum(map(_minutes, course.LESSONS))
    summary = (
        f"\n\nAll {len(rows)} together are {total} minutes for somebody who is new to it: "
        f"{_span(sum(map(_machine, course.LESSONS)))} of them are the machine's, measured when the "
        "notebooks were run last; the reading and the doing are counted."
    )
    pages = "\n".join(
        f"/notebooks/{lesson.file_name.removesuffix('.ipynb')}" for lesson in course.LESSONS
    )
    sidebar = f"\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```"
    return table(("lesson", "minutes", "there is", "your turn"), rows) + summary + sidebar


# -- run sheets -----------------------------------------------------------------------


@dataclass(frozen=True)
class Talk:
    """A part of the day that is no lesson; ``minutes`` None takes what is left."""

    title: str
    minutes: int | None


PLANS: dict[str, tuple[int, tuple[Talk | int, ...]]] = {
    "hour": (
        60,
        (
            Talk("Welcome: who has a token in Git? What happens when a password is rotated?", 3),
            0,
            2,
            6,
            Talk("Back to the two questions; where to go on", None),
        ),
    ),
    "half-day": (
        240,
        (
            Talk("Welcome: who has a token in Git? What happens when a password is rotated?", 10),
            0,
            1,
            2,
            Talk("Break", 15),
            3,
            4,
            Talk("Break", 15),
            5,
            6,
            Talk("Break", 10),
            7,
            Talk("What of it will you change at work? Lesson 08 is for the way home", None),
        ),
    ),
}
"""How many minutes there are, and what is done in them; a number is a lesson."""


def run_sheet(plan: str) -> str:
    """A plan minute by minute.  Raises ValueError when its lessons no longer fit into it."""
    there_are, parts = PLANS[plan]
    lengths = [part.minutes if isinstance(part, Talk) else _minutes(_of(part)) for part in parts]
    left = there_are - sum(length or 0 for length in lengths)
    if left < 2:
        raise ValueError(f"the plan {plan!r} has {left} minutes left for its end: shorten it")
    rows: list[tuple[str, str, str, str]] = []
    now = 0
    for part, length in zip(parts, lengths, strict=True):
        takes = left if length is None else length
        if isinstance(part, Talk):
            rows.append((_clock(now), part.title, str(takes), ""))
        else:
            rows += _rows(_of(part), now)
        now += takes
    rows.append((_clock(now), "The end", "", ""))
    return table(("at", "what", "minutes", "of which the machine's"), rows)


def _rows(lesson: Lesson, now: int) -> list[tuple[str, str, str, str]]:
    title = f"**[{lesson.label}](/notebooks/{lesson.file_name})**"
    rows = [(_clock(now), title, f"**{_minutes(lesson)}**", _span(_machine(lesson)))]
    for exercise in lesson.exercises:
        begins = now + _minutes(lesson) - _left(lesson, exercise, done=False)
        takes = _left(lesson, exercise, done=False) - _left(lesson, exercise, done=True)
        rows.append((_clock(begins), f"Your turn: {plain(exercise.title)}", str(takes), ""))
    rows.append((_clock(now + _minutes(lesson) - _QUIZ), "Quiz, together", str(_QUIZ), ""))
    return rows


# -- lesson by lesson -----------------------------------------------------------------


def for_the_teacher(number: str) -> str:
    """What a lesson begins with, and for each exercise: when, what goes wrong, what to say."""
    lesson = _of(int(number))
    missing = f" Not there yet: {plain(lesson.missing)}." if lesson.missing else ""
    lines = [
        f"[The lesson](/notebooks/{lesson.file_name}), {_minutes(lesson)} minutes "
        f"(the machine's part: {_span(_machine(lesson))}). "
        f"There is: {plain(lesson.begins_with)}.{missing}",
        "",
    ]
    for exercise in lesson.exercises:
        left = _left(lesson, exercise, done=False)
        takes = left - _left(lesson, exercise, done=True)
        lines.append(
            f"* **{plain(exercise.title)}** (`{exercise.name}`), about {takes} minutes, "
            f"{left} before the end."
        )
        lines += [f"  * {line}" for line in _stumbles(exercise)]
        if exercise.hints:
            lines.append(f"  * The first nudge: {plain(exercise.hints[0])}")
    lines += ["", "Questions to ask (they close the lesson too), with the answer:", ""]
    for question in lesson.quiz.questions:
        right = next(choice for choice in question.choices if choice.right)
        lines.append(f"* {plain(question.text)} *{plain(right.text).rstrip('.')}.* ")
    return "\n".join(lines)


def _stumbles(exercise: Exercise) -> list[str]:
    """The mistakes that its checkpoint knows, by what it finds wanting then."""
    mistakes: dict[str, list[str]] = {}
    for fault in exercise.faults:
        if "deleted" not in fault.name:  # tests need that one; nobody stumbles over it
            mistakes.setdefault(fault.breaks.title, []).append(plain(fault.name))
    return [f"“{plain(title)}” fails: {'; '.join(names)}." for title, names in mistakes.items()]


# -- together -------------------------------------------------------------------------


def _of(number: int) -> Lesson:
    return course.find(number)


def _minutes(lesson: Lesson) -> int:
    found = minutes.of(lesson.number)
    if found is None:
        raise ValueError(f"lesson {lesson.label} was never measured: `make notebooks`")
    return found


def _left(lesson: Lesson, exercise: Exercise, *, done: bool) -> int:
    found = minutes.left(lesson.number, exercise.name, done=done)
    if found is None:
        raise ValueError(f"exercise {exercise.name} was never measured: `make notebooks`")
    return found


def _machine(lesson: Lesson) -> float:
    """Seconds that its cells ran when they were stored last."""
    found: dict[str, float] = json.loads((REPO / "course" / "durations.json").read_text())
    return found[lesson.file_name]


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _clock(minute: int) -> str:
    return f"{minute // 60}:{minute % 60:02}"
