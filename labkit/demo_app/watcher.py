"""When to read a file again: by looking at it a few dozen times a second.

A Secret volume changes by a symbolic link ``..data`` being renamed onto another folder, so
``/secrets/credentials`` names a new file while the old one never changed.  Looking at what
the *path* leads to sees that, and equally a file that was replaced, rewritten or only now
mounted, on every operating system and file system.  Notification services (inotify) would
save the looking, but go silent when their folder is replaced or was not there at first.

Decides only *that* a file should be read; reading and judging it belongs to the store.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

INTERVAL = 0.03  # seconds between looks; a change is to be seen within 0.05

# A file written twice within one tick of the file system's clock can look the same after
# the second write.  So a file this fresh (seconds) is read again until it no longer is.
_FRESH = 0.06

_Signature = tuple[int, int, int, int, int] | int


class Watch(Protocol):
    """Something that can tell whether a file deserves to be read again."""

    def changed(self) -> bool:
        """Whether the file may have changed since the last call; the first call says yes."""
        ...

    @property
    def active(self) -> bool:
        """False when no later change can be noticed any more."""
        ...


def _signature(path: Path) -> _Signature:
    """What distinguishes the file that ``path`` leads to now, or why there is none."""
    try:
        status = path.stat()
    except OSError as error:
        number = error.errno or 0
        return number if path.parent.is_dir() else -number
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _is_fresh(signature: _Signature) -> bool:
    return not isinstance(signature, int) and abs(time.time() - signature[4] / 1e9) < _FRESH


@dataclass
class FolderWatch:
    """Looks at what the path leads to, each time anew: sees every change."""

    path: Path
    _seen: _Signature | None = None
    active: bool = True

    def changed(self) -> bool:
        now = _signature(self.path)
        if now == self._seen and not _is_fresh(now):
            return False
        self._seen = now
        return True


@dataclass
class FileWatch:
    """Follows the one file that the path led to at first, as many programs do by mistake.

    It is how an inotify watch on a mounted Secret's file behaves: the first swap removes the
    watched file, which is noticed once; after that nothing is watched.
    """

    path: Path
    active: bool = True
    _pinned: Path | None = None
    _seen: _Signature | None = None

    def changed(self) -> bool:
        if not self.active:
            return False
        if self._pinned is None:
            real = self.path.resolve()
            now = _signature(real)
            if not isinstance(now, int):
                self._pinned = real
        else:
            now = _signature(self._pinned)
            self.active = _same_file(now, self._seen)
        if now == self._seen and not _is_fresh(now):
            return False
        self._seen = now
        return True


def _same_file(now: _Signature, before: _Signature | None) -> bool:
    if isinstance(now, int) or before is None or isinstance(before, int):
        return False
    return now[:2] == before[:2]  # device and inode


@dataclass
class NoWatch:
    """Reads once, at the start, and never looks again."""

    path: Path
    active: bool = False
    _done: bool = False

    def changed(self) -> bool:
        if self._done:
            return False
        self._done = True
        return True


def watch(path: Path, mode: str) -> Watch:
    """The watch for a WATCH_MODE: ``folder``, ``file`` or ``off``."""
    if mode == "file":
        return FileWatch(path)
    return NoWatch(path) if mode == "off" else FolderWatch(path)
