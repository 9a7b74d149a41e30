"""Every write to the app's key in Vault, and how far each has come.  Pure: logs in, data out.

1. A rotation begins with Vault's answer to a write; each has the hops that ``trail`` and the
   app's own history prove.
2. A hop counts only when the ones before it do: what came without them is another's.
3. Where the next version has taken a hop's place (it was written before this one was read,
   or was in the Secret before the file changed), this one is overtaken there.
4. A rotation that is not done waits for something: for its time, or for what is broken.

``journey`` follows one rotation that it makes itself; this tells of all that happen, whoever
makes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labkit import app as demo
from labkit import eso, vault
from labkit.journey import Route
from labkit.kube import Object, condition
from labkit.snapshot import Hop, Rotation, Vault
from labkit.things import unix
from labkit.trail import HOPS, Proof, Trail, app_proofs, in_order
from labkit.trail import Rotation as Written
from labkit.vault import AuditEntry

GRACE = 3.0  # seconds that a hop may take when nothing is to be waited for
_KUBELET = 90.0  # seconds between a kubelet's looks at a pod's Secrets, at most
_SLACK = 0.01  # seconds: a witness writes its line when it has acted
_KUBECTL = "fieldManager=kubectl-"  # kubectl annotate, kubectl edit: not an apply
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Evidence:
    """Lines of the four witnesses, oldest first: Vault's audit device, the API server's
    audit log, the node's journal, and the app's history (of each process that had it)."""

    vault: Sequence[AuditEntry] = ()
    api: Sequence[Object] = ()
    node: Sequence[Object] = ()
    app: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Circumstances:
    """What else must be known to say why a rotation waits.

    ``external`` is the ExternalSecret; ``operator`` whether ESO has a ready pod; ``able_since``
    when both it and Vault were last found able to work; ``mounted`` whether any pod mounts the
    Secret; ``words`` what somebody said of a failure since the write (see ``trouble``), by
    the rotation's start.
    """

    now: float
    sync: str = "watch"
    vault: Vault = field(default_factory=Vault)
    external: Object | None = None
    operator: bool = True
    able_since: float = 0.0
    pod_uid: str = ""
    mounted: bool = True
    app_error: str = ""
    app_started: float | None = None
    words: Mapping[float, str] = field(default_factory=dict)


def rotations(
    evidence: Evidence, around: Circumstances, route: Route, *, most: int = 10
) -> tuple[Rotation, ...]:
    """The last ``most`` rotations, oldest first."""
    path = f"{vault.MOUNT}/data/{route.key}"
    writes = [  # 1
        entry
        for entry in evidence.vault
        if entry.type == "response"
        and entry.path == path
        and entry.operation in {"update", "create"}
        and not entry.error
        and entry.version is not None
    ][-most:]
    proven = [
        _proofs(entry, evidence, around, route, writes[i + 1].at if writes[i + 1 :] else None)
        for i, entry in enumerate(writes)
    ]
    told: list[Rotation] = []
    for i, entry in enumerate(writes):
        later = proven[i + 1] if i + 1 < len(writes) else None
        told.append(_tell(entry, proven[i], later, evidence, around, route))
    return tuple(told)


def _proofs(
    write: AuditEntry,
    evidence: Evidence,
    around: Circumstances,
    route: Route,
    until: float | None,
) -> dict[str, Proof]:
    """The hops in a row that are proven, from the first on."""
    entries = tuple(
        entry
        for entry in evidence.vault
        if write.at <= entry.at and (until is None or entry.at <= until)
    )
    swap = next(
        (
            line
            for line in evidence.node
            if line["at"] >= write.at and _is_of(line, route, around.pod_uid)
        ),
        None,
    )
    trail = Trail(entries, tuple(evidence.api), tuple(evidence.node))
    found = trail.proofs(
        Written(
            key=route.key,
            version=write.version or 0,
            namespace=route.namespace,
            secret=route.secret,
            pod_uid=swap["uid"] if swap else "",
            volumes=frozenset([swap["volume"]] if swap else []),
            started=write.at,
        )
    )
    if "file-swapped" in found:
        found |= app_proofs(evidence.app, after=0, since=found["file-swapped"].at - _SLACK)
    row: dict[str, Proof] = {}
    for name in HOPS:  # 2
        if name not in found:
            break
        row[name] = found[name]
    return in_order(row)


def _is_of(line: Object, route: Route, pod_uid: str) -> bool:
    """Whether the app's pod, the present one or an earlier one, got the Secret here."""
    return (
        line.get("namespace") == route.namespace
        and (line.get("source") or {}).get("name") == route.secret
        and (line["uid"] == pod_uid or line.get("pod", "").startswith(f"{demo.DEPLOYMENT}-"))
    )


def _tell(
    write: AuditEntry,
    proofs: Mapping[str, Proof],
    later: Mapping[str, Proof] | None,
    evidence: Evidence,
    around: Circumstances,
    route: Route,
) -> Rotation:
    kept, overtaken = dict(proofs), ""
    for i, name in enumerate(HOPS[1:], 1):  # 3
        at = kept[name].at if name in kept else None
        cause = later.get(HOPS[i - 1]) if later else None
        if cause and (at is None or cause.at <= at):
            kept = {hop: kept[hop] for hop in HOPS[:i]}
            overtaken = name
            break
        if at is None:
            break
    base = Rotation(
        version=write.version or 0,
        started=write.at,
        writer=write.identity,
        forced=_is_forced(write, kept, evidence, around, route),
        hops=tuple(
            Hop(name, kept[name].at, round(kept[name].at - write.at, 6), kept[name].evidence)
            if name in kept
            else Hop(name)
            for name in HOPS
        ),
        progress="done",
    )
    if overtaken:
        return replace(base, progress="overtaken", waits_for=overtaken, why=_overtaken(overtaken))
    if len(kept) == len(HOPS):
        return base
    return _waiting(base, kept, around, route)  # 4


