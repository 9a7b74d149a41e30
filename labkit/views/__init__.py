"""Widgets for notebooks: thin, given what to show and what to call.

Each shows the same facts as its text, which is what is stored and read without a browser.
"""

from __future__ import annotations

from labkit.views.checkpoint import checkpoint

__all__ = ["checkpoint"]
