"""What can be asked of Argo CD about one Application: to look again, to sync, what differs.

Each is told as the ``argocd`` command that it stands for.  A difference is that command's own
answer: Argo CD compares, and masks the values of Secrets before it says anything.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass

from labkit import argocd, argocli, programs
from labkit.errors import LabError
from labkit.kube import Object
from labkit.lab import Lab

_TIMEOUT = 60.0  # seconds for `argocd app diff`
_DIFFERS = 1  # its exit code; errors have others
_LENT = ("PATH", "HOME", "TMPDIR", "LANG")

_COMMANDS = {
    "refresh": "argocd app get {} --refresh",
    "sync": "argocd app sync {}",
    "diff": "argocd app diff {}",
}


def command(what: str, name: str) -> str:
    """The line that does the same in a terminal: ``what`` is refresh, sync or diff."""
    return _COMMANDS[what].format(name)


@dataclass(frozen=True)
class Difference:
    """What differs between Git and the cluster, as ``command`` printed it: lines with ``<``
    are the cluster's, those with ``>`` Git's.  ``text`` is "" when nothing differs."""

    application: str
    command: str
    text: str

    def __str__(self) -> str:
        return self.text or f"{self.application}: the cluster is as Git says."


def diff(lab: Lab, name: str) -> Difference:
    """What differs between Git and the cluster for the Application of this name.

    Raises LabError when there is no such Application, or Argo CD cannot tell.
    """
    _application(lab, name)
    program = programs.resolve("argocd").path
    script = argocli.write(lab.paths.commands, program, lab.kubeconfig)
    try:
        done = subprocess.run(
            [str(script), "app", "diff", name],
            # Neither the proxy of a notebook nor a diff program of somebody's own.
            env={key: os.environ[key] for key in _LENT if key in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"Argo CD did not say within {_TIMEOUT:g} s what differs in {name}",
            todo="See `kubectl -n argocd get pods`.",
        ) from error
    if done.returncode not in (0, _DIFFERS):
        raise LabError(
            f"Argo CD could not say what differs in {name}",
            seen=_said(done.stderr) or f"exit code {done.returncode}",
            todo="See `kubectl get applications -A` and `kubectl -n argocd get pods`.",
        )
    return Difference(name, command("diff", name), done.stdout.strip("\n"))


def _said(log: str) -> str:
    """The last of its messages, which are lines of JSON."""
    last = (log.strip().splitlines() or [""])[-1]
    try:
        return str(json.loads(last)["msg"])
    except (ValueError, KeyError, TypeError):
        return last


def refresh(lab: Lab, name: str) -> str:
    """Have Git and the cluster looked at and compared now; what was asked, in a sentence.

    Raises LabError when there is no such Application.
    """
    _application(lab, name)
    argocd.refresh(lab.api, name)
    return f"Argo CD was asked to compare {name} with Git now."


def sync(lab: Lab, name: str) -> str:
    """Have the cluster made as Git says it, nothing pruned; what was asked, in a sentence.

    Raises LabError when there is no such Application, or it is being synced already.
    Source: ``Sync`` of Argo CD's ``server/application``: the operation is a field of the
    Application, which the controller takes out when it begins.
    """
    found = _application(lab, name)
    running = ((found.get("status") or {}).get("operationState") or {}).get("phase")
    if found.get("operation") or running == "Running":
        raise LabError(
            f"{name} is being synced already",
            todo=f"Wait for its end, or end it: `argocd app terminate-op {name}`.",
        )
    wanted: Object = {"syncStrategy": {"hook": {}}}
    if options := ((found.get("spec") or {}).get("syncPolicy") or {}).get("syncOptions"):
        wanted["syncOptions"] = options
    operation = {"initiatedBy": {"username": "labkit"}, "sync": wanted}
    lab.api.patch(argocd.API, "Application", name, {"operation": operation}, argocd.NAMESPACE)
    return f"Argo CD was asked to make the cluster as Git says it for {name}."


def _application(lab: Lab, name: str) -> Object:
    """The Application.  Raises LabError when there is none of that name."""
    found = None
    if lab.api.serves(argocd.GROUP):
        found = lab.api.get(argocd.API, "Application", name, argocd.NAMESPACE)
    if found is None:
        raise LabError(
            f"There is no Application {name}",
            todo="`kubectl get applications -A` lists all that there are.",
        )
    return found
