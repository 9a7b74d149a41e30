"""Every checkpoint of every lesson, proven both ways on a real lab.

It fails before the step and passes after it; each of its expectations catches the mistake
that it is there for, the first hint then speaks of that mistake, and taking the step back
and solving it again is possible after each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import staging
from labkit.checks import Scene
from labkit.course import LESSONS, Lesson
from labkit.course.model import Exercise
from labkit.course.script import BLANK, render
from labkit.lab import Lab
from labkit.play import environment, play

EXERCISES = [
    pytest.param(lesson, exercise, id=f"{lesson.number:02}-{exercise.name}")
    for lesson in LESSONS
    for exercise in lesson.exercises
]


def other_names(lesson: Lesson) -> dict[str, str]:
    """Names that are not the lesson's own, so that nothing can be hard-coded."""
    return {key: f"x{value}x" for key, value in lesson.names.items()}


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Iterator[dict[int, Scene]]:
    """The scene of the lesson that the lab is in; begun when it is asked for."""
    yield {}
    lab.reset()


def scene_of(lab: Lab, lesson: Lesson, stage: dict[int, Scene]) -> Scene:
    if lesson.number not in stage:
        stage.clear()
        stage[lesson.number] = staging.begin(lab, lesson, other_names(lesson), progress=print)
        for earlier in lesson.exercises:
            assert not earlier.check(stage[lesson.number], patience=0).passed, earlier.name
    return stage[lesson.number]


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_a_checkpoint_fails_before_passes_after_and_catches_each_mistake(
    lab: Lab, stage: dict[int, Scene], lesson: Lesson, exercise: Exercise
) -> None:
    scene = scene_of(lab, lesson, stage)
    before = exercise.check(scene, patience=0)
    assert not before.passed
    assert exercise.hints_for(before)
    staging.solve(scene, lesson, exercise)
    report = exercise.check(scene)
    assert report.passed, str(report)
    assert exercise.hints_for(report) == ()
    for fault in exercise.faults:
        made = play(lesson.render(fault.script, scene.names), environment(lab))
        broken = exercise.check(scene)
        seen = {title: finding.is_met for title, finding in broken.findings}
        assert seen.get(fault.breaks.title) is False, f"{fault.name}: {made.output}\n{broken}"
        first = exercise.hints_for(broken)[0]
        assert fault.hint.lower() in first.lower(), f"{fault.name}: {first}"
        staging.undo(scene, lesson, exercise)
        staging.undo(scene, lesson, exercise)
        assert not exercise.check(scene, patience=0).passed, f"{fault.name}: after undo"
        staging.solve(scene, lesson, exercise)
        again = exercise.check(scene)
        assert again.passed, f"{fault.name}: {again}"


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_each_expectation_has_a_mistake_that_it_alone_catches_first(
    lesson: Lesson, exercise: Exercise
) -> None:
    caught = {fault.breaks.title for fault in exercise.faults}
    assert caught == {expectation.title for expectation in exercise.expectations}


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES)
def test_the_learners_cell_comes_from_the_solution(lesson: Lesson, exercise: Exercise) -> None:
    starter = exercise.starter
    if exercise.blanks is None:
        assert all(line.startswith("#") for line in starter.split("\n") if line)
        return
    assert starter.count(BLANK) == len(exercise.blanks)
    filled = starter
    for piece in exercise.blanks:
        filled = filled.replace(BLANK, piece.partition("⟦")[2].partition("⟧")[0], 1)
    # Blanks are filled in from top to bottom here: declare them in that order.
    assert exercise.script in filled


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: f"{lesson.number:02}")
def test_a_lesson_is_whole(lesson: Lesson) -> None:
    assert lesson.begins_with
    assert len(lesson.quiz.questions) == 3
    for question in lesson.quiz.questions:
        assert [choice.right for choice in question.choices].count(True) == 1
        assert all(choice.feedback for choice in question.choices)
    scripts = [lesson.begin, *(exercise.script for exercise in lesson.exercises)]
    for key, name in lesson.names.items():
        assert any(name in script for script in scripts), f"no script uses {key}={name}"


def test_names_are_replaced_as_whole_words_and_all_at_once() -> None:
    defaults = {"a": "team", "b": "team-blue"}
    text = "team team-blue steam team_x -team- team"
    assert render(text, defaults, {"a": "team-blue", "b": "team"}) == (
        "team-blue team steam team_x -team- team-blue"
    )
