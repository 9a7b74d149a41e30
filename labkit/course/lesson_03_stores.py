"""What a store is worth: whether ESO can sign in with it, and whether it can read through it.

A store's condition says only that ESO could not make a client; Vault's words stand in an
event.  And a store that says Valid may still read nothing (another path, a ServiceAccount
that nobody looked for yet), so the rest is tried: ``probe`` makes a real ExternalSecret
that writes no Secret, waits for ESO's answer and removes it.

What is expected of which store is said by the lesson's exercises.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from labkit import eso, vault
from labkit.checks import Finding, Scene, met, not_yet
from labkit.errors import ApiError, LabError
from labkit.kube import Object, condition, is_condition

GRACE = 2.0
"""Seconds that ESO has to look at a store that was just changed, before what it says of it
is taken for its answer to the change."""

_SLOW = 7.0  # seconds, where it has not complained since: a server that is not there costs 4

_PROBE_TIMEOUT = 12.0  # seconds; a server that is not there costs ESO four
_EVENT_TIMEOUT = 2.0  # seconds: events are written a little after conditions

_TELLING = (
    re.compile(r'invalid role name "[^"]*"'),
    re.compile(r"service account name not authorized"),
    re.compile(r"namespace not authorized"),
    re.compile(r"invalid audience \(aud\) claim"),
    re.compile(r'cannot request Kubernetes service account token for service account "[^"]*"'),
    re.compile(r"denied by spec\.condition"),
    re.compile(r"Secret does not exist"),
    re.compile(r'(?:Cluster)?SecretStore "[^"]*" is not ready'),
    re.compile(r'could not get (?:Cluster)?SecretStore "[^"]*"'),
)
_ANSWER = re.compile(r"URL: \S+ (?P<server>\S+?)/v1/(?P<path>\S+)\s+Code: (?P<code>\d+)")
_NO_ANSWER = re.compile(r'(?:Put|Get) "(?P<server>\S+?)/v1/')


@dataclass(frozen=True)
class State:
    """``said`` is the piece of ESO's message that names the mistake, "" where all is well."""

    is_: Literal["missing", "settling", "ready", "failed"]
    said: str = ""


def state_of(scene: Scene, kind: str, name: str, namespace: str | None = None) -> State:
    """How a store is doing with the text that it has now."""
    found = scene.kube.get(eso.API, kind, name, namespace)
    if found is None:
        return State("missing")
    # A store's status does not say which text it speaks of; that of a new one can only be its.
    is_edited = found["metadata"].get("generation", 1) > 1
    changed = _changed_at(found) if is_edited else 0.0
    since = time.time() - changed
    if condition(found, "Ready") is None or since < GRACE:
        return State("settling")
    if is_condition(found, "Ready"):
        return State("ready")
    # Events of an object without a namespace are kept in "default".
    event = _warning(scene, found, namespace or "default")
    if since < _SLOW and _happened(event) <= changed:
        return State("settling")
    return State("failed", telling(str(event.get("message", ""))))


def probe(
    scene: Scene, kind: str, store: str, *, namespace: str, key: str, field: str = "username"
) -> str:
    """Read ``field`` of ``key`` through a store, from ``namespace``; "" when ESO could.

    Otherwise the piece of ESO's message that names the mistake.  Raises LabError when
    there is no such namespace, or no answer.
    """
    name = f"probe-{uuid.uuid4().hex[:8]}"  # its events are nobody else's
    wanted = {
        "apiVersion": eso.API,
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": kind, "name": store},
            "target": {"name": name, "creationPolicy": "None"},
            "data": [{"secretKey": field, "remoteRef": {"key": key, "property": field}}],
        },
    }
    try:
        scene.kube.apply(wanted)
    except ApiError as error:
        if error.status != 404:
            raise
        raise LabError(
            f"There is no namespace {namespace} any more",
            todo="lesson.restart() makes what the lesson began with again.",
        ) from error
    try:
        found = scene.kube.wait(
            eso.EXTERNAL_SECRET,
            name,
            namespace,
            lambda seen: condition(seen, "Ready") is not None,
            awaited="looked at by ESO",
            timeout=_PROBE_TIMEOUT,
        )
        if found is None or is_condition(found, "Ready"):
            return ""
        return telling(str(_warning(scene, found, namespace).get("message", "")))
    finally:
        scene.kube.delete(eso.API, "ExternalSecret", name, namespace)


