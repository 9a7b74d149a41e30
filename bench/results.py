"""Figures, and what they say against their goals: a table for people, JSON for machines.

Measuring is left to the other modules.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from bench.goals import GOALS, Goal


@dataclass(frozen=True)
class Measure:
    """The samples of one figure, in the order in which they were taken.

    ``peer`` holds those of ``peer_name``, run beside them in the same session.  ``note``
    is what a reader must know to read the figure right.  A figure that could not be
    taken has no samples, and ``problem`` says why.
    """

    key: str
    title: str
    unit: str
    samples: tuple[float, ...] = ()
    peer_name: str = ""
    peer: tuple[float, ...] = ()
    note: str = ""
    problem: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> Goal | None:
        return GOALS.get(self.key)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The sample that 95 % of all do not exceed (nearest rank)."""
        return percentile(self.samples, 0.95)

    @property
    def ratio(self) -> float | None:
        """The median over the peer's; None without a peer."""
        return self.median / statistics.median(self.peer) if self.peer and self.samples else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal or no figure."""
        if self.goal is None or not self.samples:
            return None
        value = getattr(self, self.goal.statistic)
        return None if value is None else self.goal.is_met_by(value)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, with what follows from the samples."""
        found = asdict(self)
        if self.samples:
            found |= {"n": len(self.samples), "median": self.median, "p95": self.p95}
            found |= {"ratio": self.ratio, "met": self.is_met}
        found["goal"] = asdict(self.goal) if self.goal else None
        return found


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that ``share`` of all do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def as_table(measures: Sequence[Measure]) -> Table:
    """One row a figure: median, p95, peer and ratio, goal, verdict."""
    table = Table(show_lines=False)
    for name in ("measure", "median", "p95", "n", "beside it", "goal", "verdict", "elsewhere*"):
        right = name in {"median", "p95", "n"}
        folds = name in {"measure", "elsewhere*"}
        table.add_column(name, justify="right" if right else "left", no_wrap=not folds)
    for measure in measures:
        table.add_row(*_cells(measure))
    table.caption = (
        "p95 by nearest rank.  * published figures of others, for comparison; not run here."
    )
    return table


def _cells(measure: Measure) -> tuple[str, ...]:
    goal = measure.goal
    elsewhere = goal.elsewhere if goal else ""
    held_to = _goal_text(measure, goal) if goal else ""
    if not measure.samples:
        return (measure.title, "–", "–", "0", "", held_to, "not run", measure.problem)
    beside = ""
    if measure.ratio is not None:
        peer = _figure(statistics.median(measure.peer), measure.unit)
        beside = f"{measure.peer_name} {peer}: {measure.ratio:.2f}×"
    verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[measure.is_met]
    title = f"{measure.title} [dim]({measure.note})[/]" if measure.note else measure.title
    many = len(measure.samples) > 1
    return (
        title,
        _figure(measure.median, measure.unit),
        _figure(measure.p95, measure.unit) if many else "",
        str(len(measure.samples)),
        beside,
        held_to,
        verdict,
        elsewhere,
    )


def _goal_text(measure: Measure, goal: Goal) -> str:
    sign = "≥" if goal.at_least else "≤"
    if goal.statistic == "ratio":
        return f"{sign} {goal.limit:.1f}×"
    shown = _figure(goal.limit, measure.unit)
    return f"{sign} {shown}" + (" (p95)" if goal.statistic == "p95" else "")


def _figure(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{value * 1000:.0f} ms"
    digits = 0 if unit in {"MiB", "labs"} or float(value).is_integer() else 2
    return f"{value:.{digits}f} {unit}"
