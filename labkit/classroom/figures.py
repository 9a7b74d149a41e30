"""What a teacher makes of the reports: who is where, who may be stuck, what takes long.

Pure: from reports and the course to rows, and from rows to text, JSON and CSV.  Where the
reports come from is ``box``'s, when they are shown ``command``'s.

A checkpoint counts for the seats that have come to its lesson.  Its time is the median over
those who passed it themselves: whoever had the solution played took seconds, and would make
a hard exercise look easy.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len

from labkit.classroom.report import Report
from labkit.course.model import Exercise, Lesson

LOOKS = 5
"""Looks at one checkpoint that did not pass, after which somebody may be stuck."""
QUIET = 10
"""Minutes without a change, after which somebody may be stuck."""


@dataclass(frozen=True)
class Row:
    """One seat.  ``minutes`` since its last change; ``stuck`` says why, "" when it is not."""

    seat: str
    uid: int
    lesson: int | None
    passed: int
    of: int
    minutes: int
    stuck: str


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint over all ``seats`` that have come to its lesson.

    ``rate`` is passed / seats, ``minutes`` the median of those who passed it themselves
    (None: nobody, or nobody's beginning is known), ``hints`` how many were shown in all,
    ``solutions`` how often the solution was played.
    """

    lesson: int
    name: str
    seats: int
    passed: int
    rate: float
    minutes: float | None
    hints: int
    solutions: int


@dataclass(frozen=True)
class Figures:
    """A class at one moment; ``problems`` are files that are no reports, a line each."""

    rows: tuple[Row, ...]
    checkpoints: tuple[Checkpoint, ...]
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "seats": [asdict(row) for row in self.rows],
            "checkpoints": [asdict(each) for each in self.checkpoints],
            "problems": list(self.problems),
        }


def of(
    reports: Sequence[tuple[int, Report]],
    lessons: Sequence[Lesson],
    now: float,
    problems: Sequence[str] = (),
) -> Figures:
    """The figures of reports (each with its owner's uid) at ``now`` (unix seconds)."""
    total = sum(len(lesson.exercises) for lesson in lessons)
    rows = tuple(_row(uid, report, lessons, total, now) for uid, report in reports)
    checkpoints = tuple(
        _checkpoint(lesson, exercise, there)
        for lesson in lessons
        if (there := [report for _, report in reports if _has_come_to(report, lesson)])
        for exercise in lesson.exercises
    )
    return Figures(rows, checkpoints, tuple(problems))


def _row(uid: int, report: Report, lessons: Sequence[Lesson], total: int, now: float) -> Row:
    passed = sum(
        report.progress.of(lesson.number, exercise.name).passed
        for lesson in lessons
        for exercise in lesson.exercises
    )
    # Two machines' clocks may differ by a little.
    minutes = max(0, int((now - report.changed_at) // 60))
    here = next((each for each in lessons if each.number == report.lesson), None)
    stuck = _stuck(report, here, minutes) if here else ""
    return Row(report.seat, uid, report.lesson, passed, total, minutes, stuck)


def _stuck(report: Report, here: Lesson, minutes: int) -> str:
    """Why somebody may need help in the lesson that they are in; "" when nothing says so."""
    to_do = {
        exercise.name: report.progress.of(here.number, exercise.name)
        for exercise in here.exercises
        if not report.progress.of(here.number, exercise.name).passed
    }
    if not to_do:
        return ""
    name = max(to_do, key=lambda name: to_do[name].attempts)
    if to_do[name].attempts >= LOOKS:
        return f"{name}: {to_do[name].attempts} looks"
    return "no change" if minutes >= QUIET else ""


def _has_come_to(report: Report, lesson: Lesson) -> bool:
    label = f"{lesson.number:02}"
    return (
        report.lesson == lesson.number
        or label in report.progress.begun
        or any(name.startswith(f"{label}/") for name in report.progress.entries)
    )


def _checkpoint(lesson: Lesson, exercise: Exercise, there: Sequence[Report]) -> Checkpoint:
    entries = [report.progress.of(lesson.number, exercise.name) for report in there]
    times = [
        seconds
        for report, entry in zip(there, entries, strict=True)
        if not entry.solved
        and (seconds := report.progress.seconds(lesson.number, exercise.name)) is not None
    ]
    passed = sum(entry.passed for entry in entries)
    return Checkpoint(
        lesson=lesson.number,
        name=exercise.name,
        seats=len(there),
        passed=passed,
        rate=round(passed / len(there), 3),
        minutes=round(statistics.median(times) / 60, 1) if times else None,
        hints=sum(entry.hints for entry in entries),
        solutions=sum(entry.solved for entry in entries),
    )


# -- as text -----------------------------------------------------------------------------


def as_text(figures: Figures, lessons: Sequence[Lesson]) -> str:
    """Two tables for a terminal, and a line for each file that is no report."""
    if not figures.rows:
        return "\n".join(["Nobody has joined yet.", *figures.problems])
    names = [row.seat for row in figures.rows]
    seats = [("seat", "lesson", "passed", "last change", "")]
    for row in figures.rows:
        # Two seats of one name may be two people, or one who calls themselves like another.
        name = f"{row.seat} (user {row.uid})" if names.count(row.seat) > 1 else row.seat
        where = "-" if row.lesson is None else f"{row.lesson:02}"
        stuck = f"stuck? {row.stuck}" if row.stuck else ""
        seats.append((name, where, f"{row.passed} of {row.of}", f"{row.minutes} min", stuck))
    parts = [_table(seats, right=(3,))]
    for lesson in lessons:
        of_it = [each for each in figures.checkpoints if each.lesson == lesson.number]
        if of_it:
            heads = (f"{lesson.number:02}", "seats", "passed", "minutes", "hints", "solutions")
            parts.append(_table([heads, *map(_cells, of_it)], right=(1, 2, 3, 4, 5)))
    return "\n\n".join([*parts, *(["\n".join(figures.problems)] if figures.problems else [])])


def _cells(each: Checkpoint) -> tuple[str, ...]:
    return (
        each.name,
        str(each.seats),
        f"{each.rate:.0%}",
        "-" if each.minutes is None else f"{each.minutes:.1f}",
        str(each.hints),
        str(each.solutions),
    )


def _table(rows: Sequence[Sequence[str]], right: tuple[int, ...]) -> str:
    """Columns as wide as they must be; ``right``: those of figures."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if number in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


# -- to keep -----------------------------------------------------------------------------


def as_csv(reports: Sequence[tuple[int, Report]], lessons: Sequence[Lesson]) -> str:
    """One line for each seat and each checkpoint that it has looked at."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(
        ("seat", "user", "checkpoint", "looks", "hints", "solution", "passed", "minutes")
    )
    for uid, report in reports:
        for lesson in lessons:
            for exercise in lesson.exercises:
                entry = report.progress.of(lesson.number, exercise.name)
                seconds = report.progress.seconds(lesson.number, exercise.name)
                minutes = "" if seconds is None else f"{seconds / 60:.1f}"
                if entry.attempts or entry.hints or entry.solved:
                    name = f"{lesson.number:02}/{exercise.name}"
                    told = (entry.attempts, entry.hints, int(entry.solved), int(entry.passed))
                    lines.writerow((_cell(report.seat), uid, name, *told, minutes))
    return file.getvalue()


def _cell(text: str) -> str:
    """A stranger's text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
