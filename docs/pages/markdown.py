"""Bits of Markdown for the pages that are made: text that stays text, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\*_\[\]<>#|$~])")
_CODE = re.compile(r"(`[^`]+`)")


def plain(text: str) -> str:
    """Text as it is, on one line: only what stands between backticks is marked up, as code."""
    pieces = _CODE.split(" ".join(text.split()))
    # In a table, a bar ends the cell even within code.
    return "".join(
        piece.replace("|", "\\|") if piece.startswith("`") else _SPECIAL.sub(r"\\\1", piece)
        for piece in pieces
    )


def code(text: str) -> str:
    """Text as code, also in a table."""
    fence = "``" if "`" in text else "`"
    inner = f" {text} " if "`" in text else text
    return f"{fence}{inner}{fence}".replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
