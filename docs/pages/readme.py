"""A section of README.md at another place, so that a figure is measured and written once."""

from __future__ import annotations

import re

from .paths import REPO


def section(title: str) -> str:
    """What stands below ``## title``, up to the next heading; raises ValueError if nothing does."""
    text = (REPO / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no section called {title!r}")
    return found[1].strip()
