"""What a container may take: the limits of this process's cgroups, version 1 and 2.

Binder, Docker and Kubernetes give a container less than the machine has, and tell it in
cgroup files alone.  Linux only: elsewhere, and where there is no limit, the answer is None.
What is enough for a lab, others decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 2**60
"""Version 1 says "no limit" with a number near 2^63, rounded to a page."""


@dataclass(frozen=True)
class Bound:
    """A limit and what is taken of it: bytes, or processes.  ``version`` of cgroups: 1 or 2."""

    limit: int
    used: int
    version: int

    @property
    def left(self) -> int:
        return max(self.limit - self.used, 0)


def memory(root: Path = Path("/")) -> Bound | None:
    """The memory limit that leaves least, in bytes; what the kernel can take back is not used.

    That is the page cache of files not read lately, which the kubelet does not count either.
    ``root`` is where ``proc`` and ``sys`` are.  Source: Documentation/admin-guide/cgroup-v1
    and cgroup-v2.
    """
    bounds = [
        *_bounds(root, 2, "memory.max", "memory.current", "inactive_file"),
        *_bounds(root, 1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ]
    return min(bounds, key=lambda bound: bound.left, default=None)


def processes(root: Path = Path("/")) -> Bound | None:
    """The limit of processes and threads that leaves least."""
    bounds = [
        *_bounds(root, 2, "pids.max", "pids.current"),
        *_bounds(root, 1, "pids.max", "pids.current"),
    ]
    return min(bounds, key=lambda bound: bound.left, default=None)


def cores(root: Path = Path("/")) -> float | None:
    """How many cores' worth of time may be used; the smallest quota."""
    quotas = []
    for folder in _folders(root, 2, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quotas.append((_number(quota), _number(period)))
    for folder in _folders(root, 1, "cpu"):
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quotas.append((_number(_text(folder / files[0])), _number(_text(folder / files[1]))))
    return min((quota / period for quota, period in quotas if quota and period), default=None)


def _bounds(
    root: Path, version: int, limit: str, used: str, reclaimable: str = ""
) -> Iterator[Bound]:
    for folder in _folders(root, version, limit.partition(".")[0]):
        most = _number(_text(folder / limit))
        if most is None or most >= _UNLIMITED:
            continue
        taken = _number(_text(folder / used)) or 0
        if reclaimable:
            taken -= _entry(_text(folder / "memory.stat"), reclaimable)
        yield Bound(most, max(taken, 0), version)


def _folders(root: Path, version: int, controller: str) -> Iterator[Path]:
    """The cgroup of this process and those above it, as far as they can be seen from here.

    A container may see its own cgroup as the root, and its path as the host has it: the
    folders that such a path leads to are not there, and their files count as no limit.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if version == 1 and controller in names.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in dict.fromkeys((names, controller))]
        elif version == 2 and number == "0" and not names:
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for part in (inside, *inside.parents):
                yield mount / part


def _entry(table: str, name: str) -> int:
    """One figure of a file of ``name figure`` lines; 0 when it is not there."""
    lines = (line.split() for line in table.splitlines())
    return next((int(line[1]) for line in lines if len(line) == 2 and line[0] == name), 0)


def _number(text: str) -> int | None:
    """A figure; None for ``max``, for -1 (no limit) and for nothing."""
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
