"""A lab that ends with the process for whose sake it was brought up, however that ends.

A lab outlives the command that started it, which is right for people and wrong for a test
run: a run that is killed would leave a whole cluster behind.  So a run holds one end of a
pipe, and this process, which does nothing else, waits at the other end: when the run lets go
or is gone, it takes down whatever lab is in the run's state folder, and removes that.

It is started with ``held`` (or ``temporary``, which makes the folder, too), before the lab is,
and leaves bringing the lab up to the caller.
It is no part of the lab: it may be killed, and then nothing is different from a lab that
somebody has started by hand.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labkit.errors import LabError

_PATIENCE = 60.0  # seconds that taking a lab down may need on a busy machine


@contextlib.contextmanager
def temporary(prefix: str = "lk") -> Iterator[Path]:
    """A new state folder, ``held`` until the block or this process ends; raises as that does.

    Its path is short, since unix sockets live below it.  To name it in LABKIT_STATE is the
    caller's business.
    """
    state = Path(tempfile.mkdtemp(prefix=prefix))
    with held(state):
        yield state


@contextlib.contextmanager
def held(state: Path) -> Iterator[None]:
    """Until the block or this process ends, let labs live in the state folder ``state``.

    Afterwards they are down and ``state`` is gone, whatever else was in it.  Raises
    LabError when a lab cannot be taken down, unless the block has raised.
    """
    waiting = subprocess.Popen(
        # -P: a file called random.py in the user's folder is not the real one.
        [sys.executable, "-P", "-m", "labkit.lifeline", str(state)],
        env={**os.environ, "LABKIT_STATE": str(state)},
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the run, which then lets go
    )
    try:
        yield
    finally:
        problem = _let_go(waiting)
    if problem:
        raise LabError("The lab of this run could not be taken down", seen=problem)


def _let_go(waiting: subprocess.Popen[str]) -> str:
    """Have the lab taken down and wait for it; what went wrong, if anything did."""
    try:
        # A byte, since forked children of the run may hold the pipe open.
        _, said = waiting.communicate("\n", timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"not within {_PATIENCE:g} s"
    return said.strip() or f"exit code {waiting.returncode}" if waiting.returncode else ""


def main() -> int:
    """Wait for a byte or the end of standard input, then clear the folder; the exit code."""
    state = Path(sys.argv[1])  # LABKIT_STATE is the same
    sys.stdin.buffer.read(1)
    from labkit import launch, leftovers  # only now: until here this process is tiny

    try:
        for name in launch.names():
            launch.bring_down(name)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    leftovers.remove_folder(state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
