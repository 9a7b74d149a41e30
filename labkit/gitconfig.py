"""What git is told by its environment, so that ordinary git just works with the lab's server.

git takes settings from numbered variables (``GIT_CONFIG_COUNT``, ``GIT_CONFIG_KEY_0``, …).
These name the file with the password and never hold it.  Settings that somebody else gave
that way stay, and whoever has a name of their own keeps it; no file of theirs is touched.

Source: ``git help config`` (environment), ``git help gitcredentials``, ``git help
credential-store``.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

Entry = tuple[str, str]

BRANCH: Entry = ("init.defaultBranch", "main")
IDENTITY: tuple[Entry, ...] = (("user.name", "Learner"), ("user.email", "learner@lab.invalid"))
_COUNT, _KEY, _VALUE = "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"
_SAID_ELSEWHERE = {
    "user.name": ("GIT_AUTHOR_NAME",),
    "user.email": ("GIT_AUTHOR_EMAIL", "EMAIL"),
}


def credentials(base_url: str, file: Path) -> tuple[Entry, ...]:
    """Have git use ``file`` (of git's credential store) for everything below ``base_url``.

    The empty entry comes first: it leaves the user's own helpers out, which would otherwise
    be handed the lab's password to keep.
    """
    key = f"credential.{base_url}.helper"
    return (key, ""), (key, f"store --file={shlex.quote(str(file))}")


def variables(base_url: str, file: Path, base: Mapping[str, str]) -> dict[str, str]:
    """What a user's git needs, given the environment ``base`` that is there now.

    With what was set by an earlier call in ``base``, the same again.
    """
    helpers = credentials(base_url, file)
    kept = [
        entry
        for entry in read(base)
        if entry[0] != helpers[0][0] and entry not in (BRANCH, *IDENTITY)
    ]
    theirs = {
        name: value
        for name, value in base.items()
        if name != _COUNT and not name.startswith((_KEY, _VALUE))
    } | write(kept)
    missing = [entry for entry in IDENTITY if not _is_set(entry[0], theirs)]
    return write([*kept, *helpers, BRANCH, *missing])


def read(base: Mapping[str, str]) -> list[Entry]:
    """The settings that numbered variables hold."""
    count = base.get(_COUNT, "")
    return [
        (base[f"{_KEY}{number}"], base[f"{_VALUE}{number}"])
        for number in range(int(count) if count.isascii() and count.isdigit() else 0)
        if f"{_KEY}{number}" in base and f"{_VALUE}{number}" in base
    ]


def write(entries: Iterable[Entry]) -> dict[str, str]:
    """The numbered variables for ``entries``, in their order."""
    found = {_COUNT: "0"}
    for number, (key, value) in enumerate(entries):
        found |= {_COUNT: str(number + 1), f"{_KEY}{number}": key, f"{_VALUE}{number}": value}
    return found


def _is_set(key: str, environment: Mapping[str, str]) -> bool:
    """Whether the user has a value for ``key``, whichever repository they are in."""
    if any(environment.get(name) for name in _SAID_ELSEWHERE[key]):
        return True
    try:
        answer = subprocess.run(
            ["git", "config", "--get", key],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False  # without git nobody reads what is said here
    return answer.returncode == 0
