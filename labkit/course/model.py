"""What a lesson consists of, as data: exercises, the mistakes they are made for, a quiz.

Each lesson is a module beside this one that declares a ``LESSON``.  Prose lives in the
notebook's source; scripts run by ``play``; a checkpoint's looking is ``checks``'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from labkit.checks import PATIENCE, Expectation, Report, Scene, ladder, look
from labkit.course import script as scripts
from labkit.errors import UsageError
from labkit.markup import as_html


@dataclass(frozen=True)
class Fault:
    """A mistake that people make after (or instead of) the solution.

    ``script`` makes it in a solved exercise; the expectation ``breaks`` must then see it,
    and the first hint must say something with ``hint`` in it (case does not matter).
    """

    name: str
    script: str
    breaks: Expectation
    hint: str


@dataclass(frozen=True)
class Exercise:
    """Something for the learner to do, and how it is seen that it was done.

    ``script`` is the solution (see ``script``), ``undo`` a script that takes it back,
    ``blanks`` what is left to the learner (None: the whole of it), ``start`` comments
    that open the learner's empty cell.  ``hints`` go from a nudge to nearly the solution;
    what the cluster shows is put before them.  Every expectation has a fault that it
    alone is there to catch: tests play them all.
    """

    name: str
    title: str
    script: str
    undo: str
    expectations: tuple[Expectation, ...]
    faults: tuple[Fault, ...]
    hints: tuple[str, ...] = ()
    blanks: tuple[str, ...] | None = None
    start: str = ""

    def check(
        self,
        scene: Scene,
        *,
        patience: float = PATIENCE,
        told: Callable[[Report], None] = lambda _: None,
    ) -> Report:
        """Look at the scene; ``patience`` and ``told`` are ``checks.look``'s."""
        return look(self.title, self.expectations, scene, patience=patience, told=told)

    def hints_for(self, report: Report) -> tuple[str, ...]:
        """The ladder of hints for what a report has seen."""
        return ladder(report, self.hints)

    @property
    def starter(self) -> str:
        """What the learner's cell begins with, in the course's own names."""
        if self.blanks is None:
            return self.start.strip() + "\n"
        head = self.start.strip()
        return (f"{head}\n" if head else "") + scripts.blank(self.script, self.blanks)


@dataclass(frozen=True)
class Choice:
    """One answer of a question; ``feedback`` says why it is right or wrong."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """One question of the quiz at a lesson's end, with exactly one right answer."""

    text: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Quiz:
    """The questions; shown as text everywhere, answers folded away in a browser."""

    questions: tuple[Question, ...]

    def __str__(self) -> str:
        lines = []
        for number, question in enumerate(self.questions, 1):
            lines.append(f"{number}. {question.text}")
            lines += [
                f"   {'abcdef'[place]}) {choice.text}"
                for place, choice in enumerate(question.choices)
            ]
        lines.append("Answers, with why: labkit quiz")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.to_html()}

    def to_html(self) -> str:
        """Each answer is a line that opens to say whether it is right, and why."""
        parts = []
        for number, question in enumerate(self.questions, 1):
            parts.append(f"<p><b>{number}. {as_html(question.text)}</b></p>")
            for place, choice in enumerate(question.choices):
                verdict = "Yes." if choice.right else "No."
                parts.append(
                    f"<details><summary>{'abcdef'[place]}) {as_html(choice.text)}</summary>"
                    f"<p>{verdict} {as_html(choice.feedback)}</p></details>"
                )
        return "<section>" + "".join(parts) + "</section>"

    def answers(self) -> str:
        """Every answer with its feedback, for a terminal."""
        lines = []
        for number, question in enumerate(self.questions, 1):
            lines.append(f"{number}. {question.text}")
            for place, choice in enumerate(question.choices):
                verdict = "yes" if choice.right else "no"
                lines.append(f"   {'abcdef'[place]}) {choice.text}")
                lines.append(f"      {verdict}: {choice.feedback}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Lesson:
    """One lesson.

    ``stage`` is how far the lab itself sets up the way from Vault to the page
    (``position.STAGES``), ``argocd`` whether Argo CD and a Git server are there besides;
    ``begin`` is a script for whatever else is there at the start.
    ``names`` are what the learner's things are called unless they say otherwise; scripts
    use them literally.  ``begins_with`` and ``missing`` tell the learner what is there
    and what they are about to make.
    """

    number: int
    slug: str
    title: str
    stage: str
    begins_with: str
    missing: str = ""
    begin: str = ""
    argocd: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    exercises: tuple[Exercise, ...] = ()
    quiz: Quiz = field(default_factory=lambda: Quiz(()))

    @property
    def label(self) -> str:
        """``03 · SecretStores``."""
        return f"{self.number:02} · {self.title}"

    @property
    def file_name(self) -> str:
        """The notebook's file name."""
        return f"{self.number:02}-{self.slug}.ipynb"

    @cached_property
    def _by_name(self) -> dict[str, Exercise]:
        return {exercise.name: exercise for exercise in self.exercises}

    def exercise(self, name: str) -> Exercise:
        """The exercise of that name; raises UsageError when the lesson has none such."""
        if name not in self._by_name:
            raise UsageError(
                f"Lesson {self.number:02} has no exercise called {name!r}",
                todo=f"It has: {', '.join(self._by_name) or 'none'}.",
            )
        return self._by_name[name]

    def render(self, text: str, names: Mapping[str, str]) -> str:
        """A text of this lesson with the learner's names in it."""
        return scripts.render(text, self.names, names)
