"""Widgets for notebooks: thin, given what to show and what to call.

Each shows the same facts as its text, which is what is stored and read without a browser.
What makes a widget is imported when it is asked for: the command line needs none of it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from labkit.views.checkpoint import checkpoint

if TYPE_CHECKING:
    from labkit.lab import Lab

__all__ = ["access", "checkpoint"]


def access(lab: Lab, **options: Any) -> Any:
    """Who can read what: a table that is filled by real reads (see ``views.access``)."""
    from labkit.views.access import show

    return show(lab, **options)


class _Package(ModuleType):
    """A package whose functions keep their names.

    Importing ``labkit.views.access`` would else put the module in the function's place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
