"""How an ExternalSecret is doing, for the checkpoints of lessons 04 and 05.

Its condition says only that something failed; what failed stands in an event.  Here both
are read and told apart from what belongs to an earlier text of the same object.  What an
exercise expects, and what to do next, is the lessons' part.

Messages of ESO are cut down to the piece that names the mistake: the rest holds numbers
that vary, and a template's error may quote a value.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from labkit import eso, vault
from labkit.checks import Scene
from labkit.kube import Object, condition, is_condition

GRACE = 2.0
"""Seconds that ESO has to look at a text that was just applied, before what it said is
taken for its answer to that text."""

_TELLING = (
    re.compile(r'map has no entry for key "[^"]*"'),
    re.compile(r'function "[^"]*" not defined'),
    re.compile(r'cannot find secret data for key: "[^"]*"'),
    re.compile(r"Secret does not exist"),
    re.compile(r'could not get (?:Cluster)?SecretStore "[^"]*"'),
    re.compile(r'(?:Cluster)?SecretStore "[^"]*" is not ready'),
)
_DENIED = re.compile(r"URL: GET \S+?/v1/(\S+)\s+Code: 403")


@dataclass(frozen=True)
class Sync:
    """``said`` is the piece of ESO's message that names the mistake, "" where ESO says
    nothing; ``part`` whether that was about reading the values or about the template."""

    state: Literal["missing", "settling", "synced", "failed"]
    said: str = ""
    part: Literal["reading", "template", ""] = ""


def sync_of(scene: Scene, name: str, namespace: str) -> Sync:
    """How the ExternalSecret is doing with the text that it has now."""
    found = scene.kube.get(eso.API, "ExternalSecret", name, namespace)
    if found is None:
        return Sync("missing")
    if is_condition(found, "Ready"):
        # "3-…": the generation that was synced, and a hash of labels and annotations.
        synced = str(found["status"].get("syncedResourceVersion", ""))
        is_now = synced.startswith(f"{found['metadata']['generation']}-")
        return Sync("synced" if is_now else "settling")
    changed = _changed_at(found)
    if condition(found, "Ready") is None or time.time() - changed < GRACE:
        return Sync("settling")
    message = _newest_warning(scene, found, since=changed)
    if "could not apply template" in message:
        return Sync("failed", _telling(message) or "the template cannot be carried out", "template")
    return Sync("failed", _telling(message) or "could not get the values", "reading")


def secret_data(scene: Scene, name: str, namespace: str) -> dict[str, str] | None:
    """What a Secret holds, decoded; None where there is none.  Not to be shown."""
    found = scene.kube.get("v1", "Secret", name, namespace)
    if found is None:
        return None
    return {
        key: base64.b64decode(value).decode(errors="replace")
        for key, value in (found.get("data") or {}).items()
    }


def quoted_values(text: str) -> dict[str, str]:
    """The values of a file of ``name="value"`` lines; lines of another shape are left out.

    The value is what stands between the outer quotes, as it is.
    """
    return dict(re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE))


def events_of(name: str, namespace: str) -> str:
    """The command that shows what ESO said about an ExternalSecret."""
    return f"`kubectl -n {namespace} events --for externalsecret/{name}`"


def _changed_at(found: Object) -> float:
    """When somebody other than ESO last wrote to the object (unix seconds, whole ones)."""
    times = [
        datetime.fromisoformat(entry["time"]).timestamp()
        for entry in found["metadata"].get("managedFields") or []
        if not entry.get("subresource") and entry.get("manager") != "external-secrets"
    ]
    return max(times, default=0.0)


def _newest_warning(scene: Scene, found: Object, *, since: float) -> str:
    meta = found["metadata"]
    events = scene.kube.request(
        "GET",
        f"/api/v1/namespaces/{meta['namespace']}/events",
        # By uid: events outlive their object, and the next one may have the same name.
        query={"fieldSelector": f"involvedObject.uid={meta['uid']},type=Warning"},
    ).get("items", [])
    newest: Object = max(
        events, key=lambda event: int(event["metadata"]["resourceVersion"]), default={}
    )
    at = newest.get("lastTimestamp") or newest.get("eventTime")
    if not at or datetime.fromisoformat(at).timestamp() < since:
        return ""
    return str(newest.get("message", ""))


def _telling(message: str) -> str:
    if denied := _DENIED.search(message):
        return f"403 permission denied at {denied.group(1)}"
    for pattern in _TELLING:
        if found := pattern.search(message):
            return found.group()
    return ""


def is_behind(scene: Scene, name: str, namespace: str, key: str) -> bool:
    """Whether Vault holds a version of ``key`` that the ExternalSecret may not have read yet."""
    found = scene.kube.get(eso.API, "ExternalSecret", name, namespace)
    read_at = ((found or {}).get("status") or {}).get("refreshTime")
    about = scene.vault.secrets.kv.v2.read_secret_metadata(path=key, mount_point=vault.MOUNT)
    written = datetime.fromisoformat(about["data"]["updated_time"])
    return read_at is not None and datetime.fromisoformat(read_at) <= written


def slip(script: str, right: str, wrong: str) -> str:
    """The script with one mistake in it, for a fault.

    Raises ValueError when the right piece is not there exactly once: it would be no mistake.
    """
    if script.count(right) != 1:
        raise ValueError(f"{right!r} is not in the script exactly once")
    return script.replace(right, wrong)
