"""Write a volume's files so that a reader sees all of the old content or all of the new.

This is the kubelet's AtomicWriter.  It only knows paths, bytes and modes: what belongs
in a volume is ``volumes``' business, when to look again is the agent's.  It exists as a
module of its own because lesson after lesson rests on its one trick, the rename of
``..data``, and because applications (and Kubernetes' own tests) watch for exactly that.

Not safe for two writers of one folder at once: the caller takes care of that.

Source: ``pkg/volume/util/atomic_writer.go`` and ``pkg/volume/volume_linux.go`` of
Kubernetes 1.37.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import random
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import NodeError

DATA_DIR = "..data"
_NEW_DATA_DIR = "..data_tmp"
_MAX_NAME = 255
_MAX_PATH = 4096


@dataclass(frozen=True)
class FileEntry:
    """One file of a volume: its bytes (never shown in a repr) and permission bits.

    ``user`` owns the file where this process may give files away (it is root).
    """

    data: bytes = field(repr=False)
    mode: int = 0o644
    user: int | None = None


@dataclass(frozen=True)
class Swap:
    """A new version of a volume became visible.

    ``at`` is the moment of the rename in unix seconds, ``files`` the paths that the volume
    now holds, ``directory`` the name of the timestamped folder they are in.
    """

    at: float
    files: tuple[str, ...]
    directory: str


def write_payload(
    directory: Path, payload: Mapping[str, FileEntry], *, fs_group: int | None = None
) -> Swap | None:
    """Make the existing folder ``directory`` show exactly ``payload``.

    1.  Check every path of the payload.
    2.  Find the current timestamped folder by reading the link ``..data``.
    3.  Walk it for paths that the payload no longer has.
    4.  Compare contents (not modes); if nothing differs, skip to 10.
    5.  Make a new timestamped folder ``..YYYY_MM_DD_hh_mm_ss.<random>``.
    6.  Write the files into it.
    7.  Give them to ``fs_group``, if there is one.
    8.  Make the link ``..data_tmp`` to it.
    9.  Rename ``..data_tmp`` to ``..data``: the one moment at which readers change over.
    10. Make a link ``x -> ..data/x`` for each first path element that has none.
    11. Remove the links that lead to paths found in 3.
    12. Remove the old timestamped folder.

    Returns what happened at 9, or None when everything was up to date already.
    Unlike upstream, 8 first removes a ``..data_tmp`` that a killed writer left, instead
    of failing on it for ever after.  Raises NodeError with the kubelet's text for a bad path.
    """
    entries = {_checked(path): entry for path, entry in payload.items()}  # 1
    old = _read_link(directory / DATA_DIR)  # 2
    stale: set[str] = set()
    swap = None
    if old is not None:
        stale = _stale_paths(directory / old, entries)  # 3
    if old is None or stale or _differs(directory / old, entries):  # 4
        new = _make_timestamped(directory)  # 5
        try:
            _write_files(new, entries)  # 6
            if fs_group is not None:  # 7
                _give_to_group(directory, fs_group)
            with contextlib.suppress(FileNotFoundError):
                (directory / _NEW_DATA_DIR).unlink()
            (directory / _NEW_DATA_DIR).symlink_to(new.name)  # 8
            at = time.time()
            (directory / _NEW_DATA_DIR).rename(directory / DATA_DIR)  # 9
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        swap = Swap(at=at, files=tuple(sorted(entries)), directory=new.name)
    _link_first_elements(directory, entries)  # 10
    for path in stale:  # 11
        if "/" not in path:
            with contextlib.suppress(FileNotFoundError):
                (directory / path).unlink()
    if swap is not None and old is not None:  # 12
        shutil.rmtree(directory / old, ignore_errors=True)
    return swap


def _checked(path: str) -> str:
    """The cleaned path; NodeError in the kubelet's words if it may not be used."""
    elements = path.split("/")
    seen = ""
    if not path:
        seen = 'invalid path: must not be empty: ""'
    elif path.startswith("/"):
        seen = f"invalid path: must be relative path: {path}"
    elif len(path.encode()) > _MAX_PATH:
        seen = f"invalid path: must be less than or equal to {_MAX_PATH} characters"
    elif ".." in elements:
        seen = f"invalid path: must not contain '..': {path}"
    elif any(len(element.encode()) > _MAX_NAME for element in elements):
        seen = f"invalid path: filenames must be less than or equal to {_MAX_NAME} characters"
    elif elements[0].startswith(".."):
        seen = f"invalid path: must not start with '..': {path}"
    if seen:
        raise NodeError(
            "A file of a volume has a name that cannot be used",
            seen=seen,
            todo="Names that start with '..' belong to the node; choose another under items.",
        )
    return posixpath.normpath(path)


def _read_link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return None


def _stale_paths(old: Path, entries: Mapping[str, FileEntry]) -> set[str]:
    """Every file and folder below ``old`` that ``entries`` has no more."""
    kept = set(entries)
    for path in entries:
        parents = posixpath.dirname(path)
        while parents:
            kept.add(parents)
            parents = posixpath.dirname(parents)
    found = {str(path.relative_to(old)) for path in old.rglob("*")}
    return found - kept


def _differs(old: Path, entries: Mapping[str, FileEntry]) -> bool:
    for path, entry in entries.items():
        try:
            if (old / path).read_bytes() != entry.data:
                return True
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return True
    return False


def _make_timestamped(directory: Path) -> Path:
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime())
    while True:
        path = directory / f"{stamp}.{random.randrange(10**10)}"  # noqa: S311 - only unique
        try:
            path.mkdir()
        except FileExistsError:
            continue
        path.chmod(0o755)  # whatever the umask
        return path


def _write_files(directory: Path, entries: Mapping[str, FileEntry]) -> None:
    for name, entry in entries.items():
        path = directory / name
        for parent in reversed(path.relative_to(directory).parents[:-1]):
            with contextlib.suppress(FileExistsError):
                (directory / parent).mkdir()
                (directory / parent).chmod(0o755)
        # Opened 0600 and opened up last, so that no moment is more open than the end.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(entry.data)
            file.flush()
            os.fchmod(fd, entry.mode)
            if entry.user is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, entry.user, -1)


def _link_first_elements(directory: Path, entries: Mapping[str, FileEntry]) -> None:
    for name in {path.split("/", 1)[0] for path in entries}:
        with contextlib.suppress(FileExistsError):
            (directory / name).symlink_to(f"{DATA_DIR}/{name}")


def _give_to_group(directory: Path, group: int) -> None:
    """What ``fsGroup`` does to a read-only volume: group ownership, and group may read.

    Changing the group needs root (or membership); without it the bits alone are set,
    which is enough where the container runs as the very user that owns the files.
    """
    for path in (directory, *directory.rglob("*")):
        info = path.lstat()
        with contextlib.suppress(PermissionError):
            os.lchown(path, -1, group)
        if stat.S_ISLNK(info.st_mode):
            continue
        mask = 0o440 | (stat.S_ISGID | 0o110 if stat.S_ISDIR(info.st_mode) else 0)
        with contextlib.suppress(PermissionError):
            path.chmod(stat.S_IMODE(info.st_mode) | mask)
