"""The map of the course: what is passed, what is left, and that it follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.course import LESSONS, minutes
from labkit.coursemap import CourseMap
from labkit.progress import Book
from labkit.views.progress import ProgressView, state_of


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "progress.json")


def map_of(book: Book, here: int | None = 1) -> CourseMap:
    return CourseMap(LESSONS, book.read(), here)


def test_a_map_says_the_same_as_state_text_and_html(book: Book) -> None:
    book.checked(1, "rollback", passed=False)
    book.solved(1, "policy")
    book.checked(1, "policy", passed=True)
    book.answered(1, 1, right=True)
    book.answered(1, 2, right=False)
    shown = map_of(book)
    state = state_of(shown)
    assert (state["passed"], state["total"]) == (1, sum(len(each.exercises) for each in LESSONS))
    vault = state["lessons"][1]
    assert vault["here"]
    assert [each["here"] for each in state["lessons"]].count(True) == 1
    assert vault["sum"] == "1 of 2 passed"
    assert vault["file"] == "01-vault.ipynb"
    for text in (str(shown), shown.to_html()):
        for said in (
            "(rollback): not yet, 1 look",
            "(policy): passed, solution played",
            "Quiz: 1 of 2 right at the first try, 1 to go",
            f"about {minutes.of(1)} minutes",
            "you are here",
            f"1 of {state['total']} checkpoints passed, about {state['minutes_left']} minutes left",
        ):
            assert said in text
    assert '<a href="01-vault.ipynb">' in shown.to_html()


def test_what_is_left_gets_less_down_to_nothing(book: Book) -> None:
    left = [map_of(book).minutes_left]
    for lesson in LESSONS:
        for exercise in lesson.exercises:
            book.checked(lesson.number, exercise.name, passed=True)
            left.append(map_of(book).minutes_left)
    assert left[0] == sum(minutes.of(lesson.number) or 0 for lesson in LESSONS)
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert state_of(map_of(book))["left"] == "All is passed."
    assert all(each["done"] for each in state_of(map_of(book))["lessons"])


def test_it_looks_again_when_asked(book: Book) -> None:
    view = ProgressView(map_of(book), lambda: map_of(book))
    book.checked(0, "rename", passed=True)
    assert view.state["passed"] == 0
    view._asked(None, {"do": "look"}, [])
    assert view.state["passed"] == 1
    assert "[x] Rotate the user name (rename)" in view.as_text()
    assert view.as_html() == map_of(book).to_html()
    view.close()
