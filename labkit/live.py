"""What of a lesson is a widget where there is a browser: checkpoints, the quiz, the map.

They are made when they are displayed, not before, and there is one of each in a kernel: a
cell that is run again shows the one that there is, so nothing grows.  Elsewhere (papermill,
a terminal, a notebook that nobody runs) the same things are text and HTML.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from labkit import views
from labkit.checks import Report
from labkit.course.model import Lesson, Quiz
from labkit.coursemap import CourseMap

_QUIZ = "/quiz"  # no exercise is called so
_MAP = "/map"
_VIEWS: dict[tuple[int, str], Any] = {}  # this kernel's widgets, by lesson and what they show


class Host(Protocol):
    """Whose widgets they are: a session, which is a ``views.checkpoint.Desk`` besides."""

    lesson: Lesson

    def glance(self, exercise: str, /) -> Report:
        """Look once, without keeping it."""

    def answers(self) -> dict[int, bool]:
        """The questions that were answered."""

    def answered(self, question: int, right: bool, /) -> dict[int, bool]:
        """Keep an answer; returns all of them."""

    def map(self) -> CourseMap:
        """The course with what is passed."""


class Widgets:
    """The widgets of one session; those of an earlier one of the same lesson become its own."""

    def __init__(self, session: Host) -> None:
        self._session = session
        self._lesson = session.lesson.number

    # -- what is displayed ------------------------------------------------------------------

    def checkpoint(self, name: str, report: Report) -> Report:
        """The report, with buttons."""

        def view() -> Any:
            made = self._once(name, lambda: views.checkpoint(self._session, name, report))
            made.desk = self._session
            made.tell(report)
            if report.is_settling:  # it took longer than the cell waited
                made.begin("check")
            return made

        return LiveReport(report.title, report.findings, view)

    def quiz(self) -> Quiz:
        """The quiz, to be answered."""
        session = self._session
        questions = session.lesson.quiz

        def view() -> Any:
            made = self._once(
                _QUIZ, lambda: views.quiz(questions, session.answers(), session.answered)
            )
            made.note = session.answered
            return made

        return LiveQuiz(questions.questions, view)

    def map(self) -> CourseMap:
        """The map, which follows what is passed."""
        session = self._session
        found = session.map()

        def view() -> Any:
            made = self._once(_MAP, lambda: views.progress(found, session.map))
            made.read = session.map
            made.tell(found)
            return made

        return LiveMap(found.lessons, found.progress, found.here, view)

    # -- what they are told -----------------------------------------------------------------

    def tell(self, name: str, report: Report | None = None) -> None:
        """Let an exercise's widget show what was done from a cell; no report: it looks."""
        if view := self._open(name):
            view.tell(report or self._session.glance(name))

    def tell_map(self) -> None:
        """Let the map show what is passed by now."""
        if view := self._open(_MAP):
            view.tell(self._session.map())

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        view = self._open(what)
        if view is None:
            view = _VIEWS[self._lesson, what] = make()
        return view

    def _open(self, what: str) -> Any:
        """The widget that shows it already; None when there is none, or it was closed."""
        view = _VIEWS.get((self._lesson, what))
        return view if view is not None and view.comm is not None else None


class _Live:
    """A thing with a widget; as text it is what it always is."""

    view: Callable[[], Any]

    def _repr_mimebundle_(self, **_: object) -> Any:
        data, metadata = self.view()._repr_mimebundle_()
        return {**data, "text/plain": str(self)}, metadata


@dataclass(frozen=True)
class LiveReport(_Live, Report):
    """A report with buttons."""

    view: Callable[[], Any] = field(default=lambda: None, repr=False)


@dataclass(frozen=True)
class LiveQuiz(_Live, Quiz):
    """A quiz that can be answered."""

    view: Callable[[], Any] = field(default=lambda: None, repr=False)


@dataclass(frozen=True)
class LiveMap(_Live, CourseMap):
    """A map that follows what is passed."""

    view: Callable[[], Any] = field(default=lambda: None, repr=False)


class Text(str):
    """A sentence to the learner: shown as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)


class Script:
    """A shell script: folded away in a browser, plain elsewhere."""

    def __init__(self, text: str, title: str) -> None:
        self.text = text
        self.title = title

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/plain": self.text,
            "text/html": f"<details open><summary>One way to do “{html.escape(self.title)}”"
            f"</summary><pre>{html.escape(self.text)}</pre></details>",
        }
