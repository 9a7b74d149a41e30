"""The record of a running lab as its supervisor keeps it, and the news of its start.

Many small changes (a program restarted, a step begun) become few writes of the whole
file.  The same steps go, line by line, to the command that waits for the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import replace
from typing import Any

from labkit import record
from labkit.ledger import Ledger
from labkit.paths import LabPaths
from labkit.record import Program, Record

log = logging.getLogger(__name__)

_GATHER = 0.05  # changes within this time (seconds) are written together


class Chronicle:
    """The record as it changes, and the news of a start for the command that awaits it.

    ``report`` is a socket; nobody need listen at its other end.  Nothing is written when
    the lab's folder was removed (``ledger`` tells): another lab may have its place by then.
    """

    def __init__(self, paths: LabPaths, report: int, ledger: Ledger) -> None:
        self._path = paths.record
        self._ledger = ledger
        self._report = report
        begun = record.read(self._path)
        self.record = begun or Record(name=paths.name, phase="starting")
        self._pending: asyncio.TimerHandle | None = None

    def change(self, **changes: Any) -> None:
        """Change the record soon, with other changes of the same moment."""
        self.record = replace(self.record, **changes)
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(_GATHER, self._write_patiently)

    def write(self, **changes: Any) -> None:
        """Change the record now.  Raises OSError when it cannot be written."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self.record = replace(self.record, **changes)
        self._save()

    def _save(self) -> None:
        if self._ledger.is_in_place:
            self.record.write(self._path)

    def _write_patiently(self) -> None:
        self._pending = None
        try:
            self._save()
        except OSError as error:  # a full disk, say: the lab runs on, and the next may succeed
            log.warning("the record was not written: %s", error)

    def step(self, detail: str) -> None:
        """Say what is being done now."""
        log.info("%s", detail)
        self.change(detail=detail)
        self.tell({"detail": detail})

    def program(self, status: Program) -> None:
        """A program of the control plane changed."""
        level = logging.WARNING if status.detail else logging.INFO
        log.log(level, "%s is %s %s", status.name, status.state, status.detail)
        found = {program.name: program for program in self.record.programs}
        found[status.name] = status
        self.change(programs=tuple(found.values()))

    def tell(self, news: dict[str, Any]) -> None:
        """Send one line to the command that started this lab."""
        if self._report >= 0:
            with contextlib.suppress(OSError):
                os.write(self._report, json.dumps(news).encode() + b"\n")

    def stop_telling(self, news: dict[str, Any]) -> None:
        """Send the last line."""
        self.tell(news)
        if self._report >= 0:
            os.close(self._report)
            self._report = -1
