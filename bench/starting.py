"""How long `up`, `reset` and `down` take: from the command's start to its end.

Everything is measured through the command line, Python's own start included: that is what
a person waits for.
"""

from __future__ import annotations

import shutil

from bench.results import Measure
from bench.sandbox import Say, labkit, timed
from labkit.paths import cache_dir
from labkit.programs.catalogue import builds_of, needed_by_a_lab
from labkit.programs.store import Store

_NAME = "bench"


def measure(warm: int, cold: int, say: Say) -> list[Measure]:
    """``warm`` starts with everything cached, ``cold`` without the golden snapshot."""
    ups: list[float] = []
    downs: list[float] = []
    colds: list[float] = []
    try:
        for turn in range(cold):
            # Made anew by the next start; a lab that runs does not read it again.
            shutil.rmtree(cache_dir() / "golden", ignore_errors=True)
            colds.append(timed("up", "--name", _NAME))
            downs.append(timed("down", "--name", _NAME))
            say(f"up without snapshot {turn + 1} of {cold}: {colds[-1]:.2f} s")
        labkit("up", "--name", _NAME)
        labkit("down", "--name", _NAME)
        for turn in range(warm):
            ups.append(timed("up", "--name", _NAME))
            downs.append(timed("down", "--name", _NAME))
            say(f"up {turn + 1} of {warm}: {ups[-1]:.2f} s, down {downs[-1]:.2f} s")
    finally:
        labkit("down", "--name", _NAME)
    return [
        Measure("up-warm", "up, to the secret on the app's page", "s", tuple(ups)),
        Measure("up-cold", "up without golden snapshot", "s", tuple(colds)),
        Measure("down", "down", "s", tuple(downs)),
    ]


def measure_reset(name: str, count: int, say: Say) -> list[Measure]:
    """``count`` times ``labkit reset`` of a running lab, to the secret on the page again."""
    took = []
    for turn in range(count):
        took.append(timed("reset", "--name", name))
        say(f"reset {turn + 1} of {count}: {took[-1]:.2f} s")
    return [Measure("reset", "reset", "s", tuple(took))]


def build_seconds() -> dict[str, float]:
    """How long each program of a lab took to build when it was built (not run now)."""
    store = Store(cache_dir())
    built = {module.name: store.read(module) for module in builds_of(needed_by_a_lab())}
    return {name: manifest.seconds for name, manifest in built.items() if manifest}
