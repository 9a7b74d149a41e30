"""Small pods for tests: what to run, and what to wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.kube import Kube, Object

WRITE_FOREVER = "while true; do cat /secrets/word; echo; sleep 0.05; done"


def pod(name: str, script: str = "sleep 1000", **spec: Any) -> Object:
    """A pod with one container ``main`` that runs ``script`` in a shell.

    Keys of the container (``env``, ``volumeMounts``, …) and of the pod's spec both go.
    """
    container = {
        key: spec.pop(key)
        for key in list(spec)
        if key in {"env", "envFrom", "ports", "volumeMounts", "readinessProbe", "livenessProbe"}
    }
    main = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [main], **spec},
    }


def secret(name: str, **data: str) -> Object:
    """A Secret with these texts."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def secret_volume(name: str, **more: Any) -> Mapping[str, Any]:
    """A volume ``files`` with a Secret's keys."""
    return {"name": "files", "secret": {"secretName": name, **more}}


def wait_pod(
    kube: Kube,
    namespace: str,
    name: str,
    is_met: Callable[[Object], bool],
    awaited: str,
    *,
    timeout: float = 30,
) -> Object:
    """Wait until the pod's status is as ``is_met`` says; the pod."""
    found = kube.wait(
        kube.resource("v1", "Pod"),
        name,
        namespace,
        lambda seen: seen is not None and is_met(seen),
        awaited=awaited,
        timeout=timeout,
    )
    assert found is not None
    return found


def phase(wanted: str) -> Callable[[Object], bool]:
    return lambda seen: (seen.get("status") or {}).get("phase") == wanted


def waiting_reason(seen: Object, container: str = "main") -> str:
    """Why a container waits, "" when it does not."""
    return str(state(seen, container).get("waiting", {}).get("reason", ""))


def state(seen: Object, container: str = "main") -> Mapping[str, Any]:
    status = seen.get("status") or {}
    every = [
        *(status.get("containerStatuses") or []),
        *(status.get("initContainerStatuses") or []),
    ]
    found = next((each for each in every if each["name"] == container), {})
    return found.get("state") or {}


def restarts(seen: Object) -> int:
    statuses = (seen.get("status") or {}).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount", 0))


def log(kube: Kube, namespace: str, name: str, **query: object) -> str:
    """The log of the pod's container ``main``."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
    return kube.raw("GET", path, query={"container": "main", **query}).decode()


def events(kube: Kube, namespace: str, name: str) -> str:
    """Reasons and messages of a pod's events, a line each."""
    found = kube.request(
        "GET",
        f"/api/v1/namespaces/{namespace}/events",
        query={"fieldSelector": f"involvedObject.name={name}"},
    )
    return "\n".join(f"{each['reason']}: {each['message']}" for each in found["items"])
