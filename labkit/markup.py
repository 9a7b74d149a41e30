"""Words for people, as HTML: escaped, and what stands in `backticks` as code."""

from __future__ import annotations

import html
import re


def as_html(text: str) -> str:
    """``text`` for a browser; safe for whatever is in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