def telling(message: str) -> str:
    """The piece of ESO's message that names the mistake; the rest holds numbers that vary."""
    for piece in _TELLING:
        if found := piece.search(message):
            return found.group()
    answer = _ANSWER.search(message)
    # A proxy on the way may answer for a server that is not there, 403 or 502 for instance.
    if answer and answer["server"] == vault.ADDRESS and answer["code"] == "403":
        return f"permission denied at {answer['path']}"
    if silent := answer or _NO_ANSWER.search(message):
        return f"no Vault answers at {silent['server']}"
    return "no reason that this lesson knows"


def signs_in(scene: Scene, kind: str, name: str, namespace: str | None = None) -> Finding:
    """Whether ESO could sign in to Vault with a store; with the cause when it could not."""
    expected = f"ESO can sign in to Vault with the {kind} {name}"
    state = state_of(scene, kind, name, namespace)
    if state.is_ == "ready":
        return met(expected)
    where = f"kubectl -n {namespace or 'default'} events --for {kind.lower()}/{name}"
    if state.is_ == "settling":
        return not_yet(
            expected,
            "ESO is still trying",
            next=f"Wait a moment and check again; `{where}` shows what it meets.",
            settling=True,
            blocks=True,
        )
    return not_yet(
        expected,
        f"it cannot: {state.said}",
        next=f"Read the whole message: `{where}`.",
        hint=_why_not_in(state.said, namespace),
        blocks=True,
    )


def _why_not_in(said: str, namespace: str | None) -> str:
    if "invalid role name" in said:
        return "Vault has no role of that name. `bao list auth/kubernetes/role` shows which it has."
    if "service account name" in said or "namespace not authorized" in said:
        return (
            "The role does not admit the ServiceAccount that the store names. Compare "
            "serviceAccountRef with `bao read auth/kubernetes/role/ROLE`."
        )
    if "audience" in said:
        return (
            "The JWT is made for the audiences that serviceAccountRef lists. One of them must be "
            "the audience of the role."
        )
    if "service account token" in said:
        if namespace:
            return (
                "ESO gets no token for that ServiceAccount. A SecretStore looks for it in its own "
                "namespace, whatever you write, and ESO may mint tokens only for the one that "
                "the Role external-secrets-tokens names."
            )
        return (
            "ESO gets no token for the ServiceAccount that serviceAccountRef names: it does not "
            "exist in that namespace, or no Role lets ESO mint tokens for it. Here ESO may for "
            "its own: external-secrets in the namespace external-secrets."
        )
    if "permission denied at auth/" in said:
        return (
            "Nothing to log in to at that path. mountPath is the name of the auth method: "
            "`bao auth list` shows it."
        )
    if "answers at" in said:
        return (
            "The server is Vault's Service: http://vault.vault:8200 (service, namespace, port). "
            "`kubectl -n vault get services` shows it."
        )
    return "The store's event has the whole message; its last line is the one to read."


def why_not_read(said: str, key: str) -> str:
    """What to do about a store that is signed in and still reads nothing."""
    if "service account token" in said:
        return (
            "serviceAccountRef has no namespace, so ESO looks for the ServiceAccount in the "
            "namespace of each ExternalSecret, where there is none. Valid meant: not tried."
        )
    if "permission denied at" in said or "does not exist" in said:
        return (
            f"ESO asked for another path than secret/data/{key}. In a store, path is the name of "
            "the mount alone (secret), and version is v2: ESO puts data/ in by itself."
        )
    if "denied by spec.condition" in said:
        return "The store's conditions must let this namespace in: name it in namespaces."
    if "could not get" in said:
        return "There is no such store yet: make it first (the exercise before this one)."
    return "An ExternalSecret's events have the whole message."


def _changed_at(found: Object) -> float:
    """When somebody other than ESO last wrote to the object (unix seconds, whole ones)."""
    times = [
        datetime.fromisoformat(entry["time"]).timestamp()
        for entry in found["metadata"].get("managedFields") or []
        if not entry.get("subresource") and entry.get("manager") != "external-secrets"
    ]
    return max(times, default=0.0)


def _happened(event: Object) -> float:
    """When an event happened last (unix seconds, whole ones)."""
    at = event.get("lastTimestamp") or event.get("eventTime")
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def _warning(scene: Scene, found: Object, namespace: str) -> Object:
    """ESO's newest complaint about this very object, as an event; empty when there is none.

    By uid: events outlive their object, and the next one may have the same name.
    """
    deadline = time.monotonic() + _EVENT_TIMEOUT
    while True:
        events = scene.kube.request(
            "GET",
            f"/api/v1/namespaces/{namespace}/events",
            query={"fieldSelector": f"involvedObject.uid={found['metadata']['uid']},type=Warning"},
        ).get("items", [])
        if events or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    newest: Object = max(
        events, key=lambda event: int(event["metadata"]["resourceVersion"]), default={}
    )
    return newest
