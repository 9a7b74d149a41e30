"""A stored notebook as a page: what it is, and what would be alive in it.

The page is the notebook with its outputs as they were stored, run by nobody.  Three things
are added for whoever only reads: where the notebook is; a picture of each view that is
alive in a browser only (what a widget shows is in its kernel, so nothing of it is stored), or
a word where something else was not stored; and words for pictures that were.  Cells that are
a shell's are coloured as such.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from labkit import views

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

_VIEW = re.compile(r"^(?:views\.(?P<view>\w+)\(lab[^)]*\)|lesson\.(?P<map>progress)\(\))$", re.M)

_VARIES = "nbval-ignore-output"  # as course/build.py tags what is not stored

_PICTURES = {
    "journey": ("view-journey-light.png", "The way of each rotation, hop by hop"),
    "volume": ("view-volume-dark.png", "The mounted folder at the moment of its swap"),
    "page": ("app-light.png", "The application's page"),
}


def for_the_site(text: str, page: str) -> str:
    """The notebook's JSON with what a reader needs; ``page`` is its name without ``.ipynb``."""
    notebook = json.loads(text)
    cells: list[dict[str, Any]] = []
    for place, cell in enumerate(notebook["cells"]):
        _name_pictures(cell)
        cells.append(cell)
        if place == 0:
            cells.append(_markdown(_opening(page), place))
        elif instead := _instead(cell):
            cells.append(_markdown(instead, place))
    return json.dumps({**notebook, "cells": cells})


def colour_shells(_: Sphinx, doctree: document) -> None:
    """Cells of shell commands are in the shell's colours: Python's would stumble over them."""
    from docutils import nodes

    for block in doctree.findall(nodes.literal_block):
        if block.get("language") == "ipython3" and block.astext().startswith(("!", "%%your_turn")):
            block["language"] = "bash"


def _opening(page: str) -> str:
    name = page.rpartition("/")[2]
    return (
        f":::{{admonition}} To read\nThis is the notebook [{name}.ipynb](<path:{name}.ipynb>) "
        "with the outputs of its last run, its exercises solved. To do it yourself: "
        "[two commands](/README.md#two-commands).\n:::"
    )


def _instead(cell: dict[str, Any]) -> str:
    """What to say below a cell whose output is not stored; "" where nothing is missing."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code" or cell["outputs"] or _VARIES not in _tags(cell):
        return ""
    if found := _VIEW.search(source):
        return _picture(found["view"] or found["map"])
    if source.startswith("%%") or "labkit.lesson(" in source:  # the reader's own, or a beginning
        return ""
    return "*What this prints differs from run to run, so it is not stored.*"


def _picture(name: str) -> str:
    if name in _PICTURES:
        file, caption = _PICTURES[name]
        return (
            f":::{{figure}} /docs/images/{file}\n:alt: {caption}\n\n"
            f"{caption}: alive in the notebook, here a picture.\n:::"
        )
    meaning = (getattr(views, name).__doc__ or "").partition(" (see")[0]
    return f"*Alive in the notebook:* {' '.join(meaning.split()).rstrip('.')}."


def _tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def _name_pictures(cell: dict[str, Any]) -> None:
    """Give a stored picture the first line of its text, for whoever does not see it."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data and "text/plain" in data:
            words = "".join(data["text/plain"]).strip().splitlines()[0]
            cell["metadata"]["mystnb"] = {"image": {"alt": words}}


def _markdown(text: str, number: int) -> dict[str, Any]:
    return {"id": f"site-{number}", "cell_type": "markdown", "metadata": {}, "source": text}
