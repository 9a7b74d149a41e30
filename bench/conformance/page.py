"""The score as a table for the terminal, and as the page ``docs/conformance.md``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from bench.conformance.groups import GROUPS, MODES, TARGET, Group
from bench.conformance.misses import Miss
from bench.conformance.suite import Result
from labkit.programs.catalogue import KUBERNETES

FILE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"

Runs = Mapping[str, Sequence[Result]]
"""The results of a run by mode."""

_TITLES = {"mounts": "mount namespaces", "rewrite": "path rewriting"}

_HEAD = f"""\
# Judged by Kubernetes' own tests

Kubernetes marks with `[Conformance]` those of its end-to-end tests that every cluster must
pass. `make conformance` builds that test program (version {KUBERNETES}, unchanged) and runs
it against a lab: real API server, real controllers, and labkit's node in the place of a
kubelet. The five groups that the course rests on come first, then what else the node does.

A lab shows a container its volumes in one of two ways: by mount namespaces where the kernel
allows them, else by rewriting paths in arguments and environment (`labkit doctor` says which
it is on your machine).

"""


def rows(runs: Runs) -> list[tuple[str, ...]]:
    """Group by group, then the required ones together and all together: passed / run."""
    found = [(group.name, *_scores(runs, [group])) for group in GROUPS]
    required = [group for group in GROUPS if group.required]
    found.insert(len(required), ("**The five required**", *_scores(runs, required)))
    found.append(("**All**", *_scores(runs, GROUPS)))
    return [row for row in found if any(row[1:])]


def _scores(runs: Runs, groups: Iterable[Group]) -> list[str]:
    groups = list(groups)
    cells = []
    for results in runs.values():
        mine = [result for result in results if any(group.has(result.test) for group in groups)]
        passed = sum(result.passed for result in mine)
        share = f" ({100 * passed / len(mine):.0f} %)" if mine and len(groups) > 1 else ""
        cells.append(f"{passed} / {len(mine)}{share}" if mine else "")
    return cells


def required_share(results: Iterable[Result]) -> float:
    """The share of the required groups' tests that passed; 1.0 when none was run."""
    mine = [
        result.passed
        for result in results
        if any(group.has(result.test) for group in GROUPS if group.required)
    ]
    return sum(mine) / len(mine) if mine else 1.0


def as_table(runs: Runs) -> Table:
    """For the terminal."""
    table = Table("group", *(_TITLES[mode] for mode in runs))
    for row in rows(runs):
        table.add_row(*(cell.replace("**", "") for cell in row))
    return table


def as_markdown(runs: Runs, misses: Sequence[Miss]) -> str:
    """The page: nothing in it changes unless a score or a reason does."""
    lines = [_HEAD, "| tests | " + " | ".join(_TITLES[mode] for mode in runs) + " |"]
    lines.append("|---|" + "---|" * len(runs))
    lines += ["| " + " | ".join(row) + " |" for row in rows(runs)]
    lines += ["", f"The goal is {TARGET:.0%} of the required groups with mount namespaces.", ""]
    lines += ["## Known misses", ""]
    for modes in (MODES, *((mode,) for mode in MODES)):
        some = [miss for miss in misses if miss.modes == modes]
        if some:
            where = "In both modes" if len(modes) > 1 else f"With {_TITLES[modes[0]]} only"
            lines += [f"### {where}", ""]
            lines += [*_by_reason(some), ""]
    if not misses:
        lines += ["None.", ""]
    text = "\n".join(lines[1:])
    return lines[0] + text.rstrip("\n") + "\n"


def _by_reason(misses: Sequence[Miss]) -> list[str]:
    reasons = dict.fromkeys(miss.reason for miss in misses)
    lines: list[str] = []
    for reason in reasons:
        lines.append(f"- {reason}")
        lines += [f"  - `{miss.test}`" for miss in misses if miss.reason == reason]
    return lines
