"""A lesson in a notebook: checkpoints, hints, solutions, and the learner's own cells.

    lesson = labkit.lesson(3)
    lesson.check("store")

``%%your_turn NAME`` runs a cell as a shell script, once its blanks are filled in.  With
``solve=True`` (papermill's parameter) it plays the solution in place of what stands there.
What a lesson is made of is the course's; what was passed is kept by ``progress``.  What
of it is a widget in a browser is ``live``'s.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from labkit import course, staging
from labkit import lab as labs
from labkit.checks import Hint, Report, Scene
from labkit.classroom import seat
from labkit.course import minutes
from labkit.course.model import Exercise, Lesson, Quiz
from labkit.course.script import BLANK, blanks_in, has_commands
from labkit.coursemap import CourseMap
from labkit.errors import LabError
from labkit.kernel import token_lines
from labkit.live import Script, Text, Widgets
from labkit.play import environment, play

SOLVE = "LABKIT_SOLVE"
"""Set to play all solutions, for runs that cannot pass a parameter (nbval)."""


def lesson(
    number: int,
    *,
    solve: bool = False,
    progress: Callable[[str], None] = print,
    **names: str,
) -> Session:
    """Begin lesson ``number`` in the running lab, or go on with it.

    A lab that is elsewhere is brought to this lesson's starting state; one that is in
    this lesson already keeps what the learner has made (``lesson.restart()`` does not).
    ``names`` are the learner's own for the lesson's things (see ``Lesson.names``);
    ``solve`` plays the solution in each ``%%your_turn`` cell.  Raises NoLab, UsageError.
    """
    found = course.find(number)
    lab = labs.attach()
    if staging.is_at(lab, found, names):
        scene = Scene(lab, lab.position.names)
        progress(
            f"Lesson {found.label}: going on where you were. "
            "lesson.restart() takes everything back to its beginning."
        )
        if not lab.is_in_order():
            progress("Careful: something that this lesson began with is missing or broken.")
    else:
        scene = staging.begin(lab, found, names, progress=progress)
        progress(_opening(found))
    if found.argocd:
        lab.enter()  # its commands, argocd and helm, and what git needs are only there now
    session = Session(found, scene, solve=solve or os.environ.get(SOLVE) == "1")
    session.register()
    return session


def _opening(found: Lesson) -> str:
    missing = f" Not there yet: {found.missing}." if found.missing else ""
    return f"Lesson {found.label} begins. There is: {found.begins_with}.{missing}"


class Session:
    """One lesson under way.  Made by ``labkit.lesson``."""

    def __init__(self, lesson: Lesson, scene: Scene, *, solve: bool = False) -> None:
        self.lesson = lesson
        self.scene = scene
        self._solve = solve
        self._book = seat.book(scene.lab.paths)
        self._shown: dict[tuple[str, str], int] = {}  # hints so far, by ladder
        self._widgets = Widgets(self)
        self._one_at_a_time = threading.RLock()  # buttons work in threads, beside the cells

    def __repr__(self) -> str:
        passed = sum(
            self._book.read().of(self.lesson.number, each.name).passed
            for each in self.lesson.exercises
        )
        return f"<lesson {self.lesson.label}: {passed} of {len(self.lesson.exercises)} passed>"

    # -- what a learner calls ----------------------------------------------------------

    def check(self, name: str) -> Report:
        """Look at the cluster and at Vault: is the exercise done?  Says what to do next."""
        report = self.look(name)
        return self._widgets.checkpoint(name, report) if self.has_widgets else report

    def hint(self, name: str) -> Text:
        """The next hint.  The first one is chosen by what your cluster shows."""
        rungs = self._ladder(name)
        if not rungs:
            return Text(self._done(name))
        hint = self._climb(name, rungs)
        return Text(self._rung(name, rungs, len(rungs) + 1) if hint is None else str(hint))

    def hints(self, name: str, count: int) -> list[str]:
        """The first ``count`` hints, for whoever keeps no session (a terminal)."""
        rungs = self._ladder(name)
        if not rungs:
            return [self._done(name)]
        self._book.hinted(self.lesson.number, name, min(count, len(rungs)))
        last = min(count, len(rungs) + 1)
        return [self._rung(name, rungs, step) for step in range(1, last + 1)]

    def _climb(self, name: str, rungs: tuple[str, ...]) -> Hint | None:
        """One rung up; None at the top."""
        key = (name, rungs[0])  # another first hint is another ladder
        step = self._shown.get(key, 0) + 1
        if step > len(rungs):
            return None
        self._shown[key] = step
        self._book.hinted(self.lesson.number, name, step)
        return Hint(step, len(rungs), self._local(rungs[step - 1]))

    def _exercise(self, name: str) -> Exercise:
        """The exercise, if the lab is (still) in this lesson; raises LabError otherwise."""
        here = self.scene.lab.position
        if here.lesson != self.lesson.number or not here.is_set:
            where = "no lesson" if here.lesson is None else f"lesson {here.lesson:02}"
            seen = f"it is in {where}" if here.is_set else "what it began with is gone"
            again = "run this notebook's first cells again"
            raise LabError(
                f"The lab is not in lesson {self.lesson.number:02} any more",
                seen=seen,
                todo=f"To come back, {again if in_notebook() else 'begin it'}: "
                f"`labkit lesson {self.lesson.number}` does the same from a terminal.",
            )
        return self.lesson.exercise(name)

    def _ladder(self, name: str) -> tuple[str, ...]:
        exercise = self._exercise(name)
        return exercise.hints_for(exercise.check(self.scene, patience=0))

    def _done(self, name: str) -> str:
        return f"“{self.lesson.exercise(name).title}” is done: nothing to help with."

    def _rung(self, name: str, rungs: tuple[str, ...], step: int) -> str:
        if step > len(rungs):
            return f"No more hints. {_say('solution', name)} shows one way to do it."
        return str(Hint(step, len(rungs), self._local(rungs[step - 1])))

    def solution(self, name: str) -> Script:
        """The commands that do it, as they would be typed."""
        return Script(self.commands(name), self.lesson.exercise(name).title)

    def solve(self, name: str) -> Report:
        """Play the solution, and check.  For whoever wants to go on."""
        exercise = self._exercise(name)
        with self._one_at_a_time:
            self._book.solved(self.lesson.number, name)
            staging.solve(self.scene, self.lesson, exercise)
            report = self.look(name)
            if not report.passed:  # what was done before stands in the way
                staging.undo(self.scene, self.lesson, exercise)
                staging.solve(self.scene, self.lesson, exercise)
                report = self.look(name)
        self._widgets.tell(name, report)
        return report

    def undo(self, name: str) -> Text:
        """Take an exercise back, to do it again."""
        exercise = self._exercise(name)
        with self._one_at_a_time:
            staging.undo(self.scene, self.lesson, exercise)
        self._widgets.tell(name)
        return Text(f"“{exercise.title}” is taken back: do it again.")

    def restart(self) -> None:
        """Back to the beginning of this lesson; what you made in the lab is removed."""
        with self._one_at_a_time:
            self.scene = staging.begin(
                self.scene.lab, self.lesson, dict(self.scene.names), progress=print
            )
        print(_opening(self.lesson))
        for exercise in self.lesson.exercises:
            self._widgets.tell(exercise.name)

    def progress(self) -> CourseMap:
        """A map of the course with what you have passed."""
        return self._widgets.map() if self.has_widgets else self.map()

    def quiz(self) -> Quiz:
        """Three questions; choose an answer to see whether it is right, and why."""
        return self._widgets.quiz() if self.has_widgets else self.lesson.quiz

    # -- what its widgets ask for (see views.checkpoint.Desk) ---------------------------

    def look(self, name: str, told: Callable[[Report], None] = lambda _: None) -> Report:
        """Check, and keep how it went; ``told`` gets each report on the way."""
        exercise = self._exercise(name)
        report = exercise.check(self.scene, told=told)
        self._book.checked(self.lesson.number, name, passed=report.passed)
        self._widgets.tell_map()
        return report

    def glance(self, name: str) -> Report:
        """Look once, without keeping it."""
        return self._exercise(name).check(self.scene, patience=0)

    def next_hint(self, name: str) -> Hint | None:
        """One hint more; None when there is no other."""
        rungs = self._ladder(name)
        return self._climb(name, rungs) if rungs else None

    def commands(self, name: str, *, undo: bool = False) -> str:
        """The script that solves an exercise, or that takes it back."""
        exercise = self.lesson.exercise(name)
        return self._local(exercise.undo if undo else exercise.script)

    def minutes_left(self, name: str, *, done: bool) -> int | None:
        """To the lesson's end, as measured."""
        return minutes.left(self.lesson.number, name, done=done)

    def answers(self) -> dict[int, bool]:
        """The questions (from 1) that were answered: right at the first try?"""
        return self._book.read().quiz(self.lesson.number)

    def answered(self, question: int, right: bool) -> dict[int, bool]:
        """Keep an answer; returns all of them."""
        after = self._book.answered(self.lesson.number, question, right=right)
        self._widgets.tell_map()
        return after.quiz(self.lesson.number)

    def map(self) -> CourseMap:
        """The course with what is passed, as plain data."""
        return CourseMap(course.LESSONS, self._book.read(), self.scene.lab.position.lesson)

    @property
    def has_widgets(self) -> bool:
        """Runs that play the solutions are read, not used: they get text and HTML."""
        return in_notebook() and not self._solve

    # -- the learner's own cells -------------------------------------------------------

    def your_turn(self, name: str, cell: str) -> None:
        """Run a ``%%your_turn`` cell; prints what happened, never a traceback."""
        exercise = self._exercise(name)
        if self._solve:
            self._book.solved(self.lesson.number, name)
            print(staging.solve(self.scene, self.lesson, exercise).output, end="")
            return
        if tokens := token_lines(cell):
            print(
                f"Not run: line {tokens[0] + 1} holds a token. A notebook is a file that gets "
                "copied and committed; take it out.\nLet the shell fetch it when it is needed: "
                'BAO_TOKEN="$(…)" before a command, or jwt=- and a pipe.'
            )
            return
        if open_lines := blanks_in(cell):
            where = ", ".join(str(line + 1) for line in open_lines)  # after the magic's own
            lines = "line" if len(open_lines) == 1 else "lines"
            print(
                f"Not run yet: fill in every {BLANK} ({lines} {where}) and run the cell again.\n"
                f"Help: lesson.hint({name!r}), lesson.solution({name!r}), lesson.solve({name!r})"
            )
            return
        if not has_commands(cell):
            print(
                "Nothing to run yet: write your commands in this cell, as in a terminal.\n"
                f"Help: lesson.hint({name!r}), lesson.solution({name!r}), lesson.solve({name!r})"
            )
            return
        self._run(exercise, cell)

    def _run(self, exercise: Exercise, cell: str) -> None:
        try:
            played = play(cell, environment(self.scene.lab), on_line=print)
        except KeyboardInterrupt:
            print(
                "Interrupted. What had been done by then stays; run the cell again, or "
                f"lesson.undo({exercise.name!r}) takes it back."
            )
            return
        if played.code:
            print(
                f"[The last command ended with code {played.code}. Read its message above, "
                f"mend the cell and run it again; lesson.hint({exercise.name!r}) helps.]"
            )

    def register(self) -> None:
        """Make ``%%your_turn`` work in this notebook, if this is one."""
        if in_notebook():
            shell: Any = sys.modules["IPython"].get_ipython()
            shell.register_magic_function(self._magic, "cell", "your_turn")

    def _magic(self, line: str, cell: str) -> None:
        try:
            self.your_turn(line.strip(), cell)
        except LabError as error:
            print(f"{type(error).__name__}: {error}")

    # -- names -------------------------------------------------------------------------

    def _local(self, text: str) -> str:
        return self.lesson.render(text, self.scene.names)


def _say(verb: str, name: str) -> str:
    """How to ask for something, where we are: in a notebook or in a terminal."""
    return f"lesson.{verb}({name!r})" if in_notebook() else f"`labkit {verb} {name}`"


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel (or IPython)."""
    interactive = sys.modules.get("IPython")
    return interactive is not None and interactive.get_ipython() is not None
