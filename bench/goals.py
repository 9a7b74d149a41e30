"""What each figure is held to: data only.

``bench`` measures, ``results`` compares.  The peers' figures were published by others on
other machines; they are printed for comparison and nothing here runs those programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Statistic = Literal["median", "p95", "ratio"]


@dataclass(frozen=True)
class Goal:
    """``statistic`` of the figure called ``measure`` is to be at most ``limit`` (at least,
    with ``at_least``).  The limit is in the measure's own unit; "ratio" is that of the
    median to the peer's.  ``elsewhere`` says what other programs are known to take."""

    measure: str
    statistic: Statistic
    limit: float
    at_least: bool = False
    elsewhere: str = ""

    def is_met_by(self, value: float) -> bool:
        """Whether ``value`` of the statistic is on the right side."""
        return value >= self.limit if self.at_least else value <= self.limit


GOALS = {
    goal.measure: goal
    for goal in (
        Goal("plane", "ratio", 1.0),
        Goal(
            "up-warm", "median", 5.0,
            elsewhere="kind 32 s, k3d 16 s, minikube 28 s to a bare app",
        ),
        Goal("down", "median", 3.0, elsewhere="envtest allows itself 20 s"),
        Goal("reset", "median", 5.0),
        Goal("memory", "median", 700.0, elsewhere="k3s 1.6 GB; Binder kills at 2 GB"),
        Goal("cpu", "median", 5.0, elsewhere="k3s 6 %"),
        Goal("page-forced", "p95", 0.7, elsewhere="Vault Agent 5 min, CSI driver 2 min"),
        Goal("page-5s", "p95", 5.7),
        Goal("file", "p95", 0.1, elsewhere="a kubelet 60-90 s"),
        Goal("many-100", "median", 5.0, elsewhere="3-4 min in ESO's issues"),
        Goal("many-600", "median", 20.0, elsewhere="3-4 min in ESO's issues"),
        Goal("pixel-share", "p95", 0.1),
        Goal("views-cpu", "median", 2.0),
        Goal("gitops-install", "median", 5.0),
        Goal("gitops-push", "median", 2.0, elsewhere="Argo CD asks Git every 3 min by default"),
        Goal("gitops-memory", "median", 300.0),
        Goal("crowd", "median", 8.0, at_least=True),
    )
}  # fmt: skip
"""By the key of the measure that they belong to."""
