"""What labkit can say when something fails, collected from the code that says it.

Every failure that a person meets is a ``LabError`` with what failed and what to do next
(``labkit/errors.py``).  The syntax trees of the package are read for where these are made:
a page of all of them cannot lack one, and a page that quotes one can be checked.
"""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import dataclass
from functools import cache

from labkit import errors

from .markdown import plain, table
from .paths import REPO

GAP = "…"
"""Stands for whatever is put into a message when it is said."""

_KINDS = {
    name: found
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.LabError)
}
_INTERNAL = ("cluster/", "node/api", "node/downward")  # met in a log, if at all


@dataclass(frozen=True)
class Message:
    """One failure: its class, what is said of it, and the next step ("" where none fits all)."""

    kind: str
    what: str
    todo: str


def table_of_all() -> str:
    """A section for each class, with the class's own first sentence; plain ``LabError`` last."""
    kinds = sorted({each.kind for each in _messages()}, key=lambda kind: (kind == "LabError", kind))
    return "\n\n".join(map(_section, kinds))


def _section(kind: str) -> str:
    meaning = (_KINDS[kind].__doc__ or "").strip().splitlines()[0]
    rows = sorted({(each.what, each.todo) for each in _messages() if each.kind == kind})
    said = table(("says", "then"), ((plain(what), plain(todo) or "–") for what, todo in rows))
    return f"## {kind}\n\n{plain(meaning)}\n\n{said}"


def is_said(quoted: str) -> bool:
    """Whether the code holds a text in which ``quoted`` occurs; ``…`` stands for any of it."""
    pieces = [re.escape(piece.strip(" .")) for piece in quoted.split(GAP) if piece.strip(" .")]
    wanted = re.compile(".*?".join(pieces), re.DOTALL)
    return any(wanted.search(text) for text in _texts())


@cache
def _trees() -> tuple[tuple[str, ast.Module], ...]:
    package = REPO / "labkit"
    return tuple(
        (file.relative_to(package).as_posix(), ast.parse(file.read_text(encoding="utf-8")))
        for file in sorted(package.rglob("*.py"))
    )


@cache
def _messages() -> frozenset[Message]:
    found = set()
    for name, tree in _trees():
        if name.startswith(_INTERNAL):
            continue
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id in _KINDS:
                todo = next((word.value for word in node.keywords if word.arg == "todo"), None)
                then = " / ".join(_variants(todo)) if todo else ""
                found |= {Message(node.func.id, what, then) for what in _variants(node.args[0])}
    return frozenset(found)


@cache
def _texts() -> tuple[str, ...]:
    return tuple(
        text for _, tree in _trees() for node in ast.walk(tree) for text in _variants(node)
    )


def _variants(node: ast.AST) -> list[str]:
    """A text as it stands in the code, with gaps; of ``a if b else c``, both.  [] for no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return _variants(node.body) + _variants(node.orelse)
    if isinstance(node, ast.FormattedValue):
        return _variants(node.value) if isinstance(node.value, ast.IfExp) else [GAP]
    if isinstance(node, ast.JoinedStr):
        pieces = [_variants(part) or [GAP] for part in node.values]
        return ["".join(choice) for choice in itertools.product(*pieces)]
    return []
