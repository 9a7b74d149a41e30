"""Argo CD and its Git server as part of a lab: provided, looked at, and taken away whole.

What Argo CD deploys may be anything, Vault and ESO among it, so taking it away is done
without its help and without theirs: controllers first, then whatever would refuse or hold
up a deletion (admission webhooks, finalizers), then the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from labkit import argocd, eso, gitrepo
from labkit.errors import ApiError
from labkit.kube import Kube, Object, Resource, definitions, namespaces
from labkit.things import TRACKING

Progress = Callable[[str], None]

PROGRAMS = ("argocd", "helm", "valkey-server")
_LABEL = "app.kubernetes.io/instance"
"""Argo CD's mark where somebody has told it to track by label."""
_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
_NO_FINALIZERS: Object = {"metadata": {"finalizers": None}}


@dataclass(frozen=True)
class Access:
    """What providing it needs: the folder of Argo CD's CRDs, the assets of the pinned ESO
    module (its chart and CRDs), and how the Git server is reached."""

    crds: Path
    eso_assets: Path
    git: gitrepo.Door


def provide(kube: Kube, access: Access, *, progress: Progress, timeout: float = 120.0) -> None:
    """Have Argo CD and the Git server running; safe to repeat.

    Raises WaitTimeout, and LabError where git is missing or fails.
    """
    if argocd.install(kube, access.crds, timeout=timeout):
        progress("Argo CD: its controller, repo server and cache run")
    if not gitrepo.is_there(kube) or not access.git.password():
        gitrepo.install(kube, access.git, with_argocd=True)
        progress(f"Git: an empty repository at {gitrepo.url(gitrepo.PLATFORM)}")
    gitrepo.mirror_external_secrets(access.git, access.eso_assets)


def is_provided(kube: Kube) -> bool:
    """Whether Argo CD and the Git server are ready."""
    return argocd.is_ready(kube) and gitrepo.is_there(kube)


def has_deployed(kube: Kube, *, namespace: str) -> bool:
    """Whether something in ``namespace`` was deployed by Argo CD."""
    kinds = ("Deployment", "StatefulSet")
    return any(_is_tracked(obj) for kind in kinds for obj in kube.list("apps/v1", kind, namespace))


def clear(kube: Kube, *, keep: set[str], progress: Progress, timeout: float = 60.0) -> None:
    """Take away Argo CD, all that it deployed, and every namespace but ``keep``; safe to
    repeat, whatever of it still works.

    1. Argo CD itself, which would put back what is taken away.
    2. Admission webhooks into what goes: without a server behind them they refuse everything.
    3. ESO's objects, with the finalizers that a controller would have removed.
    4. The namespaces; then what belongs to none, ESO's CRDs last.
    """
    argocd.remove(kube, timeout=timeout)  # 1
    names = [
        obj["metadata"]["name"]
        for obj in kube.list("v1", "Namespace")
        if obj["metadata"]["name"] not in keep
    ]
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):  # 2
        for obj in kube.list(_ADMISSION, kind):
            if _is_tracked(obj) or _leads_into(obj, set(names)):
                kube.delete(_ADMISSION, kind, obj["metadata"]["name"])
    for resource, obj in _objects_of_eso(kube):  # 3
        meta = obj["metadata"]
        if meta.get("finalizers"):
            kube.patch(
                resource.api_version,
                resource.kind,
                meta["name"],
                _NO_FINALIZERS,
                meta.get("namespace"),
            )
        kube.delete(resource.api_version, resource.kind, meta["name"], meta.get("namespace"))
    with ThreadPoolExecutor(max_workers=4) as pool:  # 4
        list(pool.map(lambda name: namespaces.remove(kube, name, timeout=timeout), names))
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        for obj in kube.list(_RBAC, kind):
            if _is_tracked(obj):
                kube.delete(_RBAC, kind, obj["metadata"]["name"])
    definitions.remove(kube, eso.GROUP, timeout=timeout)
    progress(f"Removed the namespaces {', '.join(sorted(names))}" if names else "Nothing to remove")


def _is_tracked(obj: Object) -> bool:
    meta = obj["metadata"]
    return TRACKING in (meta.get("annotations") or {}) or _LABEL in (meta.get("labels") or {})


def _leads_into(configuration: Object, names: set[str]) -> bool:
    services = (
        (hook.get("clientConfig") or {}).get("service") or {}
        for hook in configuration.get("webhooks") or ()
    )
    return any(service.get("namespace") in names for service in services)


def _objects_of_eso(kube: Kube) -> Iterator[tuple[Resource, Object]]:
    for group in kube.request("GET", "/apis").get("groups", []):
        if not f".{group['name']}".endswith(f".{eso.GROUP}"):
            continue
        version = group["preferredVersion"]["groupVersion"]
        for entry in kube.request("GET", f"/apis/{version}").get("resources", []):
            if "/" in entry["name"]:
                continue
            resource = Resource(version, entry["kind"], entry["name"], entry["namespaced"])
            for obj in _listed(kube, version, entry["kind"]):
                yield resource, obj


def _listed(kube: Kube, version: str, kind: str, *, timeout: float = 15.0) -> list[Object]:
    """Objects of a kind; none when its CRD is just being removed."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return kube.list(version, kind)
        except ApiError as error:
            if error.status == 404:
                return []
            # 429: its CRD is so new that the API server is still making room for it.
            if error.status != 429 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
