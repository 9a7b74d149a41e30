"""A finding, and the remarks that a look at one topic is made of.

A look may see several things; what comes out is one finding a topic, as bad as the worst
of them.  Looking itself, and the order of topics, are left to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]

_FROM_WORST: tuple[Level, ...] = ("problem", "note", "ok")


@dataclass(frozen=True)
class Remark:
    """One thing that was seen.  ``fix``, the next step, is empty for what is ok alone."""

    level: Level
    seen: str
    fix: str = ""


def ok(seen: str) -> Remark:
    """All is well."""
    return Remark("ok", seen)


def note(seen: str, fix: str) -> Remark:
    """A lab runs all the same, with less, or in another way."""
    return Remark("note", seen, fix)


def problem(seen: str, fix: str) -> Remark:
    """No lab runs before this is mended."""
    return Remark("problem", seen, fix)


@dataclass(frozen=True)
class Finding:
    """What was seen of one topic: ``level`` is ok, note or problem; ``fix`` says what to do."""

    topic: str
    level: Level
    seen: str
    fix: str = ""

    @classmethod
    def of(cls, topic: str, remarks: Sequence[Remark]) -> Finding:
        """The remarks as one.  What is ok is told only when nothing else is to be told."""
        told = [each for each in remarks if each.level != "ok"] or [*remarks]
        told.sort(key=lambda each: _FROM_WORST.index(each.level))
        fixes = dict.fromkeys(each.fix for each in told if each.fix)
        return cls(
            topic,
            told[0].level if told else "ok",
            "; ".join(dict.fromkeys(each.seen for each in told)),
            " ".join(fixes),
        )

    @property
    def is_fatal(self) -> bool:
        """Whether a lab cannot run before this is mended."""
        return self.level == "problem"

    @property
    def weight(self) -> int:
        """For sorting: problems come first."""
        return _FROM_WORST.index(self.level)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_short(self) -> str:
        """One line."""
        return f"{self.topic}: {self.seen}" + (f" → {self.fix}" if self.fix else "")

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.topic}: {self.seen}"
        return f"{line}\n         → {self.fix}" if self.fix else line
