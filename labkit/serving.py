"""JupyterLab with the course, from an installed kit: ``labkit lab`` and ``labkit update``.

Where the lab comes from is ``lab``'s business, what is in the folder ``workingcopy``'s; how
JupyterLab is to be served is said once, in ``_jupyter/serve.py``, for ``make lab`` too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit import lab as labs
from labkit import workingcopy
from labkit.options import DEFAULT, Name, note
from labkit.workingcopy import NOTE, Changes

CONFIG = Path(__file__).parent / "_jupyter" / "serve.py"
FOLDER = Path("gitops-secrets-course")

Folder = Annotated[Path, typer.Argument(help="The folder with your copy of the course.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("lab")(open_lab)
    app.command("update")(update)


def open_lab(
    folder: Folder = FOLDER,
    name: Name = DEFAULT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open your browser at it.")
    ] = True,
) -> None:
    """The lab running, and JupyterLab with your own copy of the course. Ctrl-C ends JupyterLab."""
    changes = workingcopy.make(folder)
    if changes.made:
        typer.echo(f"{len(changes.made)} lessons are in {folder}: they are yours to change.")
    if changes.news:
        typer.echo(f"There are newer versions of {len(changes.news)} lessons: `labkit update`.")
    labs.up(name, progress=note)
    typer.echo("JupyterLab: open the address below. Ctrl-C ends it; `labkit down` ends the lab.")
    sys.stdout.flush()
    argv = [
        *(sys.executable, "-m", "jupyterlab", f"--config={CONFIG}"),
        f"--ServerApp.root_dir={folder.absolute()}",
        f"--ServerApp.open_browser={browser}",
        # The layout names the notebook's place, which is this folder's affair.
        f"--LabApp.workspaces_dir={(folder / NOTE).absolute().parent / 'workspaces'}",
    ]
    os.environ["LABKIT_LAB"] = name
    os.execv(sys.executable, argv)  # noqa: S606 - an argv list of our own


def update(folder: Folder = FOLDER) -> None:
    """Bring new versions of the lessons: beside those you have worked on, never over them."""
    typer.echo(told(workingcopy.update(folder)))


def told(changes: Changes) -> str:
    """What an update did, a line each."""
    lines = [f"new:      {name}" for name in changes.made]
    lines += [f"updated:  {name}" for name in changes.updated]
    lines += [f"beside:   {new} (yours stays in {name})" for name, new in changes.beside]
    return "\n".join(lines) or "Everything is as this version of the kit has it."
