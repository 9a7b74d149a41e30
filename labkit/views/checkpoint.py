"""A checkpoint with its buttons: check again, a hint, a solution, solve and go on, take back.

It shows a report, and what its buttons did.  What a checkpoint looks at, and how an
exercise is solved, is its ``Desk``'s business: the notebook's session.  Everything that
takes time is done in a thread, so that the kernel stays free and the report is drawn anew
while things settle; one thing at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from labkit.checks import Hint, Report
from labkit.errors import LabError
from labkit.kernel import said
from labkit.views.base import View


class Desk(Protocol):
    """What does the work; each method is of the exercise of that name."""

    def look(self, exercise: str, told: Callable[[Report], None]) -> Report:
        """Check; each report on the way is told."""

    def glance(self, exercise: str) -> Report:
        """Look once, without counting it as the learner's attempt."""

    def next_hint(self, exercise: str) -> Hint | None:
        """One hint more; None when there is no other."""

    def commands(self, exercise: str, *, undo: bool = False) -> str:
        """The script that solves it, or that takes it back."""

    def solve(self, exercise: str) -> Report:
        """Play the solution, and check."""

    def undo(self, exercise: str) -> object:
        """Take it back."""

    def minutes_left(self, exercise: str, *, done: bool) -> int | None:
        """To the lesson's end; None when that is not known."""


DOING = {
    "check": "Looking at the cluster and at Vault…",
    "hint": "Looking for what would help…",
    "solution": "Fetching a solution…",
    "solve": "Playing the solution…",
    "undo": "Taking it back…",
}
NO_MORE = "There is no other hint. A solution shows one way to do it."
SETTLING = "Still settling: looking again by itself…"


def state_of(report: Report, minutes: int | None = None) -> dict[str, Any]:
    """What is shown of a report.  ``minutes`` are left in the lesson."""
    unmet = report.first_unmet
    return {
        "title": report.title,
        "passed": report.passed,
        "findings": [
            {
                "met": finding.is_met,
                "settling": finding.settling,
                "expected": finding.expected,
                "observed": finding.observed,
            }
            for _, finding in report.findings
        ],
        "next": unmet.next if unmet else "",
        "left": "" if minutes is None else left(minutes),
    }


def left(minutes: int) -> str:
    """Minutes as a sentence."""
    return f"About {minutes} minute{'' if minutes == 1 else 's'} left in this lesson."


def outcome(report: Report) -> str:
    """A report in a sentence, for whoever hears it."""
    if report.passed:
        return "Passed."
    unmet = report.first_unmet
    return f"Not yet. Next: {unmet.next}" if unmet else "Not yet."


class Checkpoint(View, files="checkpoint"):
    """The widget of one exercise.  ``desk`` may be replaced, when the session is."""

    def __init__(self, desk: Desk, exercise: str, first: Report) -> None:
        self.desk = desk
        self.exercise = exercise
        self._report = first
        self._free = threading.Event()
        self._free.set()
        self._closed = False
        self._change = threading.Lock()
        more = {"busy": "", "doing": "", "said": "", "note": "", "problem": "", "at": 0.0}
        super().__init__(
            {**self._state_of(first), **more, "hints": [], "solution": "", "ran": ""},
            {name: self._starter(name) for name in DOING},
        )

    # -- what it is told -------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """Show this report: somebody looked, a cell perhaps."""
        self._report = report
        self._set(**self._state_of(report), **_said(""), problem="", at=time.time())

    def wait_done(self, timeout: float) -> bool:
        """Wait until what was begun has ended; False when ``timeout`` seconds were too few."""
        return self._free.wait(timeout)

    def close(self) -> None:
        """End it; what a thread is at is the last that it does."""
        self._closed = True
        super().close()

    def as_text(self) -> str:
        return str(self._report)

    def as_html(self) -> str:
        return self._report.to_html()

    # -- what its buttons do -----------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Begin what the button ``name`` does; nothing when something is under way."""
        with self._change:
            if not self._free.is_set() or self._closed:
                return
            self._free.clear()
        self._set(busy=name, doing=DOING[name], **_said(""), problem="")
        threading.Thread(
            target=self._work, args=(name,), name=f"checkpoint {self.exercise}", daemon=True
        ).start()

    def _starter(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        return lambda _: self.begin(name)

    def _work(self, name: str) -> None:
        actions: dict[str, Callable[[], dict[str, Any]]] = {
            "check": self._check,
            "hint": self._hint,
            "solution": self._solution,
            "solve": self._solve,
            "undo": self._undo,
        }
        changes: dict[str, Any] = {}
        try:
            changes = actions[name]()
        except _ClosedError:
            pass
        except Exception as error:
            sentence = str(error) if isinstance(error, LabError) else said(error)
            changes = {"problem": sentence or f"{type(error).__name__}: {error}"}
            if sentence is None:
                raise  # a mistake of ours: its traceback goes where the kernel's go
        finally:
            self._set(busy="", doing="", at=time.time(), **changes)
            self._free.set()

    def _check(self) -> dict[str, Any]:
        report = self.desk.look(self.exercise, self._settling)
        note = "Looked again: passed." if report.passed else "Looked again: not yet."
        return {**self._taken(report), **_said(outcome(report), note)}

    def _settling(self, report: Report) -> None:
        if self._closed:
            raise _ClosedError
        if report.is_settling:
            self._set(**self._state_of(report), doing=SETTLING)

    def _hint(self) -> dict[str, Any]:
        hint = self.desk.next_hint(self.exercise)
        if hint is None:
            report = self.desk.glance(self.exercise)
            none = "It is done already." if report.passed else NO_MORE
            return {**self._taken(report), **_said(none)}
        shown = [each for each in self.state["hints"] if each["step"] < hint.step]
        shown.append(vars(hint))
        if hint.text == self.state["next"] and (more := self.desk.next_hint(self.exercise)):
            shown.append(vars(hint := more))  # the first said nothing new
        return {"hints": shown, **_said(str(hint), f"Hint {hint.step} of {hint.of} is shown.")}

    def _solution(self) -> dict[str, Any]:
        return {"solution": self.desk.commands(self.exercise), **_said("A solution is shown.")}

    def _solve(self) -> dict[str, Any]:
        report = self.desk.solve(self.exercise)
        end = "Passed: go on with the next cell." if report.passed else outcome(report)
        return {
            **self._taken(report),
            **_said(f"The solution was played. {end}"),
            "ran": self.desk.commands(self.exercise),
        }

    def _undo(self) -> dict[str, Any]:
        self.desk.undo(self.exercise)
        return {
            **self._taken(self.desk.glance(self.exercise)),
            **_said("Taken back: do it again."),
            "solution": "",
            "hints": [],
            "ran": self.desk.commands(self.exercise, undo=True),
        }

    # -- together ----------------------------------------------------------------------------

    def _taken(self, report: Report) -> dict[str, Any]:
        self._report = report
        return self._state_of(report)

    def _state_of(self, report: Report) -> dict[str, Any]:
        return state_of(report, self.desk.minutes_left(self.exercise, done=report.passed))

    def _set(self, **changes: Any) -> None:
        with self._change:  # threads and the kernel's own change it
            if not self._closed:
                self.show({**self.state, **changes})


def _said(sentence: str, note: str = "") -> dict[str, str]:
    """What is heard, and what stands there: less, when the rest can be seen elsewhere."""
    return {"said": sentence, "note": note or sentence}


class _ClosedError(Exception):
    """The view was closed under the thread that works for it."""
