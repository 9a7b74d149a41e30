"""What one seat tells its teacher: which checkpoints, how often looked at, and when.

Nothing that somebody typed, chose or answered is in it: no value, no name of a thing, no
answer of a quiz, no path.  ``write`` picks each field by its name, so that what ``progress``
may keep one day does not travel by itself.

For whoever reads it, a report is a stranger's text: ``read`` takes what is in it one by one
and refuses the rest.  Where reports lie is ``box``'s.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from labkit.progress import Entry, Progress

LIMIT = 64 * 1024
"""Bytes; a report of the whole course has 4 KB."""
NAME_LENGTH = 40

_VERSION = 1
_CHECKPOINT = re.compile(r"\d\d/[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_LESSON = re.compile(r"\d\d", re.ASCII)
_MOST = 10**6  # looks, hints: more would only break a table
_LAST = 4e9  # unix seconds, the year 2096
_FIELDS = frozenset({"version", "seat", "lesson", "changed_at", "checkpoints", "begun"})
_ENTRY_FIELDS = frozenset({"attempts", "hints", "solved", "begun_at", "passed_at"})


@dataclass(frozen=True)
class Report:
    """One seat.

    ``lesson`` is the one that its lab is in (None: none), ``changed_at`` when the report was
    written (unix seconds), ``progress`` what is passed; its quizzes are always empty.
    """

    seat: str
    lesson: int | None
    changed_at: float
    progress: Progress


def is_name(text: str) -> bool:
    """Whether ``text`` can be a seat's name: 1 to 40 characters that all can be seen.

    That leaves out control characters, which would talk to the teacher's terminal, and those
    that change the direction of what follows.
    """
    return 0 < len(text) <= NAME_LENGTH and text.isprintable() and text == text.strip()


def write(report: Report) -> bytes:
    """A report as it lies in the box."""
    entries = {
        name: {
            "attempts": entry.attempts,
            "hints": entry.hints,
            "solved": entry.solved,
            "begun_at": entry.begun_at,
            "passed_at": entry.passed_at,
        }
        for name, entry in sorted(report.progress.entries.items())
    }
    content = {
        "version": _VERSION,
        "seat": report.seat,
        "lesson": report.lesson,
        "changed_at": report.changed_at,
        "checkpoints": entries,
        "begun": {name: list(times) for name, times in sorted(report.progress.begun.items())},
    }
    return json.dumps(content).encode()


def read(data: bytes) -> Report:
    """A report from a stranger's bytes.

    Raises ValueError, in a few words of ours (never with something of the stranger's in
    them), when it is not exactly a report.
    """
    if len(data) > LIMIT:
        raise ValueError(f"it has more than {LIMIT // 1024} KB")
    try:
        found = json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    content = _mapping(found, "it", _FIELDS)
    if content["version"] != _VERSION or type(content["version"]) is not int:
        raise ValueError("another version of labkit wrote it")
    seat = content["seat"]
    if not isinstance(seat, str) or not is_name(seat):
        raise ValueError(f"its seat's name is not 1 to {NAME_LENGTH} characters that can be shown")
    lesson = content["lesson"]
    if lesson is not None:
        lesson = _count(lesson, "its lesson", 99)
    checkpoints = _mapping(content["checkpoints"], "its checkpoints")
    begun = _mapping(content["begun"], "its lessons")
    if not all(_CHECKPOINT.fullmatch(name) for name in checkpoints):
        raise ValueError("a checkpoint has a name that none has")
    if not all(_LESSON.fullmatch(name) for name in begun):
        raise ValueError("a lesson has a number that none has")
    return Report(
        seat=seat,
        lesson=lesson,
        changed_at=_time(content["changed_at"]),
        progress=Progress(
            entries={name: _entry(value) for name, value in checkpoints.items()},
            begun={name: tuple(map(_time, _list(value))) for name, value in begun.items()},
        ),
    )


def _entry(value: object) -> Entry:
    found = _mapping(value, "a checkpoint", _ENTRY_FIELDS)
    if not isinstance(found["solved"], bool):
        raise ValueError("a checkpoint's solved is neither true nor false")
    return Entry(
        attempts=_count(found["attempts"], "a checkpoint's attempts", _MOST),
        hints=_count(found["hints"], "a checkpoint's hints", _MOST),
        solved=found["solved"],
        begun_at=None if found["begun_at"] is None else _time(found["begun_at"]),
        passed_at=None if found["passed_at"] is None else _time(found["passed_at"]),
    )


def _mapping(value: object, what: str, fields: frozenset[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or (fields is not None and value.keys() != fields):
        raise ValueError(f"{what} does not have the fields of a report")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("a lesson's times are no list")
    return value


def _count(value: object, what: str, most: int) -> int:
    # bool is an int to isinstance.
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{what} is no number from 0 to {most}")
    return value


def _time(value: object) -> float:
    # Compared as it came: an int may be too large for a float, and NaN is in no range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST:
        raise ValueError("a time in it is none")
    return float(value)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
