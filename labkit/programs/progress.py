"""How far the programs are, told to whoever looks: a terminal, a log, or nobody.

The rest of the package reports ``Event`` values; here they become rich's live bars on
a terminal and plain lines elsewhere (a log file, a CI run, a notebook's cell).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

PLAIN_INTERVAL = 15.0
"""Seconds between two plain lines about the same stage."""


@dataclass(frozen=True)
class Event:
    """One step of making a program.

    ``title`` names the program with its version, ``stage`` what is being done to it
    ("downloading", "compiling", "linking", …), ``done`` of ``total`` how far that is
    (``total`` 0: not known), ``detail`` a few words more.  ``ended`` says that nothing
    more follows for this program.
    """

    title: str
    stage: str
    done: int = 0
    total: int = 0
    detail: str = ""
    ended: bool = False

    def __str__(self) -> str:
        count = f" {self.done}/{self.total}" if self.total else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.title}: {self.stage}{count}{detail}"


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def show(stream: TextIO | None = None) -> Iterator[Progress]:
    """Tell ``stream`` (standard error by default): bars on a terminal, else plain lines."""
    stream = stream or sys.stderr
    if stream.isatty():
        with _bars(stream) as report:
            yield report
    else:
        yield lines(stream)


def lines(stream: TextIO) -> Progress:
    """Plain lines: each new stage of a program, and how far it is every 15 seconds."""
    last: dict[str, tuple[str, float]] = {}

    def report(event: Event) -> None:
        stage, told = last.get(event.title, ("", 0.0))
        now = time.monotonic()
        if event.stage != stage or event.ended or now - told >= PLAIN_INTERVAL:
            last[event.title] = (event.stage, now)
            print(event, file=stream, flush=True)

    return report


@contextlib.contextmanager
def _bars(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.fields[title]:<30}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(file=stream),
    )
    tasks = {}
    with bars:

        def report(event: Event) -> None:
            if event.title not in tasks:
                tasks[event.title] = bars.add_task("", total=None, title=event.title)
            count = f" {event.done}/{event.total}" if event.total else ""
            detail = f" ({event.detail})" if event.detail else ""
            bars.update(
                tasks[event.title],
                description=f"{event.stage}{count}{detail}",
                total=1 if event.ended else event.total or None,
                completed=1 if event.ended else event.done,
            )

        yield report
