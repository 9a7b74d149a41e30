"""``labkit class`` for the teacher, ``labkit join`` for whoever sits in the class."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labkit import course
from labkit.classroom import box, figures, report, seat
from labkit.errors import UsageError
from labkit.options import DEFAULT, Json, Name
from labkit.paths import LabPaths, write_private

Folder = Annotated[Path, typer.Argument(help="The class's drop box.")]


class _FolderOrVerb(TyperGroup):
    """``labkit class FOLDER`` is ``labkit class show FOLDER``: what a teacher says most."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # An option may come first; help is the group's own.
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands and "--help" not in args:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_FolderOrVerb,
    help="For the teacher: seats, progress, pass rate and median time per checkpoint. "
    "`labkit class FOLDER` shows them.",
    no_args_is_help=True,
)


def register(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="class")
    main.command("join")(join)


@app.command("open")
def open_class(folder: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Make the drop box, and say what those who attend run. Safe to repeat."""
    opened = box.open_box(folder)
    typer.echo("The class is open. Those who attend run:")
    typer.echo(f"  labkit join {shlex.quote(str(opened))} --seat NAME")
    closed = box.closed_on_the_way(opened)
    if closed is not None:
        print(f"Careful: other users cannot enter {closed}.", file=sys.stderr)


@app.command("show")
def show(
    folder: Folder,
    watch: Annotated[
        float | None,
        typer.Option(
            min=1, help="Again after this many seconds, until Ctrl-C.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Who is where, who may be stuck, and how each checkpoint of the lessons seen goes."""
    if watch is None:
        typer.echo(_shown(folder, as_json=as_json, indent=2))
    elif as_json or not sys.stdout.isatty():
        while True:
            typer.echo(_shown(folder, as_json=as_json))
            sys.stdout.flush()
            time.sleep(watch)
            if not as_json:
                typer.echo()
    else:
        from rich.console import Console  # of use only here
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                clock = time.strftime("%H:%M:%S")
                told = f"{_shown(folder)}\n\n{clock}; Ctrl-C ends this."
                live.update(Text(told, no_wrap=True, overflow="crop"), refresh=True)
                time.sleep(watch)


def _shown(folder: Path, *, as_json: bool = False, indent: int | None = None) -> str:
    found = box.read(folder)
    now = figures.of(found.reports, course.LESSONS, time.time(), found.problems)
    if as_json:
        return json.dumps(now.to_json(), indent=indent)
    return figures.as_text(now, course.LESSONS)


@app.command("close")
def close_class(
    folder: Folder,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Where the summary goes: .json for the figures, else CSV with a line for each "
            "seat and checkpoint. If not given: the folder's name with .csv, here.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep a summary, and remove the drop box with all reports."""
    found = box.read(folder)
    file = export or Path(f"{folder.absolute().name}.csv")
    if file.exists():
        raise UsageError(
            f"{file} is there already", todo="Name another file for the summary: --export FILE."
        )
    if file.suffix == ".json":
        now = figures.of(found.reports, course.LESSONS, time.time(), found.problems)
        text = json.dumps(now.to_json(), indent=2) + "\n"
    else:
        text = figures.as_csv(found.reports, course.LESSONS)
    try:
        write_private(file, text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written",
            seen=error.strerror or str(error),
            todo="Name another file.",
        ) from error
    typer.echo(f"The summary of {len(found.reports)} seats is in {file}.")
    for problem in found.problems:
        print(problem, file=sys.stderr)
    box.remove(folder)
    typer.echo("The class is closed.")


def join(
    folder: Annotated[
        Path | None, typer.Argument(help="The class's drop box; none says where you sit.")
    ] = None,
    called: Annotated[
        str | None,
        typer.Option("--seat", help="What your teacher sees. If not given: your login name."),
    ] = None,
    leave: Annotated[
        bool, typer.Option("--leave", help="Leave the class: your report is removed.")
    ] = False,
    name: Name = DEFAULT,
) -> None:
    """Let a teacher see which checkpoints you have passed: no answers, no values, no names."""
    paths = LabPaths.of(name)
    if leave:
        left = seat.leave(paths)
        typer.echo(f"You have left {left.folder}." if left else "You sit in no class.")
        return
    here = seat.read(paths)
    if folder is not None:
        here = seat.join(paths, folder, called or (here.name if here else _login()))
    elif here is not None and called:
        here = seat.join(paths, here.folder, called)
    elif here is not None:
        seat.report(paths, here, seat.book(paths).read())
    if here is None:
        typer.echo("You sit in no class.")
        return
    typer.echo(f"You sit in {here.folder} as {here.name}.")
    typer.echo(
        "Your teacher sees which lesson you are in, when you began each, and of each checkpoint "
        "how many looks and hints it took and when it passed. `labkit join --leave` ends that."
    )


def _login() -> str:
    # On a hub everybody may be the same user of the system.
    with contextlib.suppress(OSError, KeyError, ImportError):
        login = os.environ.get("JUPYTERHUB_USER") or getpass.getuser()
        if report.is_name(login):
            return login
    return f"user {os.getuid()}"
