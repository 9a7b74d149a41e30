"""Labs of a bench's own: a temporary state folder, the command line, and taking it all away.

Every bench runs inside ``state()``, so a developer's labs are never touched, and every lab
that it starts is taken down when its block ends, or the bench is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from labkit import lab as labs
from labkit import lifeline
from labkit.errors import LabError, WaitTimeout
from labkit.lab import Lab

Say = Callable[[str], None]


@contextlib.contextmanager
def state() -> Iterator[Path]:
    """A state folder for this run, in this process and its children; removed at the end.

    All labs in it are taken down (see ``lifeline``).
    """
    before = os.environ.get("LABKIT_STATE")
    with lifeline.temporary("lkb") as folder:
        os.environ["LABKIT_STATE"] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ["LABKIT_STATE"]
            else:
                os.environ["LABKIT_STATE"] = before


def labkit(*words: str, limit: float = 300.0) -> str:
    """Run the command line as a user would; what it printed.

    Raises LabError with its own words when it fails or takes longer than ``limit`` seconds.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "labkit", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"labkit {' '.join(words)} took longer than {limit:g} s") from error
    if done.returncode != 0:
        raise LabError(
            f"labkit {' '.join(words)} exited with {done.returncode}",
            seen=(done.stderr.strip() or done.stdout.strip())[-600:],
        )
    return done.stdout


def timed(*words: str, limit: float = 300.0) -> float:
    """Seconds from the start of the command to its end.  Raises as ``labkit`` does."""
    began = time.monotonic()
    labkit(*words, limit=limit)
    return time.monotonic() - began


@contextlib.contextmanager
def running(name: str) -> Iterator[Lab]:
    """A lab that is up to the secret on the app's page, until the block ends."""
    labkit("up", "--name", name)
    try:
        yield labs.attach(name)
    finally:
        labkit("down", "--name", name)


def until(is_met: Callable[[], bool], *, what: str, limit: float, pause: float = 0.05) -> None:
    """Poll.  Raises WaitTimeout after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not is_met():
        if time.monotonic() > deadline:
            raise WaitTimeout(f"{what}: not within {limit:g} s")
        time.sleep(pause)


def unwind_on_sigterm() -> None:
    """Have SIGTERM end this program as Ctrl-C does: with every ``finally`` run."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
