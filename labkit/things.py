"""API objects as ``Thing``s: how each is, in a few words, and what it refers to.  Pure.

Health is read from what the controllers themselves say (conditions, counts, container
states) and nothing is guessed: where they say nothing, it is unknown.  Of Secrets only
the metadata comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit import eso
from labkit.kube import Object, Resource, condition
from labkit.snapshot import Health, Link, Thing

KINDS = (
    Resource("apps/v1", "StatefulSet", "statefulsets", True),
    Resource("apps/v1", "Deployment", "deployments", True),
    Resource("apps/v1", "ReplicaSet", "replicasets", True),
    Resource("v1", "Pod", "pods", True),
    Resource("v1", "Secret", "secrets", True),
    eso.STORE,
    eso.NAMESPACED_STORE,
    eso.EXTERNAL_SECRET,
)
"""What is watched, in the order of things in a snapshot."""
HIDDEN = frozenset({"kube-system", "kube-public", "kube-node-lease", "latency"})
"""Namespaces of no lesson: the cluster's own, and the measuring lanes'."""
TRACKING = "argocd.argoproj.io/tracking-id"
"""The annotation by which Argo CD knows its own; its value names one object, so a copy of it
on another one counts for nothing.  Source: "Resource Tracking" in Argo CD's user guide."""

_Told = tuple[Health, str]


def thing_of(kind: str, obj: Object) -> Thing:
    """One object as it is now; ``changed_at`` is the last change that it tells of itself."""
    meta = obj["metadata"]
    health, message = _HEALTH[kind](obj)
    if "deletionTimestamp" in meta:
        health, message = "progressing", "is being deleted"
    return Thing(
        kind=kind,
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta["uid"],
        health=health,
        message=message,
        changed_at=_told_change(obj),
        owners=tuple(owner["uid"] for owner in meta.get("ownerReferences") or []),
        links=tuple(dict.fromkeys(_LINKS.get(kind, _no_links)(obj))),
        owned_by=tuple(map(_owner, meta.get("ownerReferences") or [])),
        tracking=str((meta.get("annotations") or {}).get(TRACKING, "")),
    )


def kind_of(group: str, kind: str) -> str:
    """A kind with its group, as kubectl takes it: ``Deployment.apps``, ``Pod``."""
    return f"{kind}.{group}" if group else kind


def _owner(reference: Mapping[str, Any]) -> str:
    group = str(reference.get("apiVersion", "")).rpartition("/")[0]
    return f"{kind_of(group, reference['kind'])}/{reference['name']}"


@dataclass(frozen=True)
class Mark:
    """What must differ for an object to count as changed."""

    thing: tuple[str, ...]
    version: str


def mark_of(kind: str, obj: Object, seen: Thing) -> Mark:
    """A Secret changes with every write.  Of others the spec counts, what somebody wrote on
    them, and how they are: a refresh that found nothing new, or a heartbeat, does not."""
    meta = obj["metadata"]
    if kind == "Secret":
        return Mark((), meta["resourceVersion"])
    synced = str((obj.get("status") or {}).get("syncedResourceVersion", ""))
    notes = str(sorted((meta.get("annotations") or {}).items()))
    return Mark((seen.health, seen.message, notes), f"{meta.get('generation', 0)}/{synced}")


