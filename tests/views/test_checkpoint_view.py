"""A checkpoint's widget over a real lab: each button, what settles by itself, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import nbformat
import pytest
from test_session import run_cells, shown

from course.build import clean, times
from labkit import live, session
from labkit.checks import Report, met, not_yet
from labkit.course import LESSONS, minutes
from labkit.lab import Lab
from labkit.session import Session
from labkit.views.checkpoint import SETTLING, Checkpoint, outcome, state_of

WIDGET = "application/vnd.jupyter.widget-view+json"
UNMET = not_yet("`a` is 1", "`a` is 2", next="Write 1 to `a`.")
SETTLES = not_yet("`b` is 1", "`b` is 2", next="Wait.", settling=True)


@pytest.fixture
def here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("LABKIT_LAB", lab.name)
    yield lab
    lab.reset()


def lesson(number: int) -> Session:
    return session.lesson(number, progress=lambda _: None)


def view_of(of: Session, name: str) -> Checkpoint:
    return Checkpoint(of, name, of.glance(name))


def press(view: Checkpoint, button: str) -> None:
    view._asked(None, {"do": button}, [])
    assert view.wait_done(60)
    assert not view.state["busy"]


# -- what is shown ---------------------------------------------------------------------


def test_a_report_as_state() -> None:
    state = state_of(Report("Title", (("a", UNMET), ("b", met("`c`")))), 7)
    assert not state["passed"]
    assert [finding["met"] for finding in state["findings"]] == [False, True]
    assert state["findings"][0]["observed"] == "`a` is 2"
    assert state["next"] == "Write 1 to `a`."
    assert state["left"] == "About 7 minutes left in this lesson."
    done = Report("Title", (("b", met("`c`")),))
    assert state_of(done, 1)["left"] == "About 1 minute left in this lesson."
    assert state_of(done)["left"] == ""
    assert (outcome(done), state_of(done)["next"]) == ("Passed.", "")


def test_the_times_are_those_of_the_build() -> None:
    for each in LESSONS:
        assert minutes.read()[f"{each.number:02}"] == times(each), "run `make notebooks`"
        for exercise in each.exercises:
            before = minutes.left(each.number, exercise.name, done=False)
            after = minutes.left(each.number, exercise.name, done=True)
            assert before is not None
            assert after is not None
            assert before > after > 0


# -- its buttons, over a real lab --------------------------------------------------------


def test_from_the_first_hint_to_the_end_and_back(here: Lab) -> None:
    of = lesson(1)
    view = view_of(of, "policy")
    assert not view.state["passed"]
    assert view.as_text().splitlines()[0].endswith(": not yet")
    press(view, "hint")
    steps = [hint["step"] for hint in view.state["hints"]]
    assert steps == [1, 2], "the first says what stands there already, so two come"
    press(view, "hint")
    assert [hint["step"] for hint in view.state["hints"]] == [1, 2, 3], "earlier ones stay"
    assert view.state["note"] == f"Hint 3 of {view.state['hints'][0]['of']} is shown."
    assert view.state["solution"] == ""
    press(view, "solution")
    assert view.state["solution"] == str(of.solution("policy"))
    before = view.state["left"]
    press(view, "solve")
    assert view.state["passed"]
    assert view.state["said"].startswith("The solution was played. Passed")
    assert "bao policy write" in view.state["ran"]
    assert view.state["left"] != before
    assert view.as_text().splitlines()[0].endswith(": passed")
    press(view, "undo")
    assert not view.state["passed"]
    assert "bao policy delete" in view.state["ran"]
    assert (view.state["solution"], view.state["hints"]) == ("", [])
    press(view, "check")
    assert view.state["said"].startswith("Not yet. Next: ")


def test_another_first_hint_begins_another_ladder(here: Lab) -> None:
    of = lesson(1)
    view = view_of(of, "policy")
    press(view, "hint")
    press(view, "hint")
    fault = next(f for f in of.lesson.exercise("policy").faults if "data/ is left out" in f.name)
    of.your_turn("policy", fault.script)
    press(view, "hint")
    assert [hint["step"] for hint in view.state["hints"]] == [1]
    assert "data/" in view.state["hints"][0]["text"]
    for _ in range(view.state["hints"][0]["of"]):
        press(view, "hint")
    assert "no other hint" in view.state["said"]
    of.solve("policy")
    press(view, "hint")
    assert view.state["passed"]
    assert "done already" in view.state["said"]


def test_a_problem_is_a_sentence_and_the_buttons_work_again(here: Lab) -> None:
    of = lesson(1)
    view = view_of(of, "policy")
    lesson(0)
    press(view, "check")
    assert "not in lesson 01 any more" in view.state["problem"]
    of.restart()
    press(view, "check")
    assert view.state["problem"] == ""


class Slow:
    """A session whose checkpoint settles until it is told to have settled."""

    lesson = LESSONS[0]

    def __init__(self) -> None:
        self.settled = threading.Event()
        self.ended = threading.Event()
        self.looks = 0

    def look(self, exercise: str, told: Callable[[Report], None]) -> Report:
        self.looks += 1
        try:
            while not self.settled.wait(0.01):
                told(self.glance(exercise))
        finally:
            self.ended.set()
        return Report("Title", (("b", met("`b` is 1")),))

    def glance(self, exercise: str) -> Report:
        return Report("Title", (("b", SETTLES),))

    def minutes_left(self, exercise: str, *, done: bool) -> int | None:
        return None


def slow_view(desk: Slow) -> Checkpoint:
    return Checkpoint(desk, "b", Report("Title", (("b", UNMET),)))  # type: ignore[arg-type]


def seen(view: Checkpoint, is_so: Callable[[], bool]) -> bool:
    """Wait until a change of the state makes it so."""
    changed = threading.Event()
    view.observe(lambda _: is_so() and changed.set(), "state")
    return is_so() or changed.wait(20)


def test_it_follows_what_settles_one_thing_at_a_time() -> None:
    desk = Slow()
    view = slow_view(desk)
    view.begin("check")
    assert seen(view, lambda: view.state["doing"] == SETTLING)
    assert view.state["findings"][0]["settling"]
    view.begin("check")
    desk.settled.set()
    assert view.wait_done(20)
    assert desk.looks == 1
    assert (view.state["passed"], view.state["busy"]) == (True, "")
    view.close()


def test_what_settles_after_the_cell_has_ended_is_followed_too() -> None:
    desk = Slow()
    live.Widgets(desk).checkpoint("b", desk.glance("b"))._repr_mimebundle_()  # type: ignore[arg-type]
    view = live._VIEWS[desk.lesson.number, "b"]
    assert seen(view, lambda: view.state["doing"] == SETTLING)
    desk.settled.set()
    assert view.wait_done(20)
    assert view.state["passed"]
    view.close()


def test_closing_it_ends_its_work() -> None:
    desk = Slow()
    view = slow_view(desk)
    view.begin("check")
    assert seen(view, lambda: view.state["doing"] == SETTLING)
    view.close()
    assert desk.ended.wait(20)
    assert view.wait_done(20)
    assert view.comm is None


# -- in a notebook ------------------------------------------------------------------------

FIRST = "import labkit\nlesson = labkit.lesson(1{})"
COUNT = "from ipywidgets.widgets.widget import _instances\nprint(len(_instances))"


def test_in_a_notebook_it_is_a_widget_with_the_same_text(here: Lab) -> None:
    cells = run_cells(
        FIRST.format(""),
        'lesson.check("policy")',
        "lesson.quiz()",
        "lesson.progress()",
        COUNT,
        *['lesson.check("policy")', "lesson.quiz()", "lesson.progress()"] * 3,
        FIRST.format(""),
        'lesson.check("policy")',
        COUNT,
        'lesson.solve("policy")\nlesson.check("policy")',
    )
    for cell in cells[1:4]:
        data = cell.outputs[0]["data"]
        assert WIDGET in data
        assert data["text/html"]
    assert cells[1].outputs[0]["data"]["text/plain"].splitlines()[0].endswith(": not yet")
    assert cells[-1].outputs[0]["data"]["text/plain"].splitlines()[0].endswith(": passed")
    assert WIDGET in cells[-1].outputs[0]["data"], "a passed one can be taken back"
    assert shown(cells[4]).strip() == shown(cells[-2]).strip(), "a widget too many"


def test_where_solutions_are_played_and_in_what_is_stored_there_is_none(here: Lab) -> None:
    cells = run_cells(
        FIRST.format(", solve=True"),
        "%%your_turn policy\n# anything",
        'lesson.check("policy")',
        "lesson.quiz()",
        FIRST.format(""),
        'lesson.check("policy")',
    )
    for cell in cells[2:4]:
        assert set(cell.outputs[0]["data"]) == {"text/plain", "text/html"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"a": 1}})
    assert WIDGET in cells[5].outputs[0]["data"]
    clean(notebook)
    assert set(notebook.cells[5].outputs[0]["data"]) == {"text/plain", "text/html"}
    assert "widgets" not in notebook.metadata


def test_what_a_cell_does_is_seen_in_the_widget(here: Lab) -> None:
    of = lesson(1)
    live.Widgets(of).checkpoint("policy", of.glance("policy"))._repr_mimebundle_()
    view = live._VIEWS[1, "policy"]
    of.solve("policy")
    assert view.state["passed"]
    of.undo("policy")
    assert not view.state["passed"]
    of.solve("policy")
    of.restart()
    assert not view.state["passed"]
    again = lesson(1)
    live.Widgets(again).checkpoint("policy", again.glance("policy"))._repr_mimebundle_()
    assert live._VIEWS[1, "policy"] is view
    assert view.desk is again
    view.close()
