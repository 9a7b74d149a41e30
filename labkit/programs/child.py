"""A build tool as a child: its lines as they come, and an end that leaves nothing.

Long-lived programs of a lab belong to ``labkit.process``; this is for tools that are
run to their end while one waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labkit import host

_GRACE = 3.0


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    on_line: Callable[[str], None],
) -> int:
    """Run ``argv`` to its end; ``on_line`` gets each line of both its streams.

    The child leads a session of its own, so Ctrl-C reaches only us; whatever ends the
    wait (an interrupt, an error in ``on_line``) ends the child with all it has started.
    Should this process be killed, the kernel ends the child where it can.  Returns the
    exit code, negative for a signal.
    """
    child = subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=host.die_with_parent,  # one system call; it takes no lock
    )
    assert child.stdout is not None  # noqa: S101 - for the type checker
    with child.stdout:
        try:
            for line in child.stdout:
                on_line(line.rstrip())
            return child.wait()
        except BaseException:
            _end(child)
            raise


def _end(child: subprocess.Popen[str]) -> None:
    """SIGTERM to the child's group, then SIGKILL to what is left of it."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
