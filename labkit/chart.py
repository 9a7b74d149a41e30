"""A plot of durations that reads without colour: rows of dots over a logarithmic time.

It knows nothing of rotations; ``latency`` says what the rows are.  matplotlib is imported
only to draw, since it takes most of a second and few commands need it; there is no pyplot,
hence no state of the process and no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v")
_SHADES = ("0.0", "0.35", "0.55", "0.2", "0.45")  # greys; markers and labels carry the meaning
_TICKS = (0.001, 0.01, 0.1, 1, 10, 100)  # seconds
_FLOOR = 0.0005  # seconds: what is shorter stands at the left edge


@dataclass(frozen=True)
class Row:
    """One row of dots: ``values`` in seconds.  ``p50`` and ``p95`` of them get a stroke each
    and are written beside the row."""

    label: str
    values: tuple[float, ...]
    p50: float
    p95: float


@dataclass(frozen=True)
class Group:
    """Rows that belong together, under one name."""

    name: str
    rows: tuple[Row, ...]


def draw(groups: Sequence[Group], *, never: Sequence[str], title: str, note: str) -> Figure:
    """The groups from top to bottom, then a row for each thing that ``never`` happened."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    lines = sum(len(group.rows) + 1 for group in groups) + len(never)
    figure = Figure(figsize=(8.5, 0.22 * lines + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    longest = max(max(row.values) for group in groups for row in group.rows)
    axes.set_xscale("log")
    axes.set_xlim(_FLOOR, longest * 12)  # the figures stand at the right
    axes.text(longest * 1.4, -1.3, "p50, p95", va="center", fontsize=8, fontweight="bold")
    labels: list[tuple[float, str]] = []
    y = 0.0
    for group in groups:
        axes.axhline(y - 0.75, color="0.8", linewidth=0.6)
        axes.text(_FLOOR * 1.1, y, group.name, va="center", fontsize=9, fontweight="bold")
        for number, row in enumerate(group.rows):
            y += 1
            labels.append((y, row.label))
            _draw_row(axes, row, y, number, longest)
        y += 1.5
    axes.axhline(y - 0.75, color="0.8", linewidth=0.6)
    for name in never:
        labels.append((y, name))
        axes.annotate(
            "never",
            (longest * 9, y),
            (_FLOOR * 1.3, y),
            arrowprops={"arrowstyle": "->", "linestyle": ":", "color": "0.3"},
            va="center",
            fontsize=9,
            fontweight="bold",
        )
        y += 1
    axes.set_ylim(y, -1.8)
    axes.set_yticks([at for at, _ in labels], [label for _, label in labels], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([tick for tick in _TICKS if tick <= longest * 1.4])
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g} s")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel(note, fontsize=8)
    axes.set_title(title, fontsize=11, loc="left")
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a small PNG: sixteen greys are enough for it."""
    from PIL import Image

    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    Image.open(drawn).convert("L").quantize(16).save(small, format="png", optimize=True)
    return small.getvalue()


def _draw_row(axes: Axes, row: Row, y: float, number: int, longest: float) -> None:
    marker, shade = MARKERS[number % len(MARKERS)], _SHADES[number % len(_SHADES)]
    shown = [max(value, _FLOOR) for value in row.values]
    axes.plot(
        shown,
        [y] * len(shown),
        marker,
        markersize=4.5,
        markerfacecolor="none",
        markeredgecolor=shade,
        linestyle="none",
    )
    for value, width in ((row.p50, 2.4), (row.p95, 1.0)):
        at = max(value, _FLOOR)
        axes.plot([at, at], [y - 0.42, y + 0.42], "-", color="0.0", linewidth=width)
    axes.text(longest * 1.4, y, f"{row.p50:.3f} s, {row.p95:.3f} s", va="center", fontsize=8)
