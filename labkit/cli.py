"""The ``labkit`` command: one function a verb, each a thin layer over ``lab``.

Exit 0 on success.  A failure is one paragraph on standard error and exit 1; wrong
usage exits 2, an interrupt 130.  A traceback is never shown: an unexpected error is
written to a file and named, since it is a bug of ours.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit import commands, launch, logs, serving, status, tour
from labkit import lab as labs
from labkit.classroom import command as classroom
from labkit.errors import LabBusy, LabError, NoLab, UsageError
from labkit.options import DEFAULT, Context, Json, Kubeconfig, Name, note
from labkit.options import option_for as _option
from labkit.programs.command import app as programs_app

_OF_THE_DISK = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
"""What a machine refuses, and no mistake of labkit's."""

app = typer.Typer(
    name="labkit",
    help="A real Kubernetes API, Vault and External Secrets Operator, with no Docker and no root.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(programs_app, name="programs")

commands.register(app)

serving.register(app)
classroom.register(app)


@app.command()
def up(
    name: Name = DEFAULT,
    sync: Annotated[
        str | None,
        typer.Option(
            help="How Secrets reach files: watch (at once, the default) or kubelet (60 s).",
            show_default=False,
        ),
    ] = None,
    vault: Annotated[
        str | None, typer.Option(help="openbao (the default) or hashicorp.", show_default=False)
    ] = None,
    argocd: Annotated[
        bool, typer.Option("--argocd", help="Argo CD and a Git server besides, until `down`.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Bring everything up, to the secret on the app's page. Safe to repeat."""
    started = time.monotonic()
    progress = _quiet if as_json else note
    try:
        lab = labs.up(
            name,
            sync=sync,
            engine=vault,
            argocd=argocd,
            kubeconfig=kubeconfig,
            context=context,
            progress=progress,
        )
        found = lab.status()
    except (UsageError, LabBusy, BrokenPipeError):
        raise  # nothing that a look at this machine would explain
    except Exception as error:
        from labkit import doctor  # of use only now

        code = _tell(error)
        note(doctor.in_short())
        raise typer.Exit(code) from error
    if as_json:
        _print_json(found)
        return
    typer.echo(f"The lab {name} is ready after {time.monotonic() - started:.1f} s.")
    if found["lesson"] is not None:
        typer.echo(f"  It is in lesson {found['lesson']:02}, which begins without some of it.")
    if found["app"]["url"]:
        typer.echo(f"  The app's page:   {found['app']['url']}")
    typer.echo(f'  In this terminal: eval "$(labkit env{_option(name)})"')
    if found["lesson"] is None:
        typer.echo("  Watch a secret rotate: labkit tour" + _option(name))


@app.command()
def down(
    name: Name = DEFAULT,
    every: Annotated[bool, typer.Option("--all", help="Every lab of yours.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Its cluster is gone for good: remove what is kept here."),
    ] = False,
) -> None:
    """Stop a lab; nothing of it is left running. Safe to repeat."""
    if every and (kubeconfig or context or forget):
        raise UsageError("--all goes with none of the options for one lab")
    for each in launch.names() if every else [name]:
        stopped = labs.down(
            each, kubeconfig=kubeconfig, context=context, forget=forget, progress=note
        )
        typer.echo(f"The lab {each} is {'down' if stopped else 'not running'}.")


@app.command("status")
def show_status(name: Name = DEFAULT, as_json: Json = False) -> None:
    """What runs, where, and how much memory it takes."""
    found = status.of(name)
    if as_json:
        _print_json(found)
    else:
        typer.echo(status.as_text(found))
    if not found["ready"]:
        raise typer.Exit(1)


@app.command("tour")
def take_tour(
    name: Name = DEFAULT,
    as_json: Json = False,
    forced: Annotated[
        bool, typer.Option("--force/--no-force", help="Ask ESO to sync at once.")
    ] = True,
) -> None:
    """Vault to page, then one rotation: six hops, each with its evidence and time."""
    lab = labs.attach(name)
    walked = tour.walk(lab, say=_quiet if as_json else typer.echo, forced=forced)
    if as_json:
        _print_json(walked.to_json())


@app.command()
def reset(name: Name = DEFAULT) -> None:
    """Back to a clean lab: whatever you made in it is removed."""
    started = time.monotonic()
    lab = labs.attach(name)
    lab.reset(progress=note)
    typer.echo(f"The lab {name} is clean after {time.monotonic() - started:.1f} s.")
    typer.echo(f"  The app's page is now at {lab.app.url}")


@app.command()
def env(name: Name = DEFAULT) -> None:
    """Lines for your shell: eval "$(labkit env)"."""
    for variable in labs.attach(name).variables():
        typer.echo(variable.export())


@app.command("logs")
def show_logs(
    program: Annotated[str, typer.Argument(help="A program or a workload; none lists them.")] = "",
    name: Name = DEFAULT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", help="How many of the last lines.")] = 200,
) -> None:
    """The log of one program (etcd, kube-apiserver, …) or workload (vault, app, …)."""
    if not program:
        typer.echo("\n".join(logs.names(name)))
        return
    for line in logs.read(name, program, follow=follow, lines=lines):
        typer.echo(line)


@app.command("doctor")
def show_doctor(as_json: Json = False) -> None:
    """What this machine can and cannot do, each problem with a fix."""
    from labkit import doctor

    findings = doctor.examine()
    if as_json:
        _print_json([finding.to_json() for finding in findings])
    else:
        typer.echo("\n".join(str(finding) for finding in findings))
    if any(finding.is_fatal for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The console script: runs a command, turns its failure into words and a code."""
    try:
        app()
    except KeyboardInterrupt:
        note("labkit: Interrupted. Nothing half-made is left; run the same command again.")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (head, say) has gone: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        raise SystemExit(_tell(error)) from None


def _tell(error: Exception) -> int:
    """Say what failed, on standard error; the exit code that goes with it."""
    if isinstance(error, LabError):
        note(f"labkit: {error}")
        return 1
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK and error.filename:
        note(
            f"labkit: A file or folder cannot be used. Seen: {error.filename}: {error.strerror}. "
            "`labkit doctor` says which folders labkit wants, and how others are chosen."
        )
        return 1
    place = "what led to it (there was no room to keep more)"
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="labkit-error-", suffix=".txt", text=True)
        with os.fdopen(handle, "w") as file:
            file.write("".join(traceback.format_exception(error)))
        place = path
    note(
        f"labkit: labkit met an error that it did not expect: {error!r}. "
        f"This is a bug; please report it with {place}."
    )
    return 70


def _quiet(_: str) -> None:
    """Say nothing."""


def _print_json(found: Any) -> None:
    typer.echo(json.dumps(found, indent=2))


__all__ = ["NoLab", "Path", "app", "main"]
