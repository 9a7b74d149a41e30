"""One object close up: its YAML, its events, and a Secret's values only when asked for.

What the API server keeps for itself (managedFields) is left out.  The values of a Secret
are masked; ``reveal`` is the one door to them, and keeps nothing.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import yaml

from labkit.errors import ApiError
from labkit.kube import Kube, Object, Resource
from labkit.things import KINDS, unix

EVENTS = 10
"""The newest events of an object, at most."""

_RESOURCES = {resource.kind: resource for resource in KINDS}
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Event:
    """Something that was said of the object; ``at`` is the last time, in unix seconds."""

    at: float
    type: str
    reason: str
    message: str
    count: int


@dataclass(frozen=True)
class Closeup:
    """The object as YAML, its events (oldest first), and the lines that show the same."""

    yaml: str
    events: tuple[Event, ...]
    commands: tuple[str, ...]


def look(kube: Kube, kind: str, namespace: str, name: str) -> Closeup | None:
    """The object as it is now, None when it is gone.  Raises ApiError when it is refused."""
    resource = _RESOURCES[kind]
    obj = _get(kube, resource, namespace, name)
    if obj is None:
        return None
    events = _events(kube, obj["metadata"]["uid"], namespace)
    return Closeup(_as_yaml(obj, kind), events, _commands(resource, namespace, name))


def reveal(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    """A Secret's values by key, as the files of a pod have them; empty when it is gone."""
    obj = _get(kube, _RESOURCES["Secret"], namespace, name) or {}
    return {key: _text(value) for key, value in (obj.get("data") or {}).items()}


def reveal_command(namespace: str, name: str, keys: tuple[str, ...]) -> str:
    """The lines that show the same values in a terminal."""
    return "\n".join(
        f"kubectl -n {namespace} get secret {name} -o jsonpath='{{.data.{escaped}}}' | base64 -d"
        for key in keys
        for escaped in [key.replace(".", "\\.")]
    )


def _get(kube: Kube, resource: Resource, namespace: str, name: str) -> Object | None:
    try:
        return kube.request("GET", resource.path(namespace or None, name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _text(value: str) -> str:
    raw = base64.b64decode(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"({len(raw)} bytes that are no text)"


def _as_yaml(obj: Object, kind: str) -> str:
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    shown = {"apiVersion": obj["apiVersion"], "kind": kind, **obj, "metadata": meta}
    if kind == "Secret":
        if _LAST_APPLIED in (notes := meta.get("annotations") or {}):
            meta["annotations"] = {**notes, _LAST_APPLIED: "(masked)"}
        shown["data"] = {
            key: f"•••••• ({len(base64.b64decode(value))} bytes, masked)"
            for key, value in (obj.get("data") or {}).items()
        }
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=76))


def _events(kube: Kube, uid: str, namespace: str) -> tuple[Event, ...]:
    # Events of an object without a namespace are kept in "default".
    found = kube.request(
        "GET",
        f"/api/v1/namespaces/{namespace or 'default'}/events",
        query={"fieldSelector": f"involvedObject.uid={uid}"},
    ).get("items", [])
    events = [_event(entry) for entry in found]
    return tuple(sorted(events, key=lambda event: event.at)[-EVENTS:])


def _event(entry: Object) -> Event:
    series = entry.get("series") or {}
    at = (
        entry.get("lastTimestamp")
        or series.get("lastObservedTime")
        or entry.get("eventTime")
        or entry["metadata"].get("creationTimestamp")
    )
    return Event(
        at=unix(at),
        type=entry.get("type", ""),
        reason=entry.get("reason", ""),
        message=entry.get("message", ""),
        count=int(entry.get("count") or series.get("count") or 1),
    )


def _commands(resource: Resource, namespace: str, name: str) -> tuple[str, ...]:
    where = f" -n {namespace}" if namespace else ""
    kind = resource.kind.lower()
    # `get -o yaml` would print a Secret's values; `describe` tells their sizes.
    show = f"describe {kind} {name}" if kind == "secret" else f"get {kind} {name} -o yaml"
    return (f"kubectl{where} {show}", f"kubectl{where} events --for {kind}/{name}")
