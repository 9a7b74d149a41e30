"""The learner's end: which class a lab's learner sits in, and the report that follows.

``join`` remembers the class and the seat (0600, beside the progress), and from then on each
change of the progress is reported, by whichever process makes it: ``book`` is the progress
with that.  A class must never disturb its lessons, so a report that cannot be written is
left out and nobody is told; the next one may go, and ``labkit join`` says how it stands.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from labkit import position
from labkit.classroom import box
from labkit.classroom.report import NAME_LENGTH, Report, is_name
from labkit.errors import LabError, UsageError
from labkit.paths import LabPaths, write_private
from labkit.progress import Book, Progress


@dataclass(frozen=True)
class Seat:
    """Where somebody sits.  ``file`` is the report's name, which others must not know."""

    name: str
    folder: Path
    file: str

    def __repr__(self) -> str:
        return f"<seat {self.name} in {self.folder}>"


def book(paths: LabPaths) -> Book:
    """The learner's progress in this lab; each change of it is reported, if somebody listens."""
    return Book(paths.progress, partial(_tell, paths))


def read(paths: LabPaths) -> Seat | None:
    """The seat that this lab's learner has taken, if any."""
    try:
        found = json.loads(paths.seat.read_text())
        return Seat(str(found["name"]), Path(found["folder"]), str(found["file"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def join(paths: LabPaths, folder: Path, name: str) -> Seat:
    """Take a seat and report at once; another class is left, in the same one only the name
    changes.

    Raises UsageError for a name or a folder that cannot be, LabError when the report or the
    note of it cannot be written.
    """
    if not is_name(name):
        raise UsageError(
            f"A seat's name is 1 to {NAME_LENGTH} characters that can be shown",
            seen=ascii(name[:NAME_LENGTH]),
            todo="Try --seat with your first name.",
        )
    folder = folder.absolute()
    box.check(folder)
    kept = Book(paths.progress)
    with kept.locked():
        before = read(paths)
        stays = before is not None and before.folder == folder
        seat = Seat(name, folder, before.file if before and stays else box.new_name())
        report(paths, seat, kept.read())
        try:
            write_private(paths.seat, json.dumps({**asdict(seat), "folder": str(folder)}))
        except OSError as error:
            with contextlib.suppress(OSError):
                box.take(folder, seat.file)
            raise LabError(
                "Your seat cannot be remembered",
                seen=f"{paths.seat}: {error.strerror}",
                todo="Make room, or set LABKIT_STATE to a folder of yours.",
            ) from error
        if before and not stays:
            with contextlib.suppress(OSError):
                box.take(before.folder, before.file)
    return seat


def leave(paths: LabPaths) -> Seat | None:
    """Report no more and take the report away; the seat that was left.  Safe to repeat.

    Raises LabError when the report cannot be removed; nothing is reported any more even so.
    """
    with Book(paths.progress).locked():
        seat = read(paths)
        paths.seat.unlink(missing_ok=True)
        if seat is not None:
            try:
                box.take(seat.folder, seat.file)
            except OSError as error:
                raise LabError(
                    "You have left the class, and your last report is still there",
                    seen=f"{seat.folder}: {error.strerror}",
                    todo="Your teacher can remove it.",
                ) from error
    return seat


def report(paths: LabPaths, seat: Seat, progress: Progress) -> None:
    """Write the report now.  Raises LabError when it cannot be."""
    try:
        _put(paths, seat, progress)
    except OSError as error:
        raise LabError(
            f"Your report cannot be written to {seat.folder}",
            seen=error.strerror or str(error),
            todo="Ask your teacher whether the class is still open. Your lessons do not need it.",
        ) from error


def _put(paths: LabPaths, seat: Seat, progress: Progress) -> None:
    lesson = position.read(paths.position).lesson
    box.put(seat.folder, seat.file, Report(seat.name, lesson, time.time(), progress))


def _tell(paths: LabPaths, progress: Progress) -> None:
    seat = read(paths)
    if seat is not None:
        with contextlib.suppress(OSError, ValueError):
            _put(paths, seat, progress)
