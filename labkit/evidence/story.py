"""The twelve steps as one story, for a terminal and for a notebook.

Showing only: what is proven was decided before.  Everything is told in words as well as
in colour, and every word from a log is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape


@dataclass(frozen=True)
class Step:
    """One step: ``who`` (as which identity) asked ``whom`` for what, and when.

    ``at`` is in unix seconds, None when no log has a time for it.  ``witness`` names the
    log, ``proof`` is one short line from it and never holds a secret.  ``missing`` says
    why the step is not proven; "" when it is.
    """

    number: int
    title: str
    at: float | None = None
    who: str = ""
    whom: str = ""
    witness: str = ""
    proof: str = ""
    missing: str = ""

    @property
    def proven(self) -> bool:
        """Whether a log shows that it happened."""
        return not self.missing


@dataclass(frozen=True)
class Story:
    """The steps in order; times are told from ``start`` (unix seconds) on.

    None tells them from where the ExternalSecret reached ESO.
    """

    steps: tuple[Step, ...]
    start: float | None = None

    @property
    def begin(self) -> float | None:
        """The time that the story counts from; None when nothing at all has a time."""
        timed = [step.at for step in self.steps if step.at is not None and step.number > 2]
        return self.start if self.start is not None else next(iter(timed), None)

    @property
    def unproven(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not step.proven)

    def __str__(self) -> str:
        lines = [self._summary()]
        for step in self.steps:
            lines.append(f"{step.number:>2}. {step.title:<49} {self._when(step)}".rstrip())
            lines.extend(f"    {line}" for line in _told(step))
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Both renderings, for IPython; the text is what stays readable anywhere."""
        return {"text/plain": str(self), "text/html": self._html()}

    def _summary(self) -> str:
        proven = len(self.steps) - len(self.unproven)
        since = (
            f"; times from {datetime.fromtimestamp(self.begin, UTC):%H:%M:%S} UTC on"
            if self.begin is not None
            else ""
        )
        return f"From Git to page: {proven} of {len(self.steps)} steps proven{since}"

    def _when(self, step: Step) -> str:
        if step.at is None or self.begin is None:
            return ""
        seconds = step.at - self.begin
        if abs(seconds) >= 120:
            return f"{abs(seconds) / 60:.0f} min {'later' if seconds > 0 else 'before'}"
        return f"{seconds:+.3f} s"

    def _html(self) -> str:
        head = "".join(
            f'<th scope="col" style="text-align:left">{name}</th>'
            for name in ("#", "Step", "When", "Who asked whom", "Evidence")
        )
        rows = "".join(
            f"<tr><td>{step.number}</td>"
            f'<th scope="row" style="text-align:left">{escape(step.title)}</th>'
            f"<td>{escape(self._when(step))}</td>"
            f'<td style="text-align:left">{escape(_asked(step))}</td>'
            f'<td style="text-align:left">{"<br>".join(map(escape, _shown(step)))}</td></tr>'
            for step in self.steps
        )
        return (
            f"<table><caption>{escape(self._summary())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _asked(step: Step) -> str:
    return " → ".join(part for part in (step.who, step.whom) if part)


def _shown(step: Step) -> Iterator[str]:
    if step.proof:
        yield f"{step.witness}: {step.proof}"
    if step.missing:
        yield f"NOT PROVEN: {step.missing}"


def _told(step: Step) -> Iterator[str]:
    if asked := _asked(step):
        yield asked
    yield from _shown(step)
