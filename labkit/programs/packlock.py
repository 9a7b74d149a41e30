"""Which bytes a pack may bring: the SHA-256 of every file of every build, by platform.

The builds are reproducible: the same module, flags and Go give the same bytes on every
machine.  So their hashes stand in the repository (``packs.lock``), beside the pins that they
follow from, and a pack may come from anywhere: what is not listed here never runs.
``labkit programs pack --lock`` writes the file; all others only read it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.errors import ProgramError
from labkit.programs.catalogue import GoModule

LOCK = Path(__file__).parent / "packs.lock"
_FORMAT = 1
_NAME_LENGTH = 12
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def platform_name() -> str:
    """This machine's platform, such as ``linux-x86_64``."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


@dataclass(frozen=True)
class Pinned:
    """One build as it must be: ``lock`` is the build's own (see ``GoModule``), ``go`` the
    toolchain's version, ``files`` each path below the build's folder with its SHA-256 (hex)."""

    lock: str
    go: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class PackLock:
    """The builds of one platform, by name."""

    platform: str
    builds: Mapping[str, Pinned]

    def find(self, module: GoModule) -> Pinned | None:
        """How ``module``, as it is locked now, must be; None when that is not known."""
        found = self.builds.get(module.name)
        return found if found and found.lock == module.lock_digest() else None

    def pack_name(self, modules: Iterable[GoModule]) -> str:
        """The name of the file with exactly these builds."""
        digest = hashlib.sha256()
        for module in modules:
            pinned = self.find(module)
            digest.update(f"{module.name} {module.lock_digest()} {pinned and pinned.go}\n".encode())
        return f"{prefix(self.platform)}{digest.hexdigest()[:_NAME_LENGTH]}.tar.zst"


def prefix(of: str) -> str:
    """How the name of every pack for a platform begins."""
    return f"gitops-secrets-programs-{of}-"


def read(file: Path = LOCK) -> PackLock:
    """What is locked for this machine's platform: nothing, where it was never made.

    Raises ProgramError for a file that is not such a lock.
    """
    return PackLock(platform_name(), _platforms(file).get(platform_name(), {}))


def write(lock: PackLock, file: Path = LOCK) -> None:
    """Make ``lock`` what the file says of its platform; other platforms stay as they are."""
    platforms = _platforms(file) | {lock.platform: lock.builds}
    content: dict[str, Any] = {"format": _FORMAT, "platforms": {}}
    for name in sorted(platforms):
        builds = sorted(platforms[name].items())
        content["platforms"][name] = {build: asdict(pinned) for build, pinned in builds}
    file.write_text(json.dumps(content, indent=1) + "\n")


def _platforms(file: Path) -> dict[str, Mapping[str, Pinned]]:
    try:
        content = json.loads(file.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}")
        return {
            name: {build: Pinned(**pinned) for build, pinned in builds.items()}
            for name, builds in content["platforms"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProgramError(
            "The list of what a pack may bring cannot be read",
            seen=f"{file}: {error!r}",
            todo="Restore it (`git checkout` of that file), or install labkit again.",
        ) from error
