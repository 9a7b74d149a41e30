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
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int, start_time: float, name: str) -> None:
        """Enter a process.  Raises OSError when the file cannot be written."""
        line = f"{pid} {start_time!r} {host.boot_id()} {name}\n".encode()
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def add_self(self, name: str) -> None:
        """Enter this process."""
        self.add(os.getpid(), host.process_start_time(os.getpid()) or 0.0, name)

    def living(self) -> list[tuple[int, float]]:
        """The entries that still run.  A torn last line is passed over."""
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except OSError:
            return []
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                pid, began, boot, _ = line.split(" ", 3)
                if boot == host.boot_id():
                    entries.append((int(pid), float(began)))
        return [entry for entry in dict.fromkeys(entries) if host.is_same_process(*entry)]
