"""What this machine can and cannot do for a lab, each finding with a fix.

Looks only: nothing is started, changed or fetched.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from labkit import host, launch, programs
from labkit.errors import LabError
from labkit.paths import cache_dir, state_root
from labkit.programs.catalogue import needed_by_a_lab, needed_by_the_course

_NEEDED_MEMORY = 1_200_000_000
_NEEDED_DISK = 1_500_000_000
_BUILD_DISK = 9_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``level`` is ok, note or problem; ``fix`` says what to do."""

    topic: str
    level: str
    seen: str
    fix: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether a lab cannot run before this is mended."""
        return self.level == "problem"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.topic}: {self.seen}"
        return f"{line}\n         → {self.fix}" if self.fix else line


def examine() -> list[Finding]:
    """Every finding, problems first."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _system,
        _memory,
        _disk,
        _mode,
        _programs,
        _git,
        _proxy,
        _folders,
        _labs,
    )
    found = [look() for look in looks]
    return sorted(found, key=lambda finding: ["problem", "note", "ok"].index(finding.level))


def _python() -> Finding:
    seen = f"{platform.python_version()} at {sys.executable}"
    return Finding("Python", "ok", seen)


def _system() -> Finding:
    seen = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if platform.system() == "Linux" and platform.machine() in {"x86_64", "amd64"}:
        return Finding("System", "ok", seen)
    return Finding(
        "System", "note", seen, "The kit was tried on Linux x86_64 only; tell us how it went."
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    seen = f"{free / 1e9:.1f} GB available, {os.cpu_count()} cores"
    if free < _NEEDED_MEMORY:
        return Finding(
            "Memory",
            "problem",
            seen,
            "A lab takes about 0.7 GB: close something, or use less labs.",
        )
    return Finding("Memory", "ok", seen)


def _disk() -> Finding:
    folder = _existing(cache_dir())
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1e9:.1f} GB free at {folder}"
    if free < _NEEDED_DISK:
        return Finding(
            "Disk", "problem", seen, "Free some, or set LABKIT_CACHE to a folder with room."
        )
    if free < _BUILD_DISK and _missing():
        return Finding(
            "Disk",
            "note",
            seen,
            "Building the programs takes about 9 GB for a while; 1.2 GB stays.",
        )
    return Finding("Disk", "ok", seen)


def _mode() -> Finding:
    if host.can_mount_namespace():
        return Finding("Volumes", "ok", "mounts: pods see volumes at their real paths")
    return Finding(
        "Volumes",
        "note",
        "rewrite: this kernel lets you make no mount namespace",
        "Nothing to do: paths in a container's arguments are rewritten, and lessons work alike.",
    )


def _missing(names: Iterable[str] = ()) -> list[str]:
    """Which of ``names`` (none: of what every lab needs) are not here, or not as pinned."""
    missing = []
    for name in tuple(names) or needed_by_a_lab():
        try:
            programs.resolve(name)
        except LabError:
            missing.append(name)
    return missing


def _programs() -> Finding:
    missing = _missing()
    if missing:
        return Finding(
            "Programs", "note", f"not here yet: {', '.join(missing)}", "Run `labkit programs get`."
        )
    missing = _missing(needed_by_the_course())
    if missing:
        return Finding(
            "Programs",
            "note",
            f"every lab's are there; lesson 07 will want {', '.join(missing)}",
            "Run `labkit programs get` while you have time and a good network.",
        )
    return Finding("Programs", "ok", f"all there and verified, in {cache_dir()}")


def _git() -> Finding:
    found = shutil.which("git")
    if found is None:
        return Finding(
            "Git", "note", "git is not on PATH", "Lesson 07 needs it: install it (apt install git)."
        )
    return Finding("Git", "ok", found)


def _proxy() -> Finding:
    found = [name for name in ("http_proxy", "HTTP_PROXY") if os.environ.get(name)]
    if found and not os.environ.get("LABKIT_LAB"):
        return Finding(
            "Proxy",
            "note",
            f"{found[0]} is set",
            'A terminal or kernel that enters a lab (`eval "$(labkit env)"`) uses the lab\'s '
            "proxy for plain http instead; https keeps yours.",
        )
    return Finding("Proxy", "ok", "no plain-http proxy of yours in the way")


def _folders() -> Finding:
    for folder in (state_root(), cache_dir()):
        parent = _existing(folder)
        if not os.access(parent, os.W_OK):
            return Finding(
                "Folders",
                "problem",
                f"{parent} cannot be written",
                "Set LABKIT_STATE and LABKIT_CACHE to folders of yours.",
            )
    return Finding("Folders", "ok", f"state in {state_root()}, cache in {cache_dir()}")


def _labs() -> Finding:
    stale = [name for name in launch.names() if launch.running(name) is None]
    if stale:
        return Finding(
            "Labs",
            "note",
            f"not running: {', '.join(stale)}",
            "`labkit up` starts one again; `labkit down --all` clears what is left.",
        )
    return Finding("Labs", "ok", f"running: {', '.join(launch.names()) or 'none'}")


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
