"""Run ordinary git to its end, and say what it said when it fails.

Where, with which settings and identity, and what to do about a failure, the caller knows.
(``gitserver`` stands alone and has its own.)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from labkit.errors import LabError


def attempt(
    *words: str,
    folder: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = 60.0,
) -> subprocess.CompletedProcess[bytes]:
    """How ``git WORDS`` ended in ``folder``, whichever way it did.

    ``env`` None is this process's own environment, ``timeout`` is in seconds (None: as long as
    it takes).  Raises LabError when there is no git, and when it does not end in time.
    """
    place = () if folder is None else ("-C", str(folder))
    try:
        return subprocess.run(
            ["git", *place, *words],
            env=dict(os.environ if env is None else env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            "git is not on PATH",
            todo="Install git (your system's package, or https://git-scm.com), then try again.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"git {words[0]} did not end within {timeout:g} s") from error


def output(
    *words: str,
    folder: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    todo: str = "",
) -> bytes:
    """What ``git WORDS`` prints.  Raises LabError with its last line and ``todo`` when it fails."""
    done = attempt(*words, folder=folder, env=env)
    if done.returncode:
        said = text(done.stderr).strip().splitlines()
        raise LabError(
            f"git {words[0]} failed",
            seen=said[-1] if said else f"exit code {done.returncode}",
            todo=todo,
        )
    return done.stdout


def text(printed: bytes) -> str:
    """What git printed, as text; file names in it may be no UTF-8."""
    return printed.decode(errors="replace")
