"""Where in the course a lab is: which lesson, by which names, and how far it is set up.

A lesson begins with things missing that the learner is about to make.  Whoever brings a
lab up must know that, or a kernel's restart in the middle of lesson 03 would quietly do
the exercises.  What a lesson is, is the course's business; here it is a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit.paths import write_private

STAGES = ("bare", "vault", "secret", "trust", "role", "store", "external-secret", "application")
"""How far the way from Vault to the page is set up, each stage with all before it: from a
cluster alone (``bare``), over Vault and ESO at work, to the application."""
WHOLE = STAGES[-1]


@dataclass(frozen=True)
class Position:
    """``lesson`` None is no lesson: the whole way is there.

    ``stage`` is the last of STAGES that the lab itself provides; ``names`` are what the
    learner's things are called in this lesson.  ``argocd``: Argo CD and a Git server are there
    besides.  ``is_set`` False: the lab was on its way
    there and was interrupted, or has lost what the lesson began with.
    """

    lesson: int | None = None
    stage: str = WHOLE
    names: Mapping[str, str] = field(default_factory=dict)
    argocd: bool = False
    is_set: bool = True

    def has(self, stage: str) -> bool:
        """Whether the lab provides what belongs to ``stage``."""
        return STAGES.index(stage) <= STAGES.index(self.stage)


def read(file: Path) -> Position:
    """The position kept in ``file``; that of no lesson where there is none to be read."""
    try:
        found = json.loads(file.read_text())
        position = Position(**found)
    except (OSError, ValueError, TypeError):
        return Position()
    return position if position.stage in STAGES else Position()


def write(file: Path, position: Position) -> None:
    """Keep the position, all or nothing."""
    write_private(file, json.dumps(asdict(position)))
