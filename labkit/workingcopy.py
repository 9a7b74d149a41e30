"""A learner's own copy of the course: made once, brought up to date, never overwritten.

The notebooks of an installed kit belong to its environment and go with it.  What a learner
works on is a copy in a folder of their choice, with a note (``.labkit/course.json``) of what
each file was when it came.  So a file that nobody has touched can be replaced by its next
version, and beside one that somebody has worked on the new one is laid, by another name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import LabError, UsageError
from labkit.paths import folder_error, write_private

NOTE = Path(".labkit") / "course.json"
_NEW = ".new"


def source() -> Path:
    """The notebooks that this kit brings: in an installed one, and in a checkout."""
    package = Path(__file__).parent
    inside = package / "_course" / "notebooks"
    return inside if inside.is_dir() else package.parent / "notebooks"


@dataclass
class Changes:
    """What was done, by file name: ``made``, ``updated`` (they were as they came), ``beside``
    (the new version lies beside the learner's, under the second name) and ``news`` (a new
    version is there, and nothing was done)."""

    made: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    news: list[str] = field(default_factory=list)


def is_copy(folder: Path) -> bool:
    """Whether ``folder`` holds a copy of the course."""
    return (folder / NOTE).is_file()


def make(folder: Path, *, origin: Path | None = None) -> Changes:
    """Put the course into ``folder``, or what is missing of it there; nothing else changes.

    Raises UsageError for a folder that cannot be one, LabError when it cannot be written.
    """
    return _bring(folder, origin or source(), replacing=False)


def update(folder: Path, *, origin: Path | None = None) -> Changes:
    """Bring the present course into ``folder``, which must hold a copy of it.

    Raises as ``make`` does.
    """
    if not is_copy(folder):
        raise UsageError(
            "There is no copy of the course in this folder",
            seen=str(folder.absolute()),
            todo="Name the folder that `labkit lab FOLDER` made, or make one with it.",
        )
    return _bring(folder, origin or source(), replacing=True)


def _bring(folder: Path, origin: Path, *, replacing: bool) -> Changes:
    if folder.exists() and not folder.is_dir():
        raise UsageError("The course needs a folder", seen=f"{folder} is a file")
    changes = Changes()
    try:
        came = _read_note(folder)
        (folder / NOTE).parent.mkdir(parents=True, exist_ok=True)
        for file in sorted(origin.glob("*.ipynb")):
            _bring_one(file, folder, came, changes, replacing=replacing)
            # After each: an interrupted copy knows what it brought.
            write_private(folder / NOTE, json.dumps(came, indent=1))
    except OSError as error:
        raise folder_error(error, folder) from error
    return changes


def _bring_one(
    file: Path, folder: Path, came: dict[str, str], changes: Changes, *, replacing: bool
) -> None:
    name, present = file.name, _digest(file)
    target = folder / name
    if not target.exists():
        _copy(file, target)
        came[name] = present
        changes.made.append(name)
    elif came.get(name) == present or _digest(target) == present:
        came[name] = present  # no news
    elif not replacing:
        changes.news.append(name)
    elif _digest(target) == came.get(name):
        _copy(file, target)
        came[name] = present
        changes.updated.append(name)
    else:
        beside = _beside(target, came)
        _copy(file, beside)
        came[name] = came[beside.name] = present
        changes.beside.append((name, beside.name))


def _beside(target: Path, came: dict[str, str]) -> Path:
    """A name beside the learner's file, under which nothing of theirs is."""
    number = 1
    while True:
        suffix = _NEW if number == 1 else f"{_NEW}{number}"
        found = target.with_name(f"{target.stem}{suffix}{target.suffix}")
        if not found.exists() or _digest(found) == came.get(found.name):
            return found
        number += 1


def _copy(file: Path, target: Path) -> None:
    """All or nothing, and the learner's to write, whatever an installer made of the original."""
    aside = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(file, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_note(folder: Path) -> dict[str, str]:
    try:
        note = json.loads((folder / NOTE).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LabError(
            "The note of what came with the course cannot be read",
            seen=f"{folder / NOTE}: {error}",
            todo="Remove it: your notebooks stay, and new versions are laid beside them.",
        ) from error
    return {str(name): str(digest) for name, digest in note.items()}
