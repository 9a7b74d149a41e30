"""Options that several commands share, and how they say how far they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit.paths import DEFAULT_LAB

Name = Annotated[
    str, typer.Option("--name", "-n", help="Which lab.", envvar="LABKIT_LAB", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Somebody else's cluster: its kubeconfig.", show_default=False),
]
Context = Annotated[
    str | None, typer.Option(help="Which context of the kubeconfig.", show_default=False)
]
DEFAULT = DEFAULT_LAB


def option_for(name: str) -> str:
    """`` --name NAME`` where one is needed, to be put into a command that is shown."""
    return "" if name == DEFAULT_LAB else f" --name {name}"


def note(line: str) -> None:
    """A line on standard error: progress, and what is no result."""
    print(line, file=sys.stderr, flush=True)
