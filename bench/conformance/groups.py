"""Which of upstream's tests a lab's node is judged by: data only.

Upstream marks with ``[Conformance]`` what every Kubernetes must do.  A node that runs
local programs claims a part of it: the required groups are what the course rests on, the
others tell how far beyond that it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TARGET = 0.95
"""The share of the required groups that is to pass where mount namespaces are had."""

MODES = ("mounts", "rewrite")


@dataclass(frozen=True)
class Group:
    """Tests whose names begin with one of ``prefixes``."""

    name: str
    prefixes: tuple[str, ...]
    required: bool = False

    def has(self, test: str) -> bool:
        """Whether a test of this full name belongs here."""
        return test.startswith(self.prefixes)


GROUPS = (
    Group("Secrets", ("[sig-node] Secrets ", "[sig-storage] Secrets "), required=True),
    Group("ConfigMap", ("[sig-node] ConfigMap ", "[sig-storage] ConfigMap "), required=True),
    Group("Variable Expansion", ("[sig-node] Variable Expansion ",), required=True),
    Group("InitContainer", ("[sig-node] InitContainer ",), required=True),
    Group("Container Lifecycle Hook", ("[sig-node] Container Lifecycle Hook ",), required=True),
    Group("Downward API", ("[sig-node] Downward API ", "[sig-storage] Downward API volume ")),
    Group(
        "Projected",
        (
            "[sig-storage] Projected secret ",
            "[sig-storage] Projected configMap ",
            "[sig-storage] Projected downwardAPI ",
            "[sig-storage] Projected combined ",
        ),
    ),
    Group("Subpath", ("[sig-storage] Subpath ",)),
    Group("EmptyDir", ("[sig-storage] EmptyDir volumes ",)),
    Group("Containers", ("[sig-node] Containers ",)),
    Group("Container Runtime", ("[sig-node] Container Runtime ",)),
    Group("Kubelet", ("[sig-node] Kubelet ",)),
    Group("Pods", ("[sig-node] Pods ",)),
    Group("Probing container", ("[sig-node] Probing container ",)),
    Group("Security Context", ("[sig-node] Security Context ",)),
    Group("ServiceAccounts", ("[sig-auth] ServiceAccounts ",)),
)


_FIGHTS = (
    # Their server, `agnhost liveness`, cannot be told another port than 8080, and a lab's
    # containers share this machine's ports.
    (
        "tcp:8080 liveness probe",
        "should be restarted with a /healthz http liveness probe",
        "monotonically increasing restart count",
    ),
    # With path rewriting, /tmp is this machine's own for all of them.
    ('exec "cat /tmp/health" liveness probe',),
)
"""Words in the names of tests that get in each other's way: those of an entry run one after
the other."""

_LONG = ("Probing container", "[Slow]", "issue 500 podspec updates")


def in_parts(tests: Sequence[str], count: int) -> list[list[str]]:
    """``tests`` in ``count`` parts that may run side by side, the long ones spread."""
    fights = [[t for t in tests if any(words in t for words in fight)] for fight in _FIGHTS]
    others = [test for test in tests if not any(test in fight for fight in fights)]
    others.sort(key=lambda test: not any(words in test for words in _LONG))
    count = max(1, count - len(list(filter(None, fights))))
    parts = [*fights, *(others[number::count] for number in range(count))]
    return [part for part in parts if part]


def is_meant(test: str) -> bool:
    """Whether a test is one of upstream's conformance tests that may run beside others."""
    return "[Conformance]" in test and "[Serial]" not in test and group_of(test) is not None


def group_of(test: str) -> Group | None:
    """The group of a test by its full name."""
    return next((group for group in GROUPS if group.has(test)), None)


def in_order(tests: Iterable[str]) -> list[str]:
    """Tests by group, and by name within each."""
    return [test for group in GROUPS for test in sorted(tests) if group.has(test)]
