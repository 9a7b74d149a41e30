"""What the course does with Argo CD: install its core, ask for a look, wait for Applications.

Argo CD's kinds are spoken to through the Kubernetes API alone, as its own command does in
core mode.  Two Secrets of it are born here, since none may be in a file: the password of its
cache, and the key that it signs sessions with.  Where its programs come from, and what the
Applications deploy, is left to others.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import ApiError, WaitTimeout
from labkit.kube import (
    Kube,
    Object,
    Resource,
    definitions,
    has_ready_pod,
    load_manifests,
    namespaces,
)
from labkit.paths import manifest

NAMESPACE = "argocd"
GROUP = "argoproj.io"
API = f"{GROUP}/v1alpha1"
APPLICATION = Resource(API, "Application", "applications", True)
REFRESH = "argocd.argoproj.io/refresh"
WAVE = "argocd.argoproj.io/sync-wave"
_WORKLOADS = (
    ("Deployment", "argocd-redis"),
    ("Deployment", "argocd-repo-server"),
    ("StatefulSet", "argocd-application-controller"),
)


@dataclass(frozen=True)
class Application:
    """What Argo CD says of one Application.

    ``sync`` is Synced, OutOfSync or Unknown; ``health`` Healthy, Progressing, Degraded,
    Suspended, Missing or Unknown; ``revision`` the commit that it compared with; ``phase``
    how its last operation went; ``message`` the first reason that Argo CD gives for whatever
    is not right.
    """

    name: str
    sync: str
    health: str
    revision: str
    phase: str
    message: str

    @property
    def is_green(self) -> bool:
        """Synced and Healthy."""
        return (self.sync, self.health) == ("Synced", "Healthy")

    def __str__(self) -> str:
        why = f": {self.message}" if self.message else ""
        return f"{self.name} {self.sync}, {self.health}{why}"


def install(kube: Kube, crds: Path, *, timeout: float = 120.0) -> bool:
    """Have Argo CD's core running; False when it was there and ready.

    ``crds`` is the folder of CRDs of the pinned release, ``timeout`` is in seconds.  Safe to
    repeat.  Raises WaitTimeout naming what did not come up.
    """
    if is_ready(kube):
        return False
    definitions.install(kube, sorted(crds.glob("*-crd.yaml")), GROUP, timeout=timeout)
    objects = load_manifests(manifest("argocd/argocd.yaml"))
    first = [obj for obj in objects if obj["kind"] == "Namespace"]
    for obj in first:
        kube.apply(obj)
    _make_secrets(kube)
    for obj in objects:
        if obj not in first:
            kube.apply(obj)
    for obj in load_manifests(manifest("argocd/project.yaml")):
        kube.apply(obj)
    for kind, name in _WORKLOADS:
        kube.wait(
            kube.resource("apps/v1", kind),
            name,
            NAMESPACE,
            has_ready_pod,
            awaited="ready",
            timeout=timeout,
        )
    return True


def is_ready(kube: Kube) -> bool:
    """Whether every part of Argo CD has a pod that is ready."""
    try:
        return all(
            has_ready_pod(kube.get("apps/v1", kind, name, NAMESPACE)) for kind, name in _WORKLOADS
        )
    except ApiError:
        return False


def _make_secrets(kube: Kube) -> None:
    """The two Secrets, each made once: whoever holds an old password would be shut out."""
    password = secrets.token_urlsafe(24)
    wanted = {
        # Upstream's own installation makes the first in an init container, and the server
        # makes the key when it first starts; there is no server here.
        "argocd-redis": {"auth": password, "valkey.conf": f"requirepass {password}\n"},
        "argocd-secret": {"server.secretkey": secrets.token_urlsafe(32)},
    }
    for name, data in wanted.items():
        if kube.get("v1", "Secret", name, NAMESPACE) is None:
            labels = {
                "app.kubernetes.io/name": name,
                "app.kubernetes.io/part-of": "argocd",
            }
            kube.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
                    "stringData": data,
                }
            )


def applications(kube: Kube) -> list[Application]:
    """Every Application, by name; none where Argo CD is not installed."""
    try:
        found = kube.request("GET", APPLICATION.path(NAMESPACE)).get("items", [])
    except ApiError as error:
        if error.status == 404:
            return []
        raise
    return sorted(map(read, found), key=lambda app: app.name)


def read(obj: Object) -> Application:
    """What an Application object says."""
    status = obj.get("status") or {}
    sync, operation = status.get("sync") or {}, status.get("operationState") or {}
    revisions = sync.get("revisions") or [sync.get("revision") or ""]
    return Application(
        name=str(obj["metadata"]["name"]),
        sync=str(sync.get("status") or "Unknown"),
        health=str((status.get("health") or {}).get("status") or "Unknown"),
        revision=str(revisions[0]),
        phase=str(operation.get("phase") or ""),
        message=_message(status, operation),
    )


def _message(status: Object, operation: Object) -> str:
    """Argo CD says why in many places; the first that says it, on one line."""
    conditions = status.get("conditions") or ()
    # That a sync failed is said by what failed in it, and more clearly.
    said = [str(each.get("message", "")) for each in conditions if each["type"] != "SyncError"]
    if operation.get("phase") in ("Failed", "Error", "Running"):
        results = (operation.get("syncResult") or {}).get("resources") or ()
        said += [
            f"{each.get('kind')} {each.get('name')}: {each.get('message')}"
            for each in results
            if each.get("status") in ("SyncFailed", "PruneSkipped")
            or each.get("hookPhase") in ("Failed", "Error")
        ]
        said.append(str(operation.get("message", "")))
    said += [
        f"{each.get('kind')} {each.get('name')}: {each['health'].get('message')}"
        for each in status.get("resources") or ()
        if (each.get("health") or {}).get("status") == "Degraded" and each["health"].get("message")
    ]
    said += [str(each.get("message", "")) for each in conditions]
    return " ".join(next(filter(None, said), "").split())


def refresh(kube: Kube, name: str, *, hard: bool = False) -> str:
    """Ask Argo CD to look at Git now (``hard``: and to render everything anew); the kubectl
    line that does the same.

    Source: the annotation's constants in ``pkg/apis/application/v1alpha1`` of Argo CD.
    """
    how = "hard" if hard else "normal"
    kube.patch(API, "Application", name, {"metadata": {"annotations": {REFRESH: how}}}, NAMESPACE)
    return f"kubectl -n {NAMESPACE} annotate application {name} {REFRESH}={how} --overwrite"


def wait(
    kube: Kube,
    names: Iterable[str] = (),
    *,
    until: Callable[[Application], bool] = lambda app: app.is_green,
    awaited: str = "Synced and Healthy",
    timeout: float = 120.0,
) -> list[Application]:
    """Wait until every Application of ``names`` (none: all that there are, and at least one)
    is as ``until`` says.

    ``timeout`` is in seconds.  Raises WaitTimeout with what Argo CD says of those that are not.
    """
    wanted = set(names)
    deadline = time.monotonic() + timeout
    path = APPLICATION.path(NAMESPACE)
    while True:
        found = applications(kube)
        chosen = [app for app in found if app.name in wanted or not wanted]
        missing = wanted - {app.name for app in chosen}
        if chosen and not missing and all(map(until, chosen)):
            return chosen
        left = deadline - time.monotonic()
        if left <= 0:
            wrong = [str(app) for app in chosen if not until(app)]
            wrong += [f"{name} does not exist" for name in sorted(missing)]
            raise WaitTimeout(
                f"The Applications were not {awaited} within {timeout:g} s",
                seen="; ".join(wrong) or "there is no Application",
                todo=f"See `kubectl -n {NAMESPACE} describe application NAME`.",
            )
        for _ in kube.watch(path, idle=min(left, 0.5)):
            pass


def remove(kube: Kube, *, timeout: float = 60.0) -> None:
    """Take Argo CD away with its Applications, and leave what they deployed; safe to repeat."""
    if kube.get("v1", "Namespace", NAMESPACE) is None:
        return
    for kind, name in _WORKLOADS:
        kube.delete("apps/v1", kind, name, NAMESPACE)
    for app in kube.list(API, "Application", NAMESPACE) if kube.serves(GROUP) else ():
        # Its controller is gone, and would only have pruned what is taken away anyhow.
        name = app["metadata"]["name"]
        kube.patch(API, "Application", name, {"metadata": {"finalizers": None}}, NAMESPACE)
        kube.delete(API, "Application", name, NAMESPACE)
    namespaces.remove(kube, NAMESPACE, timeout=timeout)
