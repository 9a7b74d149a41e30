"""The alternatives, honestly: four ways to keep secrets out of (or in) Git, side by side.

    from labkit import alternatives
    alternatives.compare(lab)     # runs each of them here, about half a minute
    alternatives.table()          # the same table, with nothing run

A plain Secret in Git, Sealed Secrets, the Argo CD Vault Plugin and External Secrets are
asked the same questions.  Each answer says how it is known: what was seen of it in this
run, or that it was not run here, and why.  An answer that does not hold in the run is an
error and no table.  Which of them to choose is left to whoever reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from labkit.alternatives import external, ground, plain, plugin, sealed
from labkit.alternatives.answers import ANSWERS
from labkit.alternatives.ground import Ground
from labkit.alternatives.model import Answer, Comparison, Question, Seen, Way
from labkit.lab import Lab

__all__ = ["Answer", "Comparison", "Question", "Way", "compare", "table"]

_RUNS: tuple[tuple[Way, Callable[[Ground], Seen]], ...] = (
    (Way.PLAIN, plain.run),
    (Way.SEALED, sealed.run),
    (Way.PLUGIN, plugin.run),
    (Way.EXTERNAL, external.run),
)

_NO_CONTROLLER = (
    "the controller reads its token at one fixed path, and on this machine pods have no file "
    "system of their own (see `labkit doctor`)."
)


def table() -> Comparison:
    """What the comparison says, with nothing run: no evidence, and marked so."""
    return Comparison(ANSWERS)


def compare(
    lab: Lab, *, progress: Callable[[str], None] = lambda line: None, timeout: float = 60.0
) -> Comparison:
    """Run each way in ``lab`` and say what was seen; everything is removed afterwards.

    Works in the namespaces ``alternatives`` and ``sealed-secrets``, with a Vault of its own
    and values made up for this run, none of which is in the outcome.  ``timeout`` (seconds)
    is for each wait.  ``progress`` gets one line a step.

    Raises LabError when programs are missing (naming the command that gets them), when
    somebody's own Sealed Secrets is in the cluster, and when an answer does not hold;
    LabBusy while another process compares; WaitTimeout.
    """
    began = time.monotonic()
    tools = ground.find_tools()
    answers = dict(ANSWERS)
    with ground.opened(lab, tools, timeout=timeout, progress=progress) as here:
        for way, run in _RUNS:
            if way is Way.SEALED and not here.has_controller:
                answers |= _not_run(way, _NO_CONTROLLER)
                continue
            progress(way.value)
            for question, seen in run(here).items():
                answers[way, question] = replace(answers[way, question], seen=seen)
    return Comparison(
        answers,
        was_run=True,
        took=time.monotonic() - began,
        programs=tuple(
            f"{tool.name} {tool.version}".strip()
            for tool in tools.values()
            if here.has_controller or tool.name == "argocd-vault-plugin"
        ),
    )


def _not_run(way: Way, why: str) -> dict[tuple[Way, Question], Answer]:
    return {(way, each): replace(ANSWERS[way, each], not_run=why) for each in Question}
