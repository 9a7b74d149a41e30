"""Bring a lab to a lesson's starting state, from wherever it is, and play its exercises.

The starting state is always reached the same way: everything that was made is taken away,
the lab sets itself up as far as the lesson wants it, and the lesson's own script does the
rest.  So it does not matter which lesson was before, or what is broken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from labkit.checks import Scene
from labkit.classroom import seat
from labkit.course.model import Exercise, Lesson
from labkit.course.script import check_names
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.play import Played, environment, must_play
from labkit.position import Position

Progress = Callable[[str], None]


def begin(
    lab: Lab, lesson: Lesson, names: Mapping[str, str] | None = None, *, progress: Progress
) -> Scene:
    """Put ``lab`` at the beginning of ``lesson``; safe to repeat, from any state.

    ``names`` are the learner's own for things of this lesson.  ``progress`` is told what
    changed.  Raises LabError (UsageError for names that cannot be).
    """
    chosen = check_names(lesson.names, names or {})

    def finish() -> None:
        if lesson.begin:
            script = lesson.render(lesson.begin, chosen)
            must_play(script, environment(lab), f"Setting up lesson {lesson.number:02}")

    there = Position(lesson.number, lesson.stage, chosen, argocd=lesson.argocd)
    lab.move_to(there, finish=finish, progress=progress)
    with contextlib.suppress(LabError):  # progress that cannot be read: the first look says so
        seat.book(lab.paths).begun(lesson.number)
    return Scene(lab, chosen)


def is_at(lab: Lab, lesson: Lesson, names: Mapping[str, str] | None = None) -> bool:
    """Whether the lab is in this lesson already, under these names."""
    here = lab.position
    wanted = check_names(lesson.names, names or {})
    return here.is_set and here.lesson == lesson.number and dict(here.names) == wanted


def solve(scene: Scene, lesson: Lesson, exercise: Exercise) -> Played:
    """Play the exercise's solution; raises LabError when it does not work."""
    return must_play(
        lesson.render(exercise.script, scene.names),
        environment(scene.lab),
        f"The solution of “{exercise.title}”",
    )


def undo(scene: Scene, lesson: Lesson, exercise: Exercise) -> Played:
    """Take the exercise back, so that it can be done again; safe to repeat."""
    return must_play(
        lesson.render(exercise.undo, scene.names),
        environment(scene.lab),
        f"Taking “{exercise.title}” back",
    )
