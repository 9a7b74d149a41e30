"""The course as a map: what is passed, where one is, and a link to each lesson's notebook.

It is given the map (``coursemap.CourseMap``, by who knows it) and asks for a new one when
somebody presses its button; a session of this kernel tells it of changes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from labkit.views.base import View


class Map(Protocol):
    """What it shows."""

    def to_json(self) -> dict[str, Any]:
        """The map as data; see ``CourseMap.to_json``."""

    def to_html(self) -> str:
        """The same for a browser without a kernel."""


def state_of(course: Map) -> dict[str, Any]:
    """What is shown of a map: its data, and the sums in words."""
    data = course.to_json()
    for lesson in data["lessons"]:
        steps = lesson["steps"]
        passed = sum(step["done"] for step in steps)
        lesson["sum"] = f"{passed} of {len(steps)} passed"
        lesson["done"] = passed == len(steps)
    left = data["minutes_left"]
    data["left"] = f"About {left} minutes left in the course." if left else "All is passed."
    return data


class ProgressView(View, files="progress"):
    """The widget; ``read`` makes the map anew."""

    def __init__(self, first: Map, read: Callable[[], Map]) -> None:
        self._map = first
        self.read = read
        super().__init__(state_of(first), {"look": self._look})

    def tell(self, course: Map) -> None:
        """Show this map from now on."""
        self._map = course
        self.show(state_of(course))

    def as_text(self) -> str:
        return str(self._map)

    def as_html(self) -> str:
        return self._map.to_html()

    def _look(self, _: Mapping[str, Any]) -> None:
        self.tell(self.read())
