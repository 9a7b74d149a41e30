"""Checkpoints: what a learner's cluster and Vault look like, against what was asked for.

A checkpoint is a list of expectations.  Each looks at the state of things, never at what
was typed, and says what it expected, what it observed and what to do next.  One
declaration serves the notebook, the command line and the tests.

What is expected in which lesson is the course's; how a report is shown in a browser, the
views'.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hvac.exceptions import VaultError as HvacError
from requests import RequestException

from labkit.errors import LabError
from labkit.kube import Kube
from labkit.lab import Lab
from labkit.markup import as_html

if TYPE_CHECKING:
    import hvac

PATIENCE = 15.0  # seconds that a checkpoint follows what is still settling
_PAUSE = 0.1


@dataclass(frozen=True)
class Finding:
    """What one expectation saw.

    ``expected`` and ``observed`` are facts in a few words, without secrets and the same at
    each run; ``next`` is the one thing to do when it is not met.  ``hint`` is what to tell
    a learner who asks for help with just this (default: ``next``).  ``settling`` says that
    nothing is wrong yet: controllers are at work, look again.  ``blocks`` says that the
    expectations after it mean nothing before it is met, and are not looked at.
    """

    expected: str
    observed: str
    is_met: bool
    next: str = ""
    hint: str = ""
    settling: bool = False
    blocks: bool = False


def met(expected: str, observed: str = "") -> Finding:
    """A finding that is as expected."""
    return Finding(expected, observed or expected, is_met=True)


def not_yet(
    expected: str,
    observed: str,
    *,
    next: str,
    hint: str = "",
    settling: bool = False,
    blocks: bool = False,
) -> Finding:
    """A finding that is not (yet) as expected, and what to do about it."""
    return Finding(
        expected, observed, is_met=False, next=next, hint=hint, settling=settling, blocks=blocks
    )


@dataclass(frozen=True)
class Scene:
    """What expectations look at: a lab, and what the learner's things are called in it."""

    lab: Lab
    names: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        """The name of one of the learner's things: ``scene["policy"]``."""
        return self.names[name]

    @property
    def kube(self) -> Kube:
        return self.lab.api

    @cached_property
    def vault(self) -> hvac.Client:
        """A client of the lab's Vault with its root token."""
        return self.lab.vault


@dataclass(frozen=True)
class Expectation:
    """One thing that is expected: ``look`` at the scene and say what is there."""

    title: str
    look: Callable[[Scene], Finding] = field(repr=False)

    def __call__(self, scene: Scene) -> Finding:
        """The finding; what cannot be looked at (a stopped Vault) is not met and says so."""
        try:
            return self.look(scene)
        except LabError as error:
            return not_yet(
                self.title,
                f"{error.what}{f' ({error.seen})' if error.seen else ''}",
                next=error.todo or "Run `labkit up`, which mends the lab, and check again.",
            )
        except (HvacError, RequestException) as error:
            return not_yet(
                self.title,
                f"Vault said: {str(error).splitlines()[0][:200]}",
                next="Run `labkit up`, which mends a stopped or sealed Vault, and check again.",
            )


def expects(title: str) -> Callable[[Callable[[Scene], Finding]], Expectation]:
    """Make a function of the scene into an Expectation called ``title``."""

    def make(look: Callable[[Scene], Finding]) -> Expectation:
        return Expectation(title, look)

    return make


@dataclass(frozen=True)
class Report:
    """What a checkpoint saw: findings in the order of its expectations."""

    title: str
    findings: tuple[tuple[str, Finding], ...]

    @property
    def passed(self) -> bool:
        return bool(self.findings) and all(finding.is_met for _, finding in self.findings)

    @property
    def first_unmet(self) -> Finding | None:
        """The finding to go on with, None when all are met."""
        return next((finding for _, finding in self.findings if not finding.is_met), None)

    @property
    def is_settling(self) -> bool:
        """Whether what is to be mended first may mend itself: it is still under way."""
        return self.first_unmet is not None and self.first_unmet.settling

    def to_json(self) -> dict[str, Any]:
        """The report as plain data (part of the contract of ``labkit check --json``)."""
        return {
            "title": self.title,
            "passed": self.passed,
            "findings": [
                {
                    "expectation": name,
                    "met": finding.is_met,
                    "expected": finding.expected,
                    "observed": finding.observed,
                    "next": finding.next,
                }
                for name, finding in self.findings
            ],
        }

    def __str__(self) -> str:
        lines = [f"{self.title}: {'passed' if self.passed else 'not yet'}"]
        for _, finding in self.findings:
            if finding.is_met:
                lines.append(f"  [ok] {finding.observed}")
            else:
                lines += [
                    f"  [--] expected: {finding.expected}",
                    f"       observed: {finding.observed}",
                ]
        if self.first_unmet:
            lines.append(f"  Next: {self.first_unmet.next}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """For notebooks: a list for browsers, the same facts as text elsewhere."""
        return {"text/plain": str(self), "text/html": self.to_html()}

    def to_html(self) -> str:
        """A list with words for what is met and what is not (nothing by colour alone)."""
        items = []
        for _, finding in self.findings:
            if finding.is_met:
                items.append(f"<li><b>✓ As expected:</b> {as_html(finding.observed)}</li>")
            else:
                items.append(
                    f"<li><b>✗ Not yet.</b> Expected: {as_html(finding.expected)}<br>"
                    f"Observed: {as_html(finding.observed)}</li>"
                )
        after = (
            f"<p><b>Next:</b> {as_html(self.first_unmet.next)}</p>" if (self.first_unmet) else ""
        )
        state = "passed" if self.passed else "not yet"
        return (
            f'<section role="status" aria-label="{html.escape(self.title)}: {state}">'
            f"<p><b>{html.escape(self.title)}: {state}</b></p>"
            f'<ul style="list-style: none; padding-left: 1em">{"".join(items)}</ul>{after}'
            "</section>"
        )


def look(
    title: str,
    expectations: Sequence[Expectation],
    scene: Scene,
    *,
    patience: float = PATIENCE,
    told: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Look at everything that is expected, again and again while the first thing that is
    not met is only settling.

    ``patience`` is in seconds.  Returns at once when all is met, or when what is to be
    mended first is something that time alone will not mend.  ``told`` gets each report on
    the way, and the last one.
    """
    deadline = time.monotonic() + patience
    while True:
        report = Report(title, tuple(_look_once(expectations, scene)))
        told(report)
        if not report.is_settling or time.monotonic() > deadline:
            return report
        time.sleep(_PAUSE)


def _look_once(expectations: Sequence[Expectation], scene: Scene) -> Iterator[tuple[str, Finding]]:
    for each in expectations:
        finding = each(scene)
        yield each.title, finding
        if finding.blocks and not finding.is_met:
            return


@dataclass(frozen=True)
class Hint:
    """One rung of the ladder: number ``step`` (from 1) of ``of``."""

    step: int
    of: int
    text: str

    def __str__(self) -> str:
        return f"Hint {self.step} of {self.of}: {self.text}"


def ladder(report: Report, hints: Sequence[str]) -> tuple[str, ...]:
    """Hints from the first to the last: what the cluster shows first, then what is general.

    Empty when everything is met.
    """
    unmet = report.first_unmet
    if unmet is None:
        return ()
    specific = unmet.hint or unmet.next
    return tuple(dict.fromkeys((specific, *hints)))
