"""One helper for error texts, shared by the modules of this package."""

from __future__ import annotations


def short(error: object) -> str:
    """The first line of an error, at most 300 characters."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
