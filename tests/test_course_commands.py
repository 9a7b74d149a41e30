"""The course in a terminal: the same lessons and checkpoints, the same words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from labkit.course import LESSONS
from labkit.lab import Lab

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def afterwards(lab: Lab) -> Iterator[None]:
    yield
    lab.reset()


def test_a_lesson_is_done_from_a_terminal(lab: Lab, labkit: Run) -> None:
    at = ("--name", lab.name)
    lab.paths.progress.unlink(missing_ok=True)
    begun = labkit("lesson", "1", "policy=mine", *at)
    assert begun.returncode == 0, begun.stderr
    assert "begins" in begun.stdout
    first = labkit("check", *at, "--json")
    assert first.returncode == 1
    found = json.loads(first.stdout)
    assert found["lesson"] == 1
    assert [each["passed"] for each in found["exercises"]] == [False, False]
    unmet = [f for each in found["exercises"] for f in each["findings"] if not f["met"]]
    assert all(f["expected"] and f["observed"] and f["next"] for f in unmet)
    assert "mine" in first.stdout
    assert "Hint 1 of" in labkit("hint", "policy", *at).stdout
    second = labkit("hint", "policy", *at).stdout
    assert "Hint 2 of" in second
    assert "bao policy write mine" in labkit("solution", "policy", *at).stdout
    for name in ("policy", "rollback"):
        assert labkit("solve", name, *at).returncode == 0
    assert labkit("check", *at).returncode == 0
    assert labkit("undo", "policy", *at).returncode == 0
    again = labkit("check", "1", *at)
    assert again.returncode == 1
    assert "lesson." not in again.stdout, "a terminal has no lesson object"
    shown = labkit("progress", *at).stdout
    assert "A policy that reads one path only (policy): passed, solution played" in shown
    assert "<- you are here" in shown
    assert "yes:" in labkit("quiz", *at).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "0"), "Begin it: `labkit lesson 0"),
        (("lesson", "77"), "There is no lesson 77"),
        (("lesson", "1", "polcy=x"), "It lets you name: key, policy, other"),
        (("lesson", "1", "policy"), "Write key=value"),
        (("hint", "nope"), "It has: rollback, policy"),
        (("solve", "nope"), "It has: rollback, policy"),
        (("progress", "--export", "/proc/nope"), "cannot be written"),
    ],
)
def test_wrong_words_get_a_sentence(
    lab: Lab, labkit: Run, words: tuple[str, ...], says: str
) -> None:
    if lab.position.lesson != 1:
        assert labkit("lesson", "1", "--name", lab.name).returncode == 0
    done = labkit(*words, "--name", lab.name)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_lesson_or_a_lab_it_says_what_to_do(lab: Lab, labkit: Run) -> None:
    assert labkit("reset", "--name", lab.name).returncode == 0
    assert "Begin one: `labkit lesson 1" in labkit("check", "--name", lab.name).stderr
    assert "labkit up" in labkit("check", "--name", "nobody").stderr
    shown = labkit("lesson", "--name", "nobody").stdout
    assert all(lesson.label in shown for lesson in LESSONS)
