"""Logs by name: the control plane's from its files, workloads' from the Kubernetes API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from labkit import app, eso, vault
from labkit import lab as labs
from labkit.errors import UsageError
from labkit.kube import Kube
from labkit.paths import LabPaths

_WORKLOADS = {
    "vault": (vault.NAMESPACE, "app.kubernetes.io/name=vault"),
    "external-secrets": (eso.NAMESPACE, "app.kubernetes.io/name=external-secrets"),
    "app": (app.NAMESPACE, app.LABELS),
}


def names(lab: str) -> list[str]:
    """Every name that ``read`` takes for this lab."""
    files = sorted(path.stem for path in LabPaths.of(lab).logs.glob("*.log"))
    return [*files, *_WORKLOADS]


def read(lab: str, program: str, *, follow: bool = False, lines: int = 200) -> Iterator[str]:
    """The last ``lines`` lines of a program's log, and with ``follow`` what comes next.

    A control-plane program's log can be read when the lab is down, too: that is when it
    is wanted most.  Raises UsageError for an unknown name.
    """
    if program in _WORKLOADS:
        yield from _workload(labs.attach(lab).api, program, follow=follow, lines=lines)
        return
    file = LabPaths.of(lab).logs / f"{program}.log"
    if not file.is_file() or program not in names(lab):
        raise UsageError(
            f"There is no log of {program!r} in the lab {lab}",
            seen="its cluster is somebody else's, and so are the logs of its control plane"
            if LabPaths.of(lab).cluster.is_file()
            else "",
            todo=f"Choose from: {', '.join(names(lab))}.",
        )
    yield from _file(file, follow=follow, lines=lines)


def _file(file: Path, *, follow: bool, lines: int) -> Iterator[str]:
    with file.open(errors="replace") as stream:
        yield from (line.rstrip("\n") for line in stream.readlines()[-lines:])
        while follow:
            line = stream.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(0.2)


def _workload(kube: Kube, program: str, *, follow: bool, lines: int) -> Iterator[str]:
    namespace, labels = _WORKLOADS[program]
    pods = kube.list("v1", "Pod", namespace, labels=labels)
    if not pods:
        raise UsageError(
            f"{program} has no pod", todo=f"See `kubectl -n {namespace} get all,events`."
        )
    path = f"/api/v1/namespaces/{namespace}/pods/{pods[-1]['metadata']['name']}/log"
    query = {"tailLines": lines, "follow": "true" if follow else "false"}
    for line in kube.stream(path, query=query):
        yield line.decode(errors="replace")
