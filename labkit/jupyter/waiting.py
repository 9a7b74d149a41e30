"""What is shown where there is no application yet: what to do, until it is there.

A page that looks again by itself; whoever asked for data gets the same words as JSON.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).with_name("waiting.html")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def words(status: Mapping[str, Any]) -> tuple[str, str]:
    """What is missing, and what to do, of a lab's status (``lookout.Lookout.status``)."""
    if not status["running"]:
        return (
            "The lab is not running",
            "Run the first cells of a lesson's notebook, or `labkit up` in a terminal.",
        )
    if status["app"]:
        return (
            "The application does not answer",
            "Its pod may be starting, or waiting for its Secret: `kubectl -n demo get pods`.",
        )
    if status["lesson"] is not None:
        return (
            "There is no application yet",
            f"The lab is in lesson {status['lesson']:02}, which begins without it. "
            "You deploy it in lesson 05; `labkit reset` in a terminal brings it at once.",
        )
    return ("There is no application", "`labkit up` in a terminal brings it back.")


def answer(handler: Any, status: Mapping[str, Any]) -> None:
    """Answer with 503 and the words for ``status``; a browser gets a page."""
    what, todo = words(status)
    handler.set_status(503)
    handler.set_header("Retry-After", "2")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Content-Security-Policy", _POLICY)
    if "text/html" in handler.request.headers.get("Accept", ""):
        handler.set_header("Content-Type", "text/html; charset=utf-8")
        page = _PAGE.read_text()
        handler.finish(page.replace("{what}", html.escape(what)).replace("{todo}", _coded(todo)))
    else:
        handler.set_header("Content-Type", "application/json")
        handler.finish(json.dumps({"what": what, "todo": todo}))


def _coded(text: str) -> str:
    """The text as HTML, with what stands in backticks as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
