"""The drop box: a folder into which everybody may put a report and in which nobody may look.

Its mode is 3733.  Others may enter it and make files, and not list it; by the sticky bit
nobody removes or replaces a file of somebody else's; by the setgid bit a new file has the
folder's group, which is the teacher's, so that mode 0640 lets the teacher read it.  A
report's name holds its owner's uid and a random token that nobody else knows.

All that lies in it is strangers' work.  So a file is opened without following a link or
waiting for a pipe, and must be an ordinary one of the user whom its name tells; what is
not becomes a line of words.  What a report says is ``report``'s business.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from labkit.classroom import report
from labkit.classroom.report import Report
from labkit.errors import LabError, UsageError

MODE = 0o3733
REPORT_MODE = 0o640

_MARKER = ".labkit-class.json"
_NAME = re.compile(r"seat-(\d{1,10})-[0-9a-f]{32}\.json", re.ASCII)
_FILES = 1000
"""More files than that are not looked at: somebody is filling the box."""
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Contents:
    """What a teacher found: each report with its owner's uid, and a line for each bad file."""

    reports: tuple[tuple[int, Report], ...]
    problems: tuple[str, ...] = ()


# -- the teacher's end -------------------------------------------------------------------


def open_box(folder: Path) -> Path:
    """Make the box; a no-op where it is there already and ours.  Returns its absolute path.

    Raises UsageError when something else is there, or the folder cannot be made.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir() or folder.is_symlink():
            raise UsageError(f"{folder} is no folder", todo="Name a new one.") from None
        if not is_box(folder) and any(_listed(folder)):
            raise UsageError(
                f"{folder} holds something else", todo="Name a new folder; it is made for you."
            ) from None
        if folder.stat().st_uid != os.geteuid():
            raise UsageError(f"{folder} is another user's", todo="Name a new folder.") from None
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made",
            seen=error.strerror or str(error),
            todo="Name a folder where you may write and others may enter, such as /srv/class.",
        ) from error
    if not is_box(folder):
        # Before others may enter: nobody can have been faster.
        handle = os.open(folder / _MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o644)
            json.dump({"version": 1, "opened_at": int(time.time())}, file)
    folder.chmod(MODE)
    if stat.S_IMODE(folder.stat().st_mode) != MODE:
        raise UsageError(
            f"{folder} does not keep the mode of a drop box",
            seen=f"{stat.S_IMODE(folder.stat().st_mode):o}, not {MODE:o}",
            todo="Name a folder on another file system, or in a folder of your own group.",
        )
    return folder


def closed_on_the_way(folder: Path) -> Path | None:
    """The outermost folder on the way to the box that others may not enter, if any."""
    for parent in reversed(folder.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def is_box(folder: Path) -> bool:
    """Whether a folder is a drop box: its owner has put the marker there."""
    try:
        marker = os.lstat(folder / _MARKER)
        place = folder.stat()
    except OSError:
        return False
    return stat.S_ISREG(marker.st_mode) and marker.st_uid == place.st_uid


def check(folder: Path) -> None:
    """Raise UsageError unless the folder is a drop box."""
    if not is_box(folder):
        raise UsageError(
            f"{folder} is no class's drop box",
            todo="`labkit class open FOLDER` makes one; the teacher says where it is.",
        )


def read(folder: Path) -> Contents:
    """All reports, by name; raises UsageError when it is no box or may not be listed."""
    check(folder)
    reports: list[tuple[int, Report]] = []
    problems: list[str] = []
    names = _listed(folder)
    if len(names) > _FILES:
        problems.append(f"Only {_FILES} of {len(names)} files were looked at.")
    for name in sorted(names)[:_FILES]:
        if name.startswith("."):  # the marker, and a report while it is written
            continue
        try:
            reports.append(_read_one(folder, name))
        except FileNotFoundError:  # its seat has left at this moment
            continue
        except ValueError as error:
            problems.append(f"seat file {_shown(name)} cannot be read: {error}")
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else "the system refuses"
            problems.append(f"seat file {_shown(name)} cannot be read: {words}")
    reports.sort(key=lambda each: (each[1].seat.casefold(), each[0]))
    return Contents(tuple(reports), tuple(problems))


def _read_one(folder: Path, name: str) -> tuple[int, Report]:
    """Raises OSError, and ValueError with what is wrong."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError("its name is none of a report")
    # Looked at before it is opened: to open a device may do something.
    _require_ordinary(os.lstat(folder / name))
    handle = os.open(folder / name, _READING)
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(handle)
        _require_ordinary(info)
        if info.st_uid != int(match[1]):
            raise ValueError("it belongs to another user than its name says")
        return info.st_uid, report.read(file.read(report.LIMIT + 1))


def _require_ordinary(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise ValueError("it is no ordinary file")
    if info.st_nlink > 1:  # 0: it is being replaced
        raise ValueError("it has another name elsewhere")


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError as error:
        raise UsageError(
            f"{folder} may not be looked into",
            seen=error.strerror or str(error),
            todo="Only whoever has opened a class may.",
        ) from error


def _shown(name: str) -> str:
    """A stranger's file name, in characters that only show."""
    shown = name.encode("ascii", "backslashreplace").decode()
    shown = "".join(each if each.isprintable() else "?" for each in shown)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def remove(folder: Path) -> None:
    """Take the box away with all that is in it; only a box that is ours.

    Raises UsageError for anything else, and LabError when something in it does not go:
    others may have made folders there, which are theirs.
    """
    check(folder)
    if folder.stat().st_uid != os.geteuid() and os.geteuid() != 0:
        raise UsageError(f"The class {folder} is another user's", todo="Its teacher may close it.")
    folder.chmod(0o700)  # from now on nothing new
    left: list[str] = []
    for name in sorted(_listed(folder), key=lambda name: name == _MARKER):
        path = folder / name
        try:
            if stat.S_ISDIR(path.lstat().st_mode):
                path.rmdir()
            elif name != _MARKER or not left:  # it goes last: until then this is a box
                path.unlink()
        except OSError:
            left.append(_shown(name))
    if left:
        raise LabError(
            f"The class {folder} is closed, and its folder is still there",
            seen=f"not removed: {', '.join(left[:5])}",
            todo="Somebody has made folders in it; the machine's administrator can remove them.",
        )
    folder.rmdir()


# -- the learner's end -------------------------------------------------------------------


def new_name() -> str:
    """The name of a new report of this user."""
    return f"seat-{os.geteuid()}-{secrets.token_hex(16)}.json"


def put(folder: Path, name: str, written: Report) -> None:
    """Write or replace this user's report, all or nothing.  Raises OSError."""
    # The name is as secret as the report's own, and one writer at a time is the caller's care.
    aside = folder / f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()  # of one that was killed
    handle = os.open(aside, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(report.write(written))
            os.fchmod(handle, REPORT_MODE)
        aside.replace(folder / name)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def take(folder: Path, name: str) -> None:
    """Remove this user's report; safe to repeat.  Raises OSError when it does not go."""
    for path in (folder / f".{name}.new", folder / name):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
