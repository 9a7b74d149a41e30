"""Who can read what: a table of identities and things, filled by real reads on demand.

The reads are ``labkit.access``'s; here is what a table of them says, as a widget and as
text.  A verdict holds no value that was read, so none can be shown.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit import access, vault
from labkit.access import ALLOWED, DENIED, FAILED, Identity, Thing, Verdict
from labkit.views.base import View

if TYPE_CHECKING:
    from labkit.lab import Lab

WORDS = {ALLOWED: "Allowed", DENIED: "Denied", FAILED: "No answer", "": "Not tried"}
Verdicts = Mapping[tuple[Identity, Thing], tuple[Verdict, float]]
"""What was tried, each with its time in unix seconds."""


def show(
    lab: Lab,
    *,
    identities: Sequence[Identity] = access.IDENTITIES,
    things: Sequence[Thing] = access.THINGS,
    role: str = vault.ROLE,
    fill: bool = False,
) -> Access:
    """The table for this lab.  ``role`` is the one with which ServiceAccounts log in to
    Vault; ``fill`` tries everything at once, for whoever has no browser to press buttons."""
    tried: dict[tuple[Identity, Thing], tuple[Verdict, float]] = {}

    def state() -> dict[str, Any]:
        return state_of(identities, things, tried)

    def read(rows: Sequence[Identity], columns: Sequence[Thing]) -> None:
        root, engine = lab.vault, lab.engine
        for identity in rows:
            with access.Reader(lab.api, root, identity, role=role, engine=engine) as reader:
                for thing in columns:
                    tried[identity, thing] = (reader.read(thing), time.time())
            view.show(state())

    def read_one(asked: Mapping[str, Any]) -> dict[str, Any]:
        row, column = int(asked["row"]), int(asked["column"])
        read([identities[row]], [things[column]])
        return {"row": row, "column": column}

    def read_all(_: Mapping[str, Any]) -> None:
        read(identities, things)

    def forget(_: Mapping[str, Any]) -> None:
        tried.clear()
        view.show(state())

    view = Access(state(), {"try": read_one, "try-all": read_all, "forget": forget})
    if fill:
        read(identities, things)
    return view


def state_of(
    identities: Sequence[Identity], things: Sequence[Thing], tried: Verdicts
) -> dict[str, Any]:
    """What the table shows; ``cells`` has what was tried, by ``row-column``."""
    cells = {
        f"{row}-{column}": {
            "outcome": verdict.outcome,
            "word": WORDS[verdict.outcome],
            "rule": verdict.rule,
            "text": verdict.text,
            "said": verdict.said,
            "command": verdict.command,
            "at": at,
        }
        for row, identity in enumerate(identities)
        for column, thing in enumerate(things)
        for verdict, at in [tried.get((identity, thing), (None, 0.0))]
        if verdict is not None
    }
    return {
        "rows": [
            {"title": each.title, "about": each.about, "name": str(each)} for each in identities
        ],
        "columns": [
            {
                "title": each.title,
                "about": each.about,
                "group": "In Vault" if each.is_in_vault else "In Kubernetes",
            }
            for each in things
        ],
        "cells": cells,
        "summary": _summary(len(identities) * len(things), cells),
    }


def _summary(total: int, cells: Mapping[str, Mapping[str, Any]]) -> str:
    outcomes = [cell["outcome"] for cell in cells.values()]
    parts = [
        f"{outcomes.count(outcome)} {words}"
        for outcome, words in ((ALLOWED, "allowed"), (DENIED, "denied"), (FAILED, "no answer"))
        if outcome in outcomes
    ]
    return f"{len(cells)} of {total} reads tried" + (f": {', '.join(parts)}" if parts else "")


class Access(View, files="access"):
    """The table.  Made by ``views.access(lab)``."""

    def as_text(self) -> str:
        lines = [f"Who can read what ({self.state['summary']})"]
        width = max((len(column["title"]) for column in self.state["columns"]), default=0)
        for row, cells in self._table():
            lines.append(row["name"])
            lines += [
                f"  {cell['word']:<9}  {column['title']:<{width}}  {cell['rule']}".rstrip()
                for column, cell in cells
            ]
        return "\n".join(lines)

    def as_html(self) -> str:
        heads = "".join(
            f'<th scope="col">{html.escape(each["title"])}<br><small>{html.escape(each["about"])}'
            "</small></th>"
            for each in self.state["columns"]
        )
        rows = "".join(
            f'<tr><th scope="row">{html.escape(row["title"])}<br>'
            f"<small>{html.escape(row['about'])}</small></th>"
            + "".join(
                f"<td><b>{cell['word']}</b><br><small>{html.escape(cell['rule'])}</small></td>"
                for _, cell in cells
            )
            + "</tr>"
            for row, cells in self._table()
        )
        return (
            f"<table><caption>Who can read what ({html.escape(self.state['summary'])})</caption>"
            f"<thead><tr><th>Who</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _table(self) -> list[tuple[dict[str, Any], list[tuple[dict[str, Any], dict[str, Any]]]]]:
        untried = {"word": WORDS[""], "rule": ""}
        return [
            (
                row,
                [
                    (column, self.state["cells"].get(f"{i}-{j}", untried))
                    for j, column in enumerate(self.state["columns"])
                ],
            )
            for i, row in enumerate(self.state["rows"])
        ]
