"""Starting one lab's processes, and listening to them until the lab is ready.

The command holds one end of a socket, the guardian and the supervisor the other.  They
report on it, a JSON object a line: ``{"detail": …}`` for each step, then ``{"ready":
true}`` or ``{"error": {…}}``.  The command never writes: its end of file, by whatever
cause, tells the guardian to take down what is not ready.  The guardian's tells the command
that nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit import programs
from labkit.errors import ClusterError
from labkit.guardian import GRACE
from labkit.paths import LabPaths, cache_dir, state_root
from labkit.programs.catalogue import variable_of
from labkit.record import Problem

TO_CLEAR_UP = GRACE + 12.0
"""Seconds that a lab's end may take: the guardian's patience, then its killing."""


def start(
    paths: LabPaths, *, sync: str, lock: int, deadline: float, on_progress: Callable[[str], None]
) -> None:
    """Start the lab and wait until it is ready.

    ``lock`` is the descriptor of the lab's lock, which the new processes hold too until
    then.  ``deadline`` is a time of ``time.monotonic``.  Raises the lab's own LabError when
    its start fails and ClusterError when it takes too long.  Whatever is raised, an
    interrupt too, what was started has ended by then.
    """
    ours, theirs = socket.socketpair()
    news = _News(ours)
    with ours:
        try:
            with theirs:
                _spawn_guardian(paths, sync, theirs.fileno(), lock)
            while not news.is_ready:
                for line in news.wait(deadline):
                    on_progress(line)
        finally:
            if not news.is_ready:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_WR)  # tells the guardian to take all down
                news.drain(time.monotonic() + TO_CLEAR_UP)


def _spawn_guardian(paths: LabPaths, sync: str, report: int, lock: int) -> None:
    options = {"name": paths.name, "sync": sync, "report": report, "lock": lock}
    log = os.open(paths.logs / "guardian.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        guardian = subprocess.Popen(
            # -P: a file called random.py in the learner's folder is not the real one.
            [sys.executable, "-P", "-m", "labkit.guardian"]
            + [f"--{option}={value}" for option, value in options.items()],
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report, lock),
            start_new_session=True,
        )
    finally:
        os.close(log)
    guardian.wait()  # it goes on as a child of nobody


def _environment() -> dict[str, str]:
    """This process's environment, with paths that hold in any working folder."""
    env = dict(os.environ)
    for name in ("LABKIT_IMAGES", *map(variable_of, programs.CATALOGUE)):
        if env.get(name):
            env[name] = str(Path(env[name]).absolute())
    env["LABKIT_STATE"] = str(state_root().absolute())
    env["LABKIT_CACHE"] = str(cache_dir().absolute())
    return env


class _News:
    """What the guardian and the supervisor of a starting lab report, a JSON object a line."""

    def __init__(self, connection: socket.socket) -> None:
        self.is_ready = False
        self._connection = connection
        self._buffer = b""
        self._problem: Problem | None = None
        self._detail = "starting its guardian"

    def wait(self, deadline: float) -> list[str]:
        """The next lines of progress.

        Raises the lab's own LabError when its start failed and all has been cleared up,
        and ClusterError at ``deadline``.
        """
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._connection], [], [], left)[0]:
            raise ClusterError(
                "The lab was not ready in time",
                seen=f"still at: {self._detail}",
                todo="Try again on a machine that is less busy, or see `labkit logs`.",
            )
        lines, at_end = self._receive()
        if at_end and not self.is_ready:
            if self._problem is not None:
                raise self._problem.to_error()
            raise ClusterError(
                "The lab was taken down while it was starting",
                seen=f"it was at: {self._detail}",
                todo="Another `labkit down` or a kill did that; start it again.",
            )
        return lines

    def drain(self, deadline: float) -> None:
        """Read on until the other end is closed: all of the lab has ended then."""
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._connection], [], [], left)[0] or self._receive()[1]:
                return

    def _receive(self) -> tuple[list[str], bool]:
        """Lines of progress, and whether the other end has been closed."""
        try:
            chunk = self._connection.recv(65536)
        except ConnectionResetError:
            chunk = b""
        *whole, self._buffer = (self._buffer + chunk).split(b"\n")
        lines = []
        for line in whole:
            news: dict[str, Any] = json.loads(line)
            if "detail" in news:
                self._detail = news["detail"]
                lines.append(self._detail)
            if "error" in news and self._problem is None:
                self._problem = Problem(**news["error"])
            self.is_ready |= "ready" in news
        return lines, not chunk
