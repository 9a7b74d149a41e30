"""The quiz's widget: an answer gets its feedback when it is checked, and the first counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.course import LESSONS, Lesson
from labkit.progress import Book, parse
from labkit.views.quiz import QuizView, score


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "progress.json")


def quiz_of(lesson: Lesson, book: Book) -> QuizView:
    def note(question: int, right: bool) -> dict[int, bool]:
        return book.answered(lesson.number, question, right=right).quiz(lesson.number)

    return QuizView(lesson.quiz, book.read().quiz(lesson.number), note)


def answer(view: QuizView, question: int, choice: int) -> None:
    view._asked(None, {"do": "answer", "question": question, "choice": choice}, [])


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: f"{lesson.number:02}")
def test_it_tells_nothing_before_an_answer_and_why_after_each(lesson: Lesson, book: Book) -> None:
    view = quiz_of(lesson, book)
    start = json.dumps(view.state)
    for number, question in enumerate(lesson.quiz.questions, 1):
        assert question.text in {each["text"] for each in view.state["questions"]}
        assert not any(json.dumps(choice.feedback) in start for choice in question.choices)
        for place, choice in enumerate(question.choices):
            answer(view, number, place)
            last = view.state["questions"][number - 1]["tried"][-1]
            assert last == {"choice": place, "right": choice.right, "feedback": choice.feedback}
    firsts = [question.choices[0].right for question in lesson.quiz.questions]
    assert view.state["score"] == f"{sum(firsts)} of 3 right at the first try."
    assert book.read().quiz(lesson.number) == dict(enumerate(firsts, 1))
    assert "Answers, with why: labkit quiz" in view.as_text()
    assert "<details>" in view.as_html()
    view.close()


def test_the_first_answer_counts_in_a_later_kernel_too(book: Book) -> None:
    lesson = LESSONS[0]
    choices = lesson.quiz.questions[0].choices
    right = next(place for place, choice in enumerate(choices) if choice.right)
    wrong = next(place for place, choice in enumerate(choices) if not choice.right)
    first = quiz_of(lesson, book)
    answer(first, 1, wrong)
    assert first.state["score"] == "0 of 1 right at the first try, 2 to go."
    again = quiz_of(lesson, book)
    answer(again, 1, right)
    answer(again, 1, right)
    assert again.state["score"] == first.state["score"]
    assert len(again.state["questions"][0]["tried"]) == 1
    assert score({}, 3) == ""


def test_a_file_of_before_there_were_quizzes_is_read(book: Book) -> None:
    old = {"version": 1, "checkpoints": {"01/policy": {"attempts": 2, "passed_at": 1.0}}}
    book.file.write_text(json.dumps(old))
    assert book.read().of(1, "policy").passed
    assert book.read().quizzes == {}
    book.answered(1, 2, right=True)
    book.checked(1, "rollback", passed=False)
    kept = json.loads(book.file.read_text())
    assert (kept["version"], kept["quizzes"]) == (1, {"01/2": True})
    assert set(kept["checkpoints"]) == {"01/policy", "01/rollback"}
    for broken in ('{"01/x": true}', '{"1": true}', "[1]"):
        with pytest.raises(ValueError, match=r"progress file|invalid literal"):
            parse('{"version": 1, "checkpoints": {}, "quizzes": ' + broken + "}")
