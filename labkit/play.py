"""Run a shell script as the learner would: in the lab's environment, output as it comes.

The script goes to the shell through a pipe and not as an argument: what somebody typed
(a password, perhaps) must not be readable in the machine's list of processes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.lab import Lab


@dataclass(frozen=True)
class Played:
    """How a script ended: its exit code, and all it printed (may hold what a learner shows)."""

    code: int
    output: str

    def __repr__(self) -> str:
        return f"Played(code={self.code}, {len(self.output)} characters)"


def environment(lab: Lab) -> dict[str, str]:
    """This process's environment with the lab's own variables in it."""
    return {**os.environ, **{each.name: each.read() for each in lab.variables()}}


def play(
    script: str,
    env: Mapping[str, str],
    *,
    strict: bool = False,
    on_line: Callable[[str], None] = lambda _: None,
) -> Played:
    """Run ``script`` with bash (sh where there is none), to its end.

    ``strict`` ends it at the first command that fails.  Both output streams go to
    ``on_line``, a line at a time.  An interrupt ends the script too and is raised on.
    """
    shell = shutil.which("bash", path=env.get("PATH")) or "/bin/sh"
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [shell, *(["-e"] if strict else []), f"/dev/fd/{reading}"],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[reading],
            start_new_session=True,
        )
    finally:
        os.close(reading)
    with process:
        with os.fdopen(writing, "w") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(script + "\n")
        lines: list[str] = []
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for just above
            for line in process.stdout:
                lines.append(line)
                on_line(line.rstrip("\n"))
            code = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return Played(code, "".join(lines))


def must_play(script: str, env: Mapping[str, str], what: str) -> Played:
    """Play a script of the course's own; raises LabError with its last lines if it fails."""
    played = play(script, env, strict=True)
    if played.code:
        raise LabError(
            f"{what} did not work",
            seen="; ".join(played.output.strip().splitlines()[-3:]) or f"exit code {played.code}",
            todo="Start the lesson over (`labkit lesson N`), which mends the lab, and try again.",
        )
    return played
