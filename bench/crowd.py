"""Many labs side by side on one machine: a workshop, or a shared server."""

from __future__ import annotations

import json

import psutil

from bench import footprint
from bench.results import Measure
from bench.sandbox import Say, labkit, timed
from labkit import lab as labs

_GIB = 2**30
_MACHINE = 8 * _GIB
_PER_LAB = 0.75 * _GIB
"""What one lab may take at most, for deciding whether this machine can run them all."""


def measure(count: int, say: Say) -> list[Measure]:
    """Bring ``count`` labs up one after the other; a tour of each; all of their memory."""
    title = "labs side by side in 8 GB"
    available = psutil.virtual_memory().available
    if available < count * _PER_LAB + _GIB:
        problem = f"{count} labs may need more than the {available / _GIB:.1f} GiB that are free"
        return [Measure("crowd", title, "labs", problem=problem)]
    names = [f"crowd-{number}" for number in range(1, count + 1)]
    ups: list[float] = []
    try:
        for name in names:
            ups.append(timed("up", "--name", name))
            say(f"lab {name} is up after {ups[-1]:.2f} s")
        tours = []
        for name in names:
            walked = json.loads(labkit("tour", "--json", "--name", name))
            tours.append(walked["hops"][-1]["seconds"])
        # After the tours, so that every lab has done its work and holds what it holds.
        sizes = [sum(footprint.memory_of(labs.attach(name)).values()) for name in names]
        say(f"{count} labs: {sum(sizes) / _GIB:.2f} GiB, tours {min(tours):.2f}-{max(tours):.2f} s")
    finally:
        down = timed("down", "--all")
    each = sum(sizes) / count
    return [
        Measure(
            "crowd",
            title,
            "labs",
            (float(_MACHINE // each),),
            note=f"{count} ran, PSS {sum(sizes) / _GIB:.1f} GiB, {each / 2**20:.0f} MiB each",
            details={"pss_bytes": sizes, "down_all_seconds": down},
        ),
        Measure("crowd-up", f"up, each of {count} labs in turn", "s", tuple(ups)),
        Measure("crowd-tour", f"tour, {count} labs running", "s", tuple(tours)),
    ]