def unix(stamp: str | None) -> float:
    """An API time in unix seconds, 0 for none."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def _told_change(obj: Object) -> float:
    """From whole seconds, for objects that were there before anybody looked."""
    meta = obj["metadata"]
    stamps = [meta.get("creationTimestamp")]
    stamps += [
        entry.get("time")
        for entry in meta.get("managedFields") or []
        # ESO refreshes its status all the time; its conditions tell when that mattered.
        if entry.get("subresource") != "status" or "conditions" not in (obj.get("status") or {})
    ]
    stamps += [
        entry.get("lastTransitionTime") for entry in (obj.get("status") or {}).get("conditions", [])
    ]
    return max(map(unix, stamps))


# -- health ------------------------------------------------------------------------------


def _workload(obj: Object) -> _Told:
    """A Deployment, StatefulSet or ReplicaSet: are as many pods ready as are wanted?"""
    wanted = int((obj.get("spec") or {}).get("replicas", 1))
    status = obj.get("status") or {}
    ready = int(status.get("readyReplicas", 0))
    if wanted == 0:
        left = int(status.get("replicas", 0))
        return ("progressing", f"stopping: {left} left") if left else ("ok", "scaled to 0")
    stuck = condition(obj, "Progressing")
    if stuck and stuck.get("status") == "False":
        return "bad", str(stuck.get("message", "does not progress"))
    failed = condition(obj, "ReplicaFailure")
    if failed and failed.get("status") == "True":
        return "bad", str(failed.get("message", "cannot create pods"))
    return ("ok" if ready >= wanted else "progressing"), f"{ready} of {wanted} ready"


def _pod(obj: Object) -> _Told:
    status = obj.get("status") or {}
    phase = status.get("phase", "")
    restarts = sum(int(e.get("restartCount", 0)) for e in status.get("containerStatuses") or [])
    again = f", {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    for entry in status.get("containerStatuses") or []:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason != "ContainerCreating" and reason != "PodInitializing":
            said = f": {waiting['message']}" if waiting.get("message") else ""
            return "bad", f"{entry['name']} {reason}{said}{again}"
    if phase == "Running":
        ready = (condition(obj, "Ready") or {}).get("status") == "True"
        return ("ok" if ready else "progressing"), ("ready" if ready else "not ready") + again
    if phase == "Succeeded":
        return "ok", "completed"
    if phase == "Failed":
        return "bad", f"failed: {status.get('message') or status.get('reason') or 'see its log'}"
    scheduled = condition(obj, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return "bad", f"not scheduled: {scheduled.get('message', '')}"
    return ("progressing", "starting") if phase else ("unknown", "no status yet")


def _ready_condition(obj: Object) -> _Told:
    ready = condition(obj, "Ready")
    if ready is None:
        return "unknown", "no condition yet"
    said = str(ready.get("message") or ready.get("reason") or "")
    if ready.get("status") == "True":
        return "ok", said
    return "bad", f"{ready.get('reason')}: {said}" if ready.get("reason") else said


def _secret(_: Object) -> _Told:
    return "ok", ""


_HEALTH: Mapping[str, Callable[[Object], _Told]] = {
    "StatefulSet": _workload,
    "Deployment": _workload,
    "ReplicaSet": _workload,
    "Pod": _pod,
    "Secret": _secret,
    eso.STORE.kind: _ready_condition,
    eso.NAMESPACED_STORE.kind: _ready_condition,
    eso.EXTERNAL_SECRET.kind: _ready_condition,
}


# -- links -------------------------------------------------------------------------------


def _no_links(_: Object) -> Iterator[Link]:
    return iter(())


def _of_pod(obj: Object) -> Iterator[Link]:
    where = obj["metadata"].get("namespace", "")
    spec = obj.get("spec") or {}
    for volume in spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            about = source.get("secret") or {}
            if name := about.get("secretName") or about.get("name"):
                yield Link("mounts", "Secret", where, name)
    for container in spec.get("containers") or []:
        for name in _env_secrets(container):
            yield Link("env", "Secret", where, name)


def _env_secrets(container: Mapping[str, Any]) -> Iterator[str]:
    for entry in container.get("env") or []:
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
        if reference.get("name"):
            yield reference["name"]
    for entry in container.get("envFrom") or []:
        if (entry.get("secretRef") or {}).get("name"):
            yield entry["secretRef"]["name"]


def _of_external_secret(obj: Object) -> Iterator[Link]:
    where, spec = obj["metadata"].get("namespace", ""), obj.get("spec") or {}
    reference = spec.get("secretStoreRef") or {}
    if reference.get("name"):
        kind = reference.get("kind") or eso.NAMESPACED_STORE.kind
        yield Link("reads", kind, "" if kind == eso.STORE.kind else where, reference["name"])
    yield Link("writes", "Secret", where, secret_of(obj))


def _of_store(obj: Object) -> Iterator[Link]:
    provider = (obj.get("spec") or {}).get("provider") or {}
    if server := (provider.get("vault") or {}).get("server"):
        # Its host is a Service's name, and in this course the StatefulSet has the same.
        service, _, rest = server.partition("://")[2].partition(":")[0].partition(".")
        where = rest.partition(".")[0] or obj["metadata"].get("namespace", "")
        yield Link("asks", "StatefulSet", where, service)


def secret_of(external_secret: Object) -> str:
    """The name of the Secret that an ExternalSecret writes."""
    target = (external_secret.get("spec") or {}).get("target") or {}
    return str(target.get("name") or external_secret["metadata"]["name"])


_LINKS: Mapping[str, Callable[[Object], Iterator[Link]]] = {
    "Pod": _of_pod,
    eso.EXTERNAL_SECRET.kind: _of_external_secret,
    eso.STORE.kind: _of_store,
    eso.NAMESPACED_STORE.kind: _of_store,
}
