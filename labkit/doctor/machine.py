"""Memory, processor and clock: what the machine has, and what a container gets of it."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import labkit
from labkit import cgroups, launch
from labkit.doctor.finding import Remark, note, ok, problem
from labkit.doctor.folders import temporary
from labkit.errors import LabError
from labkit.paths import cache_dir
from labkit.programs.catalogue import builds_of, needed_by_a_lab
from labkit.programs.golang import host_cores
from labkit.programs.store import Store

_LEAST = 700_000_000  # bytes: what a lab holds, measured
_COMFORTABLE = 1_200_000_000  # bytes: the same with a notebook and a browser's worth of room
_OFF = 86_400.0  # seconds that a clock may be behind what was made before
_SKEW = 5.0  # seconds between this clock and that of a disk
_WRITTEN = 1_767_225_600.0  # 2026: some systems date all files 1970
_FUTURE = 15  # years after labkit was made


def memory(root: Path = Path("/")) -> list[Remark]:
    """What is free: of the machine's, and of a container's limit; the smaller one counts."""
    free = psutil.virtual_memory().available
    bound = cgroups.memory(root)
    seen = f"{free / 1e9:.1f} GB available on the machine"
    if bound is not None and bound.left < free:
        seen = (
            f"{bound.left / 1e9:.1f} GB left of this container's {bound.limit / 1e9:.1f} GB "
            f"(cgroup v{bound.version}), which counts; {seen}"
        )
        free = bound.left
    elif bound is not None:
        seen += f", which counts: the container's limit leaves {bound.left / 1e9:.1f} GB"
    fix = "A lab takes about 0.7 GB: close something, or get a machine or container with more."
    if free >= _COMFORTABLE:
        return [ok(seen)]
    if free >= _LEAST or _runs():
        return [note(seen, fix)]
    return [problem(seen, fix)]


def _runs() -> bool:
    """Whether some lab runs: it has its memory already."""
    try:
        return any(launch.running(name) for name in launch.names())
    except LabError:
        return False


def processor(root: Path = Path("/")) -> list[Remark]:
    """Cores that may be used, and a container's share of their time."""
    cores = host_cores()
    seen = f"{cores} core{'s' if cores > 1 else ''}"
    quota = cgroups.cores(root)
    if quota is not None and quota < cores:
        seen += f", of which this container may use {quota:g}"
        if quota < 1:
            return [note(seen, "Everything takes longer: give the container one core or more.")]
    return [ok(seen)]


def clock(
    now: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
) -> list[Remark]:
    """Whether the time is likely to be right; asks nobody on a network.

    It cannot be earlier than what was made on this machine, nor many years later, a file
    made now must be of now, and it must go as the steady clock does.
    """
    began, steadily = now(), steady()
    seen = datetime.datetime.fromtimestamp(began, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    fix = (
        "Set it (`timedatectl set-ntp true`, or restart the virtual machine): a wrong one makes "
        "certificates and tokens invalid, a download's above all."
    )
    remarks = []
    made = _newest()
    if began < made - _OFF:
        days = (made - began) / 86400
        remarks.append(
            note(f"{seen}, {days:.0f} days before labkit or its programs were made", fix)
        )
    elif began > made + _FUTURE * 365.25 * 86400:
        remarks.append(note(f"{seen}, more than {_FUTURE} years after labkit was made", fix))
    temp = temporary()
    skew = 0.0 if temp is None else _skew(temp, now)
    if abs(skew) > _SKEW:
        seen = f"a file made now in {temp} is dated {skew:+.0f} s from now"
        remarks.append(note(seen, "Set the clocks of this machine and of that disk's server."))
    time.sleep(0.02)
    passed, really = now() - began, steady() - steadily
    if really < 0 or abs(passed - really) > 1.0:
        remarks.append(note(f"it moved by {passed - really:+.1f} s while it was looked at", fix))
    return remarks or [ok(seen)]


def _skew(folder: Path, now: Callable[[], float]) -> float:
    """Seconds between a file that is made in ``folder`` now, and gone again, and ``now``."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime - now()
    except OSError:  # there is no room, which `folders` tells
        return 0.0


def _newest() -> float:
    """When the latest part of labkit or of its programs was made, as they tell it."""
    store = Store(cache_dir(), remember=False)
    manifests = [store.read(module) for module in builds_of(needed_by_a_lab())]
    times = [manifest.built_at for manifest in manifests if manifest is not None]
    return max([*times, Path(labkit.__file__).stat().st_mtime, _WRITTEN])
