"""Widgets for notebooks: thin, given what to show and what to call.

Each shows the same facts as its text, which is what is stored and read without a browser.
What makes a widget is imported when it is asked for: the command line needs none of it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.lab import Lab

__all__ = [
    "access",
    "apptree",
    "checkpoint",
    "cluster",
    "control",
    "journey",
    "page",
    "progress",
    "quiz",
    "volume",
]


def access(lab: Lab, **options: Any) -> Any:
    """Who can read what: a table that is filled by real reads (see ``views.access``)."""
    from labkit.views.access import show

    return show(lab, **options)


def apptree(lab: Lab) -> Any:
    """Argo CD's Applications as trees of what they deploy, live (see ``views.apptree``)."""
    from labkit.views.apptree import show

    return show(lab)


def control(lab: Lab) -> Any:
    """Buttons: rotate, choose refreshInterval, break and mend (see ``views.control``)."""
    from labkit.views.control import show

    return show(lab)


def cluster(lab: Lab) -> Any:
    """A map of what is in the cluster, live; a click shows an object's YAML and events (see
    ``views.cluster``)."""
    from labkit.views.cluster import show

    return show(lab)


def journey(lab: Lab) -> Any:
    """Every rotation hop by hop, drawn as it happens (see ``views.journey``)."""
    from labkit.views.journey import show

    return show(lab)


def page(lab: Lab, **options: Any) -> Any:
    """The application's own page, live in a frame (see ``views.page``)."""
    from labkit.views.page import show

    return show(lab, **options)


def volume(lab: Lab, **options: Any) -> Any:
    """A mounted Secret's folder and its swap, with what no swap reaches beside it (see
    ``views.volume``)."""
    from labkit.views.volume import show

    return show(lab, **options)


def checkpoint(desk: Any, exercise: str, first: Any) -> Any:
    """An exercise's checkpoint with its buttons (see ``views.checkpoint``)."""
    from labkit.views.checkpoint import Checkpoint

    return Checkpoint(desk, exercise, first)


def quiz(questions: Any, kept: Any, note: Any) -> Any:
    """A lesson's questions, to be answered (see ``views.quiz``)."""
    from labkit.views.quiz import QuizView

    return QuizView(questions, kept, note)


def progress(first: Any, read: Any) -> Any:
    """The course with what is passed (see ``views.progress``)."""
    from labkit.views.progress import ProgressView

    return ProgressView(first, read)


class _Package(ModuleType):
    """A package whose functions keep their names.

    Importing ``labkit.views.access`` would else put the module in the function's place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
