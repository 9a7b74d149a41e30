"""What every view is: a thin widget that shows plain data, and the same as text.

A view has a ``.js`` and a ``.css`` of its own beside it and gets what it shows as JSON
(``state``).  It asks for nothing itself: whoever makes it gives it data, or the watcher's
snapshots, and what its buttons do.  Closing a view, or the kernel's end, ends its work.

Where there is no browser (papermill, GitHub, a terminal), ``as_text`` and ``as_html`` say
the same.  Source of the module format: anywidget.dev, "AnyWidget Front-End Module".
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.errors import LabError

_HERE = Path(__file__).parent
Action = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""What a button does: gets the message from the browser, may return a message to it."""


class View(anywidget.AnyWidget):
    """The base of all views.

    A subclass is made with ``class Journey(View, files="journey")``, which takes
    ``journey.js`` and ``journey.css`` from this folder (after ``base.js``, which makes
    elements, and ``base.css``, which has the colours of both themes).  ``state`` is what is
    shown (JSON, no secrets); ``on`` names what the browser may ask for with
    ``model.send({"do": NAME, …})``; the answer comes back as ``{"did": NAME, …}``, or with
    ``"error"`` when a LabError was raised.
    """

    state = traitlets.Dict().tag(sync=True)
    paused = traitlets.Bool(default_value=False).tag(sync=True)

    def __init_subclass__(cls, *, files: str = "", **kwargs: Any) -> None:
        if files:
            cls._esm, cls._css = (
                (_HERE / f"base.{kind}").read_text() + (_HERE / f"{files}.{kind}").read_text()
                for kind in ("js", "css")
            )
        super().__init_subclass__(**kwargs)

    def __init__(self, state: Mapping[str, Any], on: Mapping[str, Action] | None = None) -> None:
        super().__init__(state=dict(state))
        self._on = dict(on or {})
        self._ends: list[Callable[[], None]] = []
        self.on_msg(self._asked)

    # -- what subclasses say ---------------------------------------------------------------

    def as_text(self) -> str:
        """The same facts as plain text, for whoever has no browser."""
        raise NotImplementedError

    def as_html(self) -> str:
        """The same facts as static HTML; the text, unless a subclass has better."""
        return f"<pre>{html.escape(self.as_text())}</pre>"

    # -- what others do with it --------------------------------------------------------------

    def show(self, state: Mapping[str, Any]) -> None:
        """Show this from now on; nothing is sent when it is what is shown already."""
        if not self.paused and dict(state) != self.state:
            self.state = dict(state)

    def at_end(self, end: Callable[[], None]) -> None:
        """Call ``end`` once the view is closed (to unsubscribe from a watcher, say)."""
        self._ends.append(end)

    def close(self) -> None:
        """End the view and its work; safe to repeat."""
        while self._ends:
            self._ends.pop()()
        super().close()

    def _asked(self, _: Any, content: Any, __: Any) -> None:
        name = content.get("do") if isinstance(content, dict) else None
        if name not in self._on:
            return
        answer: dict[str, Any] = {"did": name}
        try:
            answer |= self._on[name](content) or {}
        except LabError as error:
            answer["error"] = str(error)
        self.send(answer)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        found = super()._repr_mimebundle_(**kwargs)
        data, metadata = found if isinstance(found, tuple) else (found, {})
        return {**(data or {}), "text/plain": self.as_text(), "text/html": self.as_html()}, metadata

    def __repr__(self) -> str:
        return self.as_text()
