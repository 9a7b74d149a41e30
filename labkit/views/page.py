"""The application's own page, live in a frame beside the notebook.

The frame leads through Jupyter's own door (``labkit.jupyter``), so it is there on Binder
and JupyterHub too, and only for the signed-in user.  What happens in it is the page's own
doing: it follows the application's events, shows a new version by itself, and says so to
the application, as it does in a browser tab.

As text it is what the page shows, passwords masked, and where each value was read from.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.errors import ClusterError
from labkit.views.base import View

if TYPE_CHECKING:
    from labkit.lab import Lab

NAMES = {"db_con": "connection", "db_user": "user", "db_password": "password"}
HEIGHT = 500
"""Of the frame, in CSS pixels: the connection's card as a whole in half a screen's width."""
MISSING = "There is no application yet. The frame shows its page as soon as there is one."


def show(lab: Lab, *, height: int = HEIGHT) -> Page:
    """The page of this lab's application; ``height`` is that of its frame in CSS pixels."""
    app = lab.app
    try:
        shown = app.credentials()
    except ClusterError:
        shown = None
    return Page(state_of(lab.name, app.url, shown, height=height))


def state_of(
    lab: str, url: str, shown: Mapping[str, Any] | None, *, height: int = HEIGHT
) -> dict[str, Any]:
    """What the view shows: where the frame leads, and ``shown`` (what the page shows,
    masked; None while there is none) as lines of text.

    ``door`` is below Jupyter's base URL, ``url`` the address on this machine without it.
    """
    return {
        "door": f"labkit/labs/{lab}/app/",
        "url": url,
        "height": height,
        "lines": _lines(shown) if shown else [MISSING],
    }


def _lines(shown: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{NAMES.get(key, key):<11} {value}   from the {source['kind']} {source['path']}, "
        f"line {source['line']}"
        for key, value in shown["values"].items()
        for source in [shown["sources"][key]]
    ]
    if error := shown.get("error"):
        what = "The file cannot be used now" if lines else "Nothing was read yet"
        lines.append(f"{what}: {error}")
    return lines


class Page(View, files="page"):
    """The frame.  Made by ``views.page(lab)``."""

    def as_text(self) -> str:
        return "\n".join(["The application's page", *(f"  {each}" for each in self.state["lines"])])

    def as_html(self) -> str:
        lines = html.escape("\n".join(self.state["lines"]))
        return f"<figure><figcaption>The application's page</figcaption><pre>{lines}</pre></figure>"
