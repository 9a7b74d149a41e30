"""What a learner has passed, kept in one small file that outlives kernels and labs.

No account and no server: a JSON file (0600) beside the lab's folder.  Every change is
read, made and written under a lock, so two browsers on one lab lose nothing.  It holds
names, counts and times: never what somebody typed, never a value.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit.errors import LabError, UsageError
from labkit.paths import make_private_dir, write_private

_VERSION = 1
_BEGINS_KEPT = 20
"""Of one lesson: who begins it over more often than that forgets the first times."""


@dataclass(frozen=True)
class Entry:
    """One checkpoint's story.

    ``attempts`` are checks until it passed, ``hints`` how many were shown, ``solved``
    whether the solution was played; ``begun_at`` and ``passed_at`` are unix seconds.
    """

    attempts: int = 0
    hints: int = 0
    solved: bool = False
    begun_at: float | None = None
    passed_at: float | None = None

    @property
    def passed(self) -> bool:
        return self.passed_at is not None


@dataclass(frozen=True)
class Progress:
    """All checkpoints that were ever looked at, by ``NN/exercise``, and the quizzes.

    ``quizzes`` says of each question that was answered, by ``NN/question`` (from 1),
    whether the first answer was right; ``begun`` when each lesson was begun, by ``NN``
    (unix seconds, oldest first).
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    quizzes: Mapping[str, bool] = field(default_factory=dict)
    begun: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def of(self, lesson: int, exercise: str) -> Entry:
        """A checkpoint's entry; an empty one when it was never looked at."""
        return self.entries.get(key(lesson, exercise), Entry())

    def seconds(self, lesson: int, exercise: str) -> float | None:
        """How long a passed checkpoint took; None when it is not passed, or nobody can know.

        It counts from the latest of what was before: the lesson was begun, or another
        checkpoint of it passed.  ``begun_at`` would not do: it is the first look, and whoever
        passes at that took no time.
        """
        passed_at = self.of(lesson, exercise).passed_at
        if passed_at is None:
            return None
        start, own = key(lesson, ""), key(lesson, exercise)
        passings = [
            entry.passed_at
            for name, entry in self.entries.items()
            if name.startswith(start) and name != own and entry.passed_at is not None
        ]
        before = [at for at in (*self.begun.get(f"{lesson:02}", ()), *passings) if at <= passed_at]
        return passed_at - max(before) if before else None

    def quiz(self, lesson: int) -> dict[int, bool]:
        """The questions of a lesson's quiz that were answered: right at the first try?"""
        start = key(lesson, "")
        return {
            int(name.removeprefix(start)): right
            for name, right in self.quizzes.items()
            if name.startswith(start)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is kept and exported."""
        return {
            "version": _VERSION,
            "checkpoints": {name: asdict(entry) for name, entry in sorted(self.entries.items())},
            "quizzes": dict(sorted(self.quizzes.items())),
            "begun": {name: list(times) for name, times in sorted(self.begun.items())},
        }


def key(lesson: int, exercise: str | int) -> str:
    """``NN/exercise``, and ``NN/question`` in a quiz."""
    return f"{lesson:02}/{exercise}"


class Book:
    """The file itself.  Safe to use from several processes.

    ``told`` gets what is kept after each change; it must not raise.
    """

    def __init__(self, file: Path, told: Callable[[Progress], None] = lambda _: None) -> None:
        self.file = file
        self._told = told

    def read(self) -> Progress:
        """What is kept; nothing when there is no file.

        A file that cannot be understood is put aside (``.broken``) and not overwritten.
        Raises LabError when it was written by a newer labkit.
        """
        try:
            text = self.file.read_text()
        except FileNotFoundError:
            return Progress()
        except (OSError, UnicodeDecodeError) as error:
            raise LabError("Your progress cannot be read", seen=f"{self.file}: {error}") from error
        try:
            return parse(text)
        except ValueError:
            self.file.replace(self.file.with_name(self.file.name + ".broken"))
            return Progress()

    def begun(self, lesson: int) -> None:
        """Note that a lesson was begun, now; over again counts, too."""
        name = f"{lesson:02}"
        with self.locked():
            before = self.read()
            times = (*before.begun.get(name, ()), time.time())[-_BEGINS_KEPT:]
            self._write(replace(before, begun={**before.begun, name: times}))

    def checked(self, lesson: int, exercise: str, *, passed: bool) -> Entry:
        """Note one look at a checkpoint; once passed, it stays so."""

        def change(entry: Entry) -> Entry:
            if entry.passed:
                return entry
            now = time.time()
            return replace(
                entry,
                attempts=entry.attempts + 1,
                begun_at=entry.begun_at or now,
                passed_at=now if passed else None,
            )

        return self._change(lesson, exercise, change)

    def hinted(self, lesson: int, exercise: str, step: int) -> Entry:
        """Note that hints up to number ``step`` (from 1) were shown."""
        return self._change(
            lesson, exercise, lambda entry: replace(entry, hints=max(entry.hints, step))
        )

    def solved(self, lesson: int, exercise: str) -> Entry:
        """Note that the solution was played for the learner."""
        return self._change(
            lesson,
            exercise,
            lambda entry: entry if entry.passed else replace(entry, solved=True),
        )

    def answered(self, lesson: int, question: int, *, right: bool) -> Progress:
        """Note an answer of a quiz; the first one to a question (from 1) counts."""
        with self.locked():
            before = self.read()
            after = replace(before, quizzes={key(lesson, question): right, **before.quizzes})
            self._write(after)
        return after

    def clear(self) -> None:
        """Forget everything; safe to repeat."""
        with self.locked():
            self.file.unlink(missing_ok=True)
            self._told(Progress())

    def _change(self, lesson: int, exercise: str, change: Callable[[Entry], Entry]) -> Entry:
        with self.locked():
            before = self.read()
            entry = change(before.of(lesson, exercise))
            self._write(replace(before, entries={**before.entries, key(lesson, exercise): entry}))
        return entry

    def _write(self, after: Progress) -> None:
        write_private(self.file, json.dumps(after.to_json(), indent=1))
        self._told(after)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else change it for the length of a block."""
        # A file of its own: the other one is replaced at each write.
        make_private_dir(self.file.parent)
        name = self.file.with_name(self.file.name + ".lock")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def parse(text: str) -> Progress:
    """Progress from its JSON text.

    Raises ValueError when it is not that, and LabError when a newer labkit wrote it.
    """
    try:
        found = json.loads(text)
        version = found["version"]
        if not isinstance(version, int):
            raise TypeError
        entries = {str(name): Entry(**entry) for name, entry in found["checkpoints"].items()}
        # Additions that older files lack and an older labkit leaves unread: still version 1.
        quizzes = {
            key(*map(int, name.split("/"))): bool(right)
            for name, right in found.get("quizzes", {}).items()
        }
        begun = {
            f"{int(name):02}": tuple(map(float, times))
            for name, times in found.get("begun", {}).items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a progress file: {error}") from error
    if version > _VERSION:
        raise LabError(
            "Your progress was written by a newer labkit",
            seen=f"version {version}; this one knows {_VERSION}",
            todo="Update labkit, or move the file away.",
        )
    return Progress(entries, quizzes, begun)


def load(file: Path) -> Progress:
    """An exported progress file; raises UsageError when it is none."""
    try:
        return parse(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} holds no progress",
            seen=str(error)[:200],
            todo="Give a file that `labkit progress --export` wrote.",
        ) from error
