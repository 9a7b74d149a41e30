"""The reference of the command line, asked of the command line itself.

Typer keeps its commands as objects with the words that ``--help`` prints; the page is made
of the same.  (Sphinx extensions for click do not know the click that typer carries inside.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from labkit.cli import app

from .markdown import code, plain, table


def every() -> str:
    """All commands, each with its arguments and options."""
    return "\n\n".join(_sections(typer.main.get_command(app), "labkit"))


def _sections(command: Any, name: str) -> Iterator[str]:
    if subcommands := getattr(command, "commands", None):
        if name != "labkit":
            yield f"## {code(name)}\n\n{plain(command.help or '')}"
        for each, inner in subcommands.items():
            if not inner.hidden:
                yield from _sections(inner, f"{name} {each}")
        return
    depth = "#" * min(3, name.count(" ") + 1)
    context = typer.Context(command, info_name=name)
    words = " ".join(piece for piece in command.collect_usage_pieces(context) if piece)
    yield f"{depth} {code(name)}\n\n{plain(command.help or '')}"
    yield f"```console\n$ {name} {words}\n```"
    rows = [
        (code(record[0]), plain(parameter.help or ""), _else(parameter))
        for parameter in command.params
        if (record := parameter.get_help_record(context)) and parameter.name != "help"
    ]
    if rows:
        yield table(("", "", "unless given"), rows)


def _else(parameter: Any) -> str:
    """What is taken where it is left out: a default, or a variable's value."""
    default = parameter.default
    shown = "" if default in (None, False, "") or callable(default) else code(str(default))
    if parameter.envvar:
        shown = f"{code(f'${parameter.envvar}')}, else {shown}" if shown else code(parameter.envvar)
    return "required" if parameter.required else shown
