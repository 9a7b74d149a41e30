"""The Python that runs labkit, what is installed in it, and tools beside it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Iterable

from labkit.doctor.finding import Remark, note, ok, problem
from labkit.programs.source import DISTRIBUTION

_OLDEST = (3, 11)
_A_LAB_NEEDS = frozenset(
    {"aiohttp", "cryptography", "h11", "hvac", "platformdirs", "psutil", "pyyaml", "urllib3"}
)
"""Without these no lab starts; without others a lesson or a view is missing."""
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*])?\s*(?:(?P<how>>=|==)\s*(?P<version>[^\s,;]+))?"
)


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> list[Remark]:
    """Its version, whether it is an environment of its own, and the kit's own distributions."""
    where = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    seen = f"{'.'.join(map(str, version))} at {sys.executable} ({where})"
    if version[:2] < _OLDEST:
        return [problem(seen, "labkit needs Python 3.11 or newer: make an environment with one.")]
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        fix = f"Install it: `{sys.executable} -m pip install -e FOLDER`, or its wheel."
        return [note(f"{seen}; labkit runs from a folder and is not installed", fix)]
    return distributions(wanted) or [ok(f"{seen}; what labkit wants is installed")]


def distributions(wanted: Iterable[str]) -> list[Remark]:
    """Those of the requirements ``wanted`` that this environment does not meet.

    ``wanted`` as ``importlib.metadata.requires`` gives them; extras do not count.
    """
    missing, older, fatal = [], [], False
    for requirement in wanted:
        text, _, marker = requirement.partition(";")
        match = _REQUIREMENT.match(text.strip())
        if match is None or "extra" in marker:
            continue
        name, how, version = match["name"], match["how"], match["version"]
        found = _version(name)
        if found is None:
            missing.append(text.strip())
            fatal |= name.lower() in _A_LAB_NEEDS
        elif (how == "==" and found != version) or (how and _parts(found) < _parts(version)):
            older.append((text.strip(), f"{name} {found}"))
    if not missing and not older:
        return []
    seen = [f"not installed: {', '.join(missing)}"] if missing else []
    seen += [f"{there} where {text} is wanted" for text, there in older]
    needs = " ".join(f"'{text}'" for text in [*missing, *(text for text, _ in older)])
    fix = f"Run `{sys.executable} -m pip install {needs}`."
    return [(problem if fatal else note)("; ".join(seen), fix)]


def jupyterlab() -> list[Remark]:
    """Whether the notebooks' pages can be served from here."""
    found = _version("jupyterlab")
    if found is None:
        return [
            note("not installed here", f"Run `{sys.executable} -m pip install 'jupyterlab>=4.6'`.")
        ]
    if _parts(found) < (4, 6):
        return [
            note(
                f"{found}: labkit's views and its doors to the lab want 4.6",
                f"Run `{sys.executable} -m pip install --upgrade 'jupyterlab>=4.6'`.",
            )
        ]
    return [ok(found)]


def git() -> list[Remark]:
    """Whether there is one: for lesson 07 only."""
    found = shutil.which("git")
    if found is None:
        return [note("git is not on PATH", "Lesson 07 needs it: install it (apt install git).")]
    return [ok(found)]


def system() -> list[Remark]:
    """Whether labkit was ever tried on a system such as this one."""
    seen = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in {"x86_64", "amd64"}:
        return [ok(seen)]
    return [note(seen, "The kit was tried on Linux x86_64 only; tell us how it went.")]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    """The leading figures of a version, enough to tell an older one."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))
