"""Remove a namespace and all that is in it, without the namespace controller's pause.

The controller looks at a deleted namespace five seconds later, for the sake of control
planes with several API servers.  Where there is one, what it would do can be done at once:
the same deletions, and the finalizer removed when nothing is left.  What cannot be removed
so (something holds a finalizer of its own) is left to the controller, which says why.  In a
cluster that others use too, all of it is left to the controller.

Source: ``namespaceDeletionGracePeriod`` and ``namespacedResourcesDeleter`` in
``pkg/controller/namespace`` of Kubernetes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from labkit.errors import ApiError
from labkit.kube.client import Kube, Resource
from labkit.kube.objects import Object

_PATIENCE = 10.0  # seconds, before it is left to the controller
_CONTROLLER = 120.0  # seconds that the controller of somebody else's cluster may take
_MAKERS = ({"Deployment", "CronJob"}, {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
"""Kinds whose controllers make others, and then those that make pods (see ``replicasets``)."""
_NEEDED = {"list", "deletecollection"}
_OPTIONS: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}


def remove(kube: Kube, name: str, *, pod_grace: int = 1, timeout: float = 60.0) -> None:
    """Delete the namespace ``name`` and wait until it is gone; safe to repeat.

    ``pod_grace`` is what pods get between SIGTERM and SIGKILL, ``timeout`` what all of it
    may take, both in seconds.  Raises WaitTimeout with the namespace's conditions.

    1. Delete what makes pods, makers first, and wait until it is gone.  A ReplicaSet that is
       left behind makes new ones in place of those that vanish, is refused (the namespace is
       ending), and expects them all the same: the next one of its name is then stuck.
    2. Delete the namespace: from then on nothing new can be made in it.
    3. Delete what is in it, every kind at once.
    4. Wait until every kind is empty, then remove the namespace's finalizer.
    """
    found = kube.get("v1", "Namespace", name)
    if found is None:
        return
    if kube.is_shared:  # several API servers, perhaps: the controller's pause is theirs
        kube.delete("v1", "Namespace", name)
        _wait_gone(kube, name, max(timeout, _CONTROLLER))
        return
    kinds = list(_namespaced(kube))
    with ThreadPoolExecutor(max_workers=8) as pool:
        if "deletionTimestamp" not in found["metadata"]:
            for wave in _MAKERS:  # 1
                makers = [kind for kind in kinds if kind.kind in wave]
                list(pool.map(lambda kind: _delete_collection(kube, kind, name, pod_grace), makers))
                _wait_empty(kube, makers, name)
        if not kube.delete("v1", "Namespace", name):  # 2
            return
        list(pool.map(lambda kind: _delete_collection(kube, kind, name, pod_grace), kinds))  # 3
        deadline = time.monotonic() + min(_PATIENCE, timeout)
        while time.monotonic() < deadline:  # 4
            kinds = [k for k, left in zip(kinds, pool.map(lambda k: _any(kube, k, name), kinds),
                                          strict=True) if left]  # fmt: skip
            if not kinds:
                _finalize(kube, name)
                break
            time.sleep(0.05)
    _wait_gone(kube, name, timeout)


def _wait_gone(kube: Kube, name: str, timeout: float) -> None:
    kube.wait(
        kube.resource("v1", "Namespace"),
        name,
        None,
        lambda seen: seen is None,
        awaited="deleted",
        timeout=timeout,
    )


def _wait_empty(kube: Kube, kinds: list[Resource], namespace: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while any(_any(kube, kind, namespace) for kind in kinds) and time.monotonic() < deadline:
        time.sleep(0.02)


def _namespaced(kube: Kube) -> Iterator[Resource]:
    """Every kind that a namespace can hold and that can be deleted, in one version each."""
    versions = ["v1"] + [
        group["preferredVersion"]["groupVersion"]
        for group in kube.request("GET", "/apis").get("groups", [])
    ]
    seen = set()
    for version in versions:
        listed = kube.request("GET", Resource(version, "", "", False).path().rstrip("/"))
        for entry in listed.get("resources", []):
            # Events have two groups and no need to be waited for: they end with the namespace.
            same = (entry["name"], entry["kind"])
            wanted = entry["namespaced"] and set(entry["verbs"]) >= _NEEDED
            if wanted and same not in seen and entry["name"] != "events":
                seen.add(same)
                yield Resource(version, entry["kind"], entry["name"], True)


def _delete_collection(kube: Kube, kind: Resource, namespace: str, pod_grace: int) -> None:
    options: Object = {**_OPTIONS, "propagationPolicy": "Background"}
    if kind.plural == "pods":
        options["gracePeriodSeconds"] = pod_grace
    _unless_gone(kube, "DELETE", kind.path(namespace), options)


def _any(kube: Kube, kind: Resource, namespace: str) -> bool:
    found = _unless_gone(kube, "GET", kind.path(namespace), None)
    return bool(found.get("items"))


def _finalize(kube: Kube, name: str) -> None:
    found = kube.get("v1", "Namespace", name)
    if found is not None:
        body = {**found, "spec": {"finalizers": []}}
        _unless_gone(kube, "PUT", f"/api/v1/namespaces/{name}/finalize", body)


def _unless_gone(kube: Kube, method: str, path: str, body: Object | None) -> Object:
    try:
        return kube.request(method, path, body=body)
    except ApiError as error:
        if error.status not in (404, 405, 409):
            raise
        return {}
