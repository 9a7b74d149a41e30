"""The comparison as data: four ways, the same questions, and how each answer is known.

What the answers say is in ``answers``, what was seen of them is collected by ``plain``,
``sealed``, ``plugin`` and ``external``.  This module only holds them and writes them down,
as text and as a table for a notebook.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from labkit.markup import as_html

_WIDTH = 100  # characters of a line of text
FOOTNOTE = (
    "Every way ends at the Secret. From there on all are alike: a pod that mounts it gets the new "
    "value without a restart, one that has it as an environment variable keeps the old one "
    "(lesson 06)."
)
MASK = "•" * 8  # always eight: a password's length is nobody's business either


class Way(Enum):
    """One of the four ways to bring a secret to a cluster that is deployed from Git."""

    PLAIN = "Plain Secret in Git"
    SEALED = "Sealed Secrets"
    PLUGIN = "Argo CD Vault Plugin"
    EXTERNAL = "External Secrets"


class Question(Enum):
    """What each way is asked."""

    IN_GIT = "What is in Git"
    KEY = "Where the key or token lives"
    ROTATION = "What a rotation needs"
    LEAKED_REPOSITORY = "What a leaked repository gives away"
    LEAKED_KEY = "What a leaked key or token gives away"
    SEEN_BY = "Who sees the plain value on the way"
    AWAY = "What happens when Vault or the controller is away"


Seen = dict[Question, tuple[str, ...]]
"""What running one way has shown: evidence, sentence by sentence, for each question."""


@dataclass(frozen=True)
class Answer:
    """One cell.

    ``says`` is the answer; ``seen`` what was seen of it in this run; ``not_run`` what of it
    was not tried here, and why ("": nothing).  ``seen`` is empty before a run.
    """

    says: str
    seen: tuple[str, ...] = ()
    not_run: str = ""

    def notes(self, *, was_run: bool) -> Iterator[tuple[str, str]]:
        """How the answer is known: pairs of a mark and what it marks."""
        for line in self.seen:
            yield "run here", line
        if self.not_run:
            yield "not run here", self.not_run
        if not was_run and not self.not_run:
            yield "not run yet", "`alternatives.compare(lab)` runs it."


@dataclass(frozen=True)
class Comparison:
    """The whole table: ``answers`` by way and question.

    ``was_run`` tells evidence from mere claims, ``took`` is in seconds, ``programs`` are
    what was run, each with its version.  Nothing in it holds a secret value.
    """

    answers: Mapping[tuple[Way, Question], Answer]
    was_run: bool = False
    took: float = 0.0
    programs: tuple[str, ...] = ()

    def answer(self, way: Way, question: Question) -> Answer:
        """The cell of a way and a question."""
        return self.answers[way, question]

    @property
    def headline(self) -> str:
        """What this table is, in a sentence."""
        if not self.was_run:
            return "Four ways, the same questions. Nothing was run for this table."
        return (
            "Four ways, the same questions. Run here in "
            f"{self.took:.0f} s with {', '.join(self.programs)}."
        )

    def __str__(self) -> str:
        lines = _wrapped(self.headline, "", "")
        for question in Question:
            lines += ["", question.value]
            for way in Way:
                answer = self.answers[way, question]
                lines += _wrapped(f"{way.value}: {answer.says}", "  ", "    ")
                for mark, text in answer.notes(was_run=self.was_run):
                    lines += _wrapped(f"[{mark}] {text}", "      ", "        ")
        return "\n".join([*lines, "", *_wrapped(FOOTNOTE, "", "")])

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """For notebooks: the same text beside the table."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """A table with a column for each way.

        Without a colour of its own, so it reads in both of the notebook's themes.
        """
        cell = (
            'style="text-align:left;vertical-align:top;'
            'white-space:normal;min-width:13em;padding:0.5em"'
        )
        head = "".join(f'<th scope="col" {cell}>{as_html(way.value)}</th>' for way in Way)
        rows = []
        for question in Question:
            cells = [f'<th scope="row" {cell}>{as_html(question.value)}</th>']
            for way in Way:
                answer = self.answers[way, question]
                notes = "".join(
                    f"<li><strong>{as_html(mark)}</strong>: {as_html(text)}</li>"
                    for mark, text in answer.notes(was_run=self.was_run)
                )
                known = f'<ul style="margin:0.4em 0 0;padding-left:1.2em">{notes}</ul>'
                cells.append(f"<td {cell}>{as_html(answer.says)}{known}</td>")
            rows.append(f"<tr>{''.join(cells)}</tr>")
        caption = f'<caption style="text-align:left">{as_html(self.headline)}</caption>'
        return (
            '<div style="overflow-x:auto"><table>'
            f"{caption}<thead><tr><td></td>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table><p>{as_html(FOOTNOTE)}</p></div>"
        )


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
