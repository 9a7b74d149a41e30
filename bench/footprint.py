"""What a lab costs while nobody uses it: processor time and memory of all its processes.

All means the guardian and everything below it: supervisor with node agent, control plane,
containers and their launchers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import psutil

from bench.results import Measure
from bench.sandbox import Say
from labkit import host
from labkit.errors import LabError
from labkit.lab import Lab

MIB = 2**20
_SETTLE = 15.0
"""Seconds after `up` before a lab counts as idle: caches are filled, leases are taken."""


def measure(lab: Lab, windows: int, seconds: float, say: Say) -> list[Measure]:
    """Let the lab settle, then watch it for so many windows of ``seconds`` each."""
    time.sleep(_SETTLE)
    shares = []
    for _ in range(windows):
        shares.append(_cpu_shares(lab, seconds))
        each = ", ".join(f"{name} {share:.1f}" for name, share in shares[-1].items())
        say(f"idle: {sum(shares[-1].values()):.1f} %: {each}")
    memory = {name: pss / MIB for name, pss in memory_of(lab).items()}
    say("memory: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))
    return [
        Measure(
            "cpu",
            "idle, share of one core",
            "%",
            tuple(sum(share.values()) for share in shares),
            note=f"over {seconds:.0f} s each; the last: {_largest(shares[-1], '%')}",
            details={"by_program": shares},
        ),
        Measure(
            "memory",
            "memory of all processes, without Argo CD",
            "MiB",
            (sum(memory.values()),),
            note=f"PSS: {_largest(memory, '')}",
            details={"by_program": memory},
        ),
    ]


def _cpu_shares(lab: Lab, seconds: float) -> dict[str, float]:
    """Percent of one core by program over the next ``seconds``, the largest first."""
    before = cpu_seconds(lab)
    began = time.monotonic()
    time.sleep(seconds)
    after = cpu_seconds(lab)
    window = time.monotonic() - began
    spent = {name: 100 * (after[name] - before.get(name, 0.0)) / window for name in after}
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def _largest(shares: dict[str, float], unit: str) -> str:
    first = sorted(shares.items(), key=lambda pair: -pair[1])[:4]
    digits = 1 if unit else 0
    return ", ".join(f"{name} {share:.{digits}f}" for name, share in first)


def pids_of(lab: Lab) -> list[int]:
    """Every process of the lab.  Raises LabError when its record does not say."""
    guardian = lab.record.guardian
    if guardian is None:
        raise LabError("The lab's record names no guardian")
    return [guardian.pid, *host.descendants(guardian.pid)]


def memory_of(lab: Lab) -> dict[str, int]:
    """PSS in bytes by program, the largest first."""
    found: dict[str, int] = defaultdict(int)
    for pid in pids_of(lab):
        found[name_of(pid)] += host.pss_bytes(pid)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def cpu_seconds(lab: Lab) -> dict[str, float]:
    """Processor seconds so far by program, those of ended children (probes) included."""
    found: dict[str, float] = defaultdict(float)
    for pid in pids_of(lab):
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        found[name_of(pid)] += times.user + times.system + children
    return found


def name_of(pid: int) -> str:
    """What a process is, in a word or two."""
    try:
        argv = psutil.Process(pid).cmdline()
    except psutil.Error:
        return "gone"
    if not argv:
        return "gone"
    if "-m" in argv[:-1] and "python" in Path(argv[0]).name:
        module = argv[argv.index("-m") + 1]
        return module.removeprefix("labkit.").replace("_", " ")
    if any(word.endswith("node/launch.py") for word in argv[:6]):
        return "launchers"
    # Some programs write more than their name there (Valkey: its address).
    return Path(argv[0].partition(" ")[0]).name
