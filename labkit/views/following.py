"""Views that follow a lab: fed by its one watcher, and one of each kind in a kernel.

A cell that is run again shows the widget that there is, so nothing grows; closing a view
ends its subscription, and with the last one the watcher.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from labkit.lab import Lab
from labkit.snapshot import Snapshot
from labkit.views.base import Action, View
from labkit.watcher import Watcher

Draw = Callable[[Snapshot], Mapping[str, Any]]
"""Makes the state to be shown from a snapshot.  Pure."""

_KEPT: dict[tuple[Path, str], Any] = {}
_V = TypeVar("_V", bound="Following")


def one(kind: type[_V], lab: Lab, make: Callable[[], _V]) -> _V:
    """This kernel's view of this kind for this lab: made now, unless it is there and open."""
    key = (lab.paths.root, kind.__name__)
    found: _V | None = _KEPT.get(key)
    if found is None or found.comm is None:
        found = _KEPT[key] = make()
    return found


class Following(View):
    """A view whose state is drawn from each new snapshot.

    ``latest`` is the newest one; a paused view keeps what it shows, and catches up when it
    goes on.  It is fed from the watcher's thread, so that it lives while a cell runs.
    """

    def __init__(self, lab: Lab, draw: Draw, on: Mapping[str, Action] | None = None) -> None:
        watcher = Watcher.of(lab)
        self._draw = draw
        self._drawing = threading.RLock()
        self._is_made = False
        unsubscribe = watcher.subscribe(self._take)
        try:
            self.latest = watcher.look()
            super().__init__(draw(self.latest), on)
        except BaseException:
            unsubscribe()
            raise
        self.at_end(unsubscribe)
        self._is_made = True
        self.observe(lambda _: self.redraw(), "paused")
        self.redraw()

    def redraw(self) -> None:
        """Show what the newest snapshot says; safe to call from any thread."""
        with self._drawing:
            if self._is_made and self.comm is not None:
                self.show(self._draw(self.latest))

    def _take(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        self.redraw()
