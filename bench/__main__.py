"""``python -m bench``: every figure with its goal, as a table and as JSON.

Exit 0 when every measure could be taken, whatever the verdicts; 1 when one could not.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from bench import crowd, footprint, gitops, latency, planes, sandbox, starting
from bench.results import Measure, as_table
from labkit import programs
from labkit.errors import LabError, UsageError
from labkit.lab import Lab
from labkit.programs import CATALOGUE

Say = sandbox.Say
_BUSY = 0.5
"""Load per core above which a machine is not quiet."""


@dataclass(frozen=True)
class Bench:
    """One group of figures.  ``run`` gets ``count`` samples' worth done, on a lab that runs
    already where it ``wants_lab``."""

    name: str
    about: str
    run: Callable[[Lab | None, bool, Say], list[Measure]]
    wants_lab: bool = False


def _many(lab: Lab, quick: bool, say: Say) -> list[Measure]:
    found = latency.measure_many(lab, 100, 1 if quick else 3, say)
    return found if quick else found + latency.measure_many(lab, 600, 2, say)


def _views(lab: Lab, quick: bool, say: Say) -> list[Measure]:
    from bench import views  # wants a browser and its driver: only when it is asked for

    return views.measure(lab, 5 if quick else 50, 10 if quick else 30, say)


def _lab(lab: Lab | None) -> Lab:
    assert lab is not None  # noqa: S101 - a Bench that wants a lab is given one
    return lab


BENCHES = (
    Bench(
        "planes",
        "control plane ready, against envtest",
        lambda _, quick, say: planes.measure(2 if quick else 5, say),
    ),
    Bench(
        "up",
        "up warm and without golden snapshot; down",
        lambda _, quick, say: starting.measure(2 if quick else 5, 1 if quick else 2, say),
    ),
    Bench(
        "idle",
        "processor time and memory of a lab nobody uses",
        lambda lab, quick, say: footprint.measure(_lab(lab), 1 if quick else 4, 20, say),
        wants_lab=True,
    ),
    Bench(
        "page",
        "Vault write to page, forced and at a refreshInterval of 5 s",
        lambda lab, quick, say: latency.measure_page(
            _lab(lab), 5 if quick else 20, 2 if quick else 6, say
        ),
        wants_lab=True,
    ),
    Bench(
        "file",
        "Secret change to file",
        lambda lab, quick, say: latency.measure_file(_lab(lab), 8 if quick else 30, say),
        wants_lab=True,
    ),
    Bench(
        "views",
        "Vault write to pixel in JupyterLab; what open views cost a kernel",
        lambda lab, quick, say: _views(_lab(lab), quick, say),
        wants_lab=True,
    ),
    Bench(
        "many",
        "100 and 600 ExternalSecrets",
        lambda lab, quick, say: _many(_lab(lab), quick, say),
        wants_lab=True,
    ),
    Bench(
        "reset",
        "reset",
        lambda lab, quick, say: starting.measure_reset(_lab(lab).name, 1 if quick else 3, say),
        wants_lab=True,
    ),
    Bench(
        "gitops",
        "Argo CD: first sync, push to page and to green, memory and idle processor time",
        lambda lab, quick, say: gitops.measure(
            _lab(lab), 1 if quick else 3, 3 if quick else 10, 20 if quick else 60, say
        ),
        wants_lab=True,
    ),
    Bench("crowd", "8 labs side by side", lambda _, quick, say: crowd.measure(8, say)),
)
"""In the order in which they run; a lab's idle figures come before it is put to work."""


def main(
    only: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(bench.name for bench in BENCHES)}.")
    ] = "",
    quick: Annotated[bool, typer.Option(help="Few samples: a look, not a verdict.")] = False,
    as_json: Annotated[Path, typer.Option("--json", help="Where the figures go.")] = Path(
        "artifacts/bench.json"
    ),
) -> None:
    """Times, memory and ratios of real labs, each with its goal."""
    sandbox.unwind_on_sigterm()
    try:
        chosen = _choose(only)
        programs.ensure()
        before = _load()
        with sandbox.state():
            measures = _run_all(chosen, quick=quick)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    built = starting.build_seconds()
    console = Console()
    if not console.is_terminal:
        console.width = 180
    console.print(as_table(measures))
    if before > _BUSY * _cores():
        console.print(
            f"[yellow]Other work was going on when this began (load {before:.1f} on {_cores()} "
            "cores): the times say little.[/]",
            soft_wrap=True,
        )
    console.print("Building the programs took: " + _list_builds(built), soft_wrap=True)
    as_json.parent.mkdir(parents=True, exist_ok=True)
    as_json.write_text(json.dumps(_as_json(measures, built, before, quick=quick), indent=1) + "\n")
    console.print(f"The figures are in {as_json}.", soft_wrap=True)
    if any(measure.problem for measure in measures):
        raise typer.Exit(1)


def _choose(only: str) -> list[Bench]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = [bench.name for bench in BENCHES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"There is no bench called {unknown[0]!r}", todo=f"Known: {known}.")
    return [bench for bench in BENCHES if not names or bench.name in names]


def _run_all(chosen: Sequence[Bench], *, quick: bool) -> list[Measure]:
    alone = [bench for bench in chosen if not bench.wants_lab]
    on_lab = [bench for bench in chosen if bench.wants_lab]
    found = [measure for bench in alone if bench.name != "crowd" for measure in _take(bench, quick)]
    if on_lab:
        _say("bringing up a lab to measure on")
        with sandbox.running("bench") as lab:
            found += [measure for bench in on_lab for measure in _take(bench, quick, lab)]
    # Last, and with no other lab beside it.
    crowds = [bench for bench in alone if bench.name == "crowd"]
    return found + [measure for bench in crowds for measure in _take(bench, quick)]


def _take(bench: Bench, quick: bool, lab: Lab | None = None) -> list[Measure]:
    """One group's figures, or one line on why there are none: the others go on."""
    try:
        return bench.run(lab, quick, _say)
    except LabError as error:
        _say(f"{bench.name} failed: {error}")
        return [Measure(bench.name, bench.about, "", problem=str(error))]


def _list_builds(built: dict[str, float]) -> str:
    listed = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in built.items())
    return f"{listed} (recorded when they were built, not run again)." if built else "not recorded."


def _as_json(
    measures: Sequence[Measure], built: dict[str, float], load: float, *, quick: bool
) -> Any:
    return {
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "cores": _cores(),
            "load_before": load,
            "memory_bytes": psutil.virtual_memory().total,
            "python": platform.python_version(),
        },
        "quick": quick,
        "programs": {name: entry.version for name, entry in CATALOGUE.items()},
        "build_seconds": built,
        "measures": [measure.to_json() for measure in measures],
    }


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _load() -> float:
    """How many processes wanted a core, on average over the last minute."""
    return os.getloadavg()[0]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
