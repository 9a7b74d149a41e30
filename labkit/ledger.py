"""The processes of one lab, written down as they are started.

With the ledger, whoever comes after a crash can tell which processes were the lab's own:
a pid alone proves nothing, since it may be another's by then.  What to do with those that
still run is left to the reader.  It is a module of its own because the guardian, which
must stay tiny, keeps one too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from labkit import host


class Ledger:
    """A file with a line for each process: its pid, its start time, the boot, its name.

    Lines are only ever added; a pid that was used again since is told apart by the
    start time and, as that counts from the boot, by the boot.

    Whoever has entered a process keeps the file open: should somebody remove it, and a new
    lab put its own in that place, the two are not taken for each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def is_in_place(self) -> bool:
        """Whether the file that was written to is still there: not so when it was removed.

        What stands at the lab's paths from then on belongs to nobody, or to another lab.
        """
        return self._fd is None or os.fstat(self._fd).st_nlink > 0

    def add(self, pid: int, start_time: float, name: str) -> None:
        """Enter a process.  Raises OSError when the file cannot be written."""
        line = f"{pid} {start_time!r} {host.boot_id()} {name}\n".encode()
        if self._fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        os.write(self._fd, line)

    def add_self(self, name: str) -> None:
        """Enter this process."""
        self.add(os.getpid(), host.process_start_time(os.getpid()) or 0.0, name)

    def living(self) -> list[tuple[int, float]]:
        """The entries that still run.  A torn last line is passed over."""
        try:
            lines = self._read().decode(errors="replace").splitlines()
        except OSError:
            return []
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                pid, began, boot, _ = line.split(" ", 3)
                if boot == host.boot_id():
                    entries.append((int(pid), float(began)))
        return [entry for entry in dict.fromkeys(entries) if host.is_same_process(*entry)]

    def _read(self) -> bytes:
        if self._fd is None:
            return self.path.read_bytes()
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0)
