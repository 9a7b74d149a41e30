"""``labkit programs``: fetch, show and locate the pinned programs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from labkit.errors import LabError, UsageError
from labkit.paths import cache_dir
from labkit.programs import pack, packlock
from labkit.programs.catalogue import (
    CATALOGUE,
    Entry,
    GoModule,
    builds_of,
    needed_by_the_course,
    variable_of,
)
from labkit.programs.key import cache_key
from labkit.programs.progress import show
from labkit.programs.resolve import ensure, resolve
from labkit.programs.store import Store

INTERRUPTED = 130

app = typer.Typer(
    help="The pinned programs a lab runs: fetch them, list them, say where they are.",
    no_args_is_help=True,
)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@app.command()
def get(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; without any, what the course needs.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Compile this many packages at a time.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Stay within this much memory, such as 2G.")
    ] = None,
    keep_build_cache: Annotated[
        bool | None,
        typer.Option(
            "--keep-build-cache/--drop-build-cache",
            help="Keep Go's caches (some GB), now and after later builds; or stop keeping them.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Take them from a pack (a file, a folder, an http(s) address), and build nothing.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch or build what is not here yet, and verify all of it. Safe to repeat."""
    bound = parse_size(memory) if memory else None
    try:
        with _sigterm_as_interrupt(), show() as report:
            found = ensure(
                names or needed_by_the_course(),
                progress=report,
                jobs=jobs,
                memory=bound,
                keep_build_cache=keep_build_cache,
                thorough=True,
                pack=origin,
            )
    except KeyboardInterrupt:
        typer.echo("Interrupted; `labkit programs get` goes on from here.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{len(found)} programs are here and verified: {', '.join(found)}.")


@app.command("list")
def list_programs(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Every program: its version, how it comes, whether it is here, how big it is."""
    store = Store(cache_dir())
    rows = [_row(entry, store) for entry in CATALOGUE.values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["bytes"] else ""
        use = f"  (for {row['wanted_for']})" if row["wanted_for"] else ""
        what = f"{row['name']:<24} {row['version']:<8} {row['state']:<9} {size:>7}"
        typer.echo(f"{what}  {row['comes']}{use}")


@app.command("pack")
def make_pack(
    to: Annotated[Path, typer.Option(help="The folder to write it into.")] = Path("dist"),
    relock: Annotated[
        bool, typer.Option("--lock", help="Lock these builds for everyone, then pack.")
    ] = False,
) -> None:
    """Write one archive of every built program of the course, for this platform."""
    store = Store(cache_dir())
    modules = builds_of(needed_by_the_course())
    try:
        with _sigterm_as_interrupt(), show() as report:
            if relock:
                packlock.write(pack.lock_of(modules, store))
            made = pack.write(modules, store, packlock.read(), to, progress=report)
    except KeyboardInterrupt:
        typer.echo("Interrupted; no pack was written.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(
        f"{made.path}: {made.size / 1e6:.0f} MB, for {made.unpacked / 1e6:.0f} MB of programs "
        f"({', '.join(made.builds)})."
    )


@app.command()
def path(name: Annotated[str, typer.Argument(help="A program's name.")]) -> None:
    """Print where a program is; fails when it is not here."""
    typer.echo(resolve(name).path)


@app.command()
def key(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; without any, what the course needs.")
    ] = None,
) -> None:
    """Print the key for a CI system's cache of the builds, as they are pinned now."""
    typer.echo(cache_key(names or ()))


def parse_size(text: str) -> int:
    """Bytes from ``2G``, ``1500M`` or a plain number.  Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError("A size is a number with K, M or G", seen=repr(text), todo="Try 2G.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _row(entry: Entry, store: Store) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": entry.name,
        "version": entry.version,
        "comes": entry.comes,
        "state": "missing",
        "path": None,
        "origin": None,
        "bytes": 0,
        "sha256": None,
        "wanted_for": entry.wanted_for,
        "variable": variable_of(entry.name),
    }
    try:
        program = resolve(entry.name)
    except LabError as error:
        there = isinstance(entry.source, GoModule) and store.read(entry.source) is not None
        row["state"] = "damaged" if there or "damaged" in error.what else "missing"
        return row
    return row | {
        "version": program.version or "own",
        "state": "yours" if program.origin in ("env", "path") else "verified",
        "path": str(program.path),
        "origin": program.origin,
        "bytes": program.path.stat().st_size,
        "sha256": program.sha256,
    }


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that a build ends with its children."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """``python -m labkit.programs``: the same, before anything else of labkit works."""
    try:
        app()
    except LabError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