def _overtaken(hop: str) -> str:
    return {
        "eso-read": "ESO read a later version instead",
        "secret-updated": "a later version was written into the Secret instead",
        "file-swapped": "the file got a later version instead",
        "app-reloaded": "the app read a later version instead",
        "page-updated": "no page had shown it when a later version came",
    }[hop]


def _is_forced(
    write: AuditEntry,
    proofs: Mapping[str, Proof],
    evidence: Evidence,
    around: Circumstances,
    route: Route,
) -> bool:
    """Whether somebody other than ESO changed the ExternalSecret between write and read.

    A server-side apply is left out: most change nothing, and the log does not tell.
    """
    until = proofs["eso-read"].at if "eso-read" in proofs else around.now
    return any(
        line.get("verb") in {"patch", "update"}
        and (about := line.get("objectRef") or {}).get("resource") == "externalsecrets"
        and about.get("name") == route.external_secret
        and about.get("namespace") == route.namespace
        and not about.get("subresource")
        and "fieldManager=" not in line.get("requestURI", "").replace(_KUBECTL, "")
        and not line["user"]["username"].startswith(f"system:serviceaccount:{eso.NAMESPACE}:")
        and write.at <= unix(line["stageTimestamp"]) <= until
        for line in evidence.api
    )


# -- why one waits -----------------------------------------------------------------------


def _waiting(
    rotation: Rotation, proofs: Mapping[str, Proof], around: Circumstances, route: Route
) -> Rotation:
    hop = next(name for name in HOPS if name not in proofs)
    since = proofs[HOPS[HOPS.index(hop) - 1]].at
    if hop in {"app-reloaded", "page-updated"} and (around.app_started or 0.0) > since + GRACE:
        why = "the app was started again since, and its own history with it"
        return replace(rotation, progress="unproven", waits_for=hop, why=why)
    broken, waits, due = _reason(hop, since, rotation, around, route)
    late = around.now >= due
    return replace(
        rotation,
        progress="stalled" if broken or late else "under way",
        waits_for=hop,
        why=broken or (_nothing_said(hop, rotation, route) if late else waits),
        due=None if broken or late else due,
    )


def _reason(
    hop: str, since: float, rotation: Rotation, around: Circumstances, route: Route
) -> tuple[str, str, float]:
    """What is broken (or ""), what is waited for otherwise, and until when."""
    words = around.words.get(rotation.started, "")
    soon = since + GRACE
    if hop == "eso-read":
        return _before_eso(rotation, around, route, words)
    if hop == "secret-updated":
        broken = words or _not_ready(around.external)
        return broken, f"ESO is about to write the Secret {route.secret}", soon
    if hop == "file-swapped":
        if not around.mounted:
            return f"no pod mounts the Secret {route.secret}", "", soon
        if around.sync == "kubelet":
            waits = "the node looks at its pods' Secrets every 60 to 90 s (sync mode kubelet)"
            return "", waits, since + _KUBELET + GRACE
        return "", "the node is about to change the file", soon
    if hop == "app-reloaded":
        broken = f"the app cannot use the new file: {around.app_error}" if around.app_error else ""
        return broken, "the app is about to read the file", soon
    return "", "the page is about to show it", soon


def _before_eso(
    rotation: Rotation, around: Circumstances, route: Route, words: str
) -> tuple[str, str, float]:
    soon = max(rotation.started, around.able_since) + GRACE
    if around.external is None:
        return f"there is no ExternalSecret {route.external_secret}", "", soon
    if around.vault.state != "open":
        return f"Vault is {around.vault.state}, so ESO cannot read", "", soon
    if not around.operator:
        return "ESO does not run", "", soon
    if broken := words or _not_ready(around.external):
        return broken, "", soon
    if rotation.forced:
        return "", "ESO was asked to read now", soon
    spec = around.external.get("spec") or {}
    policy = spec.get("refreshPolicy") or "Periodic"
    told = str(spec.get("refreshInterval") or "1h")
    interval = seconds_of(told)
    if policy != "Periodic":
        return f"refreshPolicy {policy}: ESO reads only when the ExternalSecret changes", "", soon
    if not interval:
        return f"refreshInterval {told}: ESO never reads again", "", soon
    last = unix((around.external.get("status") or {}).get("refreshTime"))
    due = max((last or rotation.started) + interval, soon)
    return "", f"ESO reads at its next refresh (refreshInterval {told})", due + GRACE


def _not_ready(external: Object | None) -> str:
    """What the ExternalSecret itself says when it fails.  (An event may quote a value.)"""
    ready = condition(external, "Ready")
    if ready is None or ready.get("status") == "True" or not ready.get("message"):
        return ""  # or just made
    return f"the ExternalSecret says {ready.get('reason')}: {ready.get('message')}"


def _nothing_said(hop: str, rotation: Rotation, route: Route) -> str:
    return {
        "eso-read": "ESO has not read it, and nobody says why",
        "secret-updated": f"ESO read version {rotation.version} and left the Secret "
        f"{route.secret} as it was: is anything in it different?",
        "file-swapped": "the node has not changed the file, and nobody says why",
        "app-reloaded": "the app has not read the new file: does it watch the folder?",
        "page-updated": "no page has shown it: is the app's page open?",
    }[hop]


def seconds_of(duration: str) -> float:
    """A Go duration (``15s``, ``1h0m0s``) in seconds; 0 for what is none."""
    parts = re.findall(r"([0-9]*\.?[0-9]+)(ms|h|m|s)", duration)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
