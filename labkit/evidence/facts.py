"""What the cluster, Vault and the app have to say about one ExternalSecret, gathered once.

Every source may be missing (another cluster, a broken Vault, no app yet).  That is kept
as a reason and never raised: a step that lacks its witness is told as not proven.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import app as demo
from labkit import eso, vault
from labkit.errors import LabError
from labkit.evidence.witnesses import ApiCall, Rename, api_calls, renames
from labkit.kube import Kube, Object, condition
from labkit.vault import AuditEntry


@dataclass(frozen=True)
class Subject:
    """Whose way is followed: an ExternalSecret and the application that mounts it, by
    name, all in one namespace.  What they refer to is read from the cluster."""

    external_secret: str = demo.EXTERNAL_SECRET
    namespace: str = demo.NAMESPACE
    deployment: str = demo.DEPLOYMENT
    service: str = demo.SERVICE
    port: str = demo.PORT


@dataclass(frozen=True)
class Store:
    """The store that an ExternalSecret names: ``account`` (``namespace:name``) is the
    ServiceAccount that ESO is to be at Vault, "" where the store names none."""

    kind: str = ""
    name: str = ""
    account: str = ""
    mount: str = vault.MOUNT
    login: str = "auth/kubernetes/login"


@dataclass(frozen=True)
class Facts:
    """All that was found.  ``calls``, ``renames``, ``vault`` and ``events`` are None
    where their witness cannot be heard; ``silent`` says why, by witness.  ``made`` has the
    creationTimestamp of each of the subject's objects that exist, ``words`` what Vault
    last said to ESO's displeasure, from ESO's event."""

    subject: Subject
    external: Object | None
    store: Store
    secret: str
    paths: frozenset[str]
    pod: Object | None
    calls: tuple[ApiCall, ...] | None
    renames: tuple[Rename, ...] | None
    vault: tuple[AuditEntry, ...] | None
    events: tuple[dict[str, Any], ...] | None
    words: str
    made: dict[str, str]
    silent: dict[str, str]

    @property
    def is_ready(self) -> bool:
        return (condition(self.external, "Ready") or {}).get("status") == "True"

    @property
    def complaint(self) -> str:
        """What the ExternalSecret itself says, without ESO's events: a template's error
        may quote a value."""
        if self.external is None:
            return "there is no such ExternalSecret"
        ready = condition(self.external, "Ready") or {}
        if not ready:
            return "the ExternalSecret has no condition yet"
        return f"the ExternalSecret says {ready.get('reason')}: {ready.get('message')}"

    def silence(self, witness: str) -> str:
        """Why a witness (``api``, ``node``, ``vault``, ``app``) says nothing; "" if it does."""
        return self.silent.get(witness, "")

    @property
    def mount(self) -> tuple[str, str]:
        """(volume, mountPath) where the pod has the Secret; ("", "") where it has not."""
        spec = (self.pod or {}).get("spec") or {}
        for volume in spec.get("volumes") or []:
            if (volume.get("secret") or {}).get("secretName") == self.secret:
                for container in spec.get("containers") or []:
                    for place in container.get("volumeMounts") or []:
                        if place["name"] == volume["name"]:
                            return volume["name"], place["mountPath"]
        return "", ""


def gather(
    kube: Kube, *, api_audit: Path | None, node_journal: Path | None, subject: Subject
) -> Facts:
    """Ask every witness once.  Raises ClusterError only when the API does not answer."""
    external = kube.get(eso.API, "ExternalSecret", subject.external_secret, subject.namespace)
    spec = (external or {}).get("spec") or {}
    store = _store(kube, spec, subject)
    secret = (spec.get("target") or {}).get("name") or subject.external_secret
    deployment = kube.get("apps/v1", "Deployment", subject.deployment, subject.namespace)
    pod = _pod(kube, deployment, subject)
    calls = api_calls(api_audit)
    swaps = renames(node_journal, pod_uid=pod["metadata"]["uid"] if pod else "", secret=secret)
    silent: dict[str, str] = {}
    if calls is None:
        silent["api"] = "the API server's audit log of this cluster cannot be read from here"
    if swaps is None:
        silent["node"] = "no journal of this cluster's node can be read from here"
    entries: tuple[AuditEntry, ...] | None = None
    try:
        entries = tuple(vault.audit(kube))
    except LabError as error:
        silent["vault"] = str(error)
    events: tuple[dict[str, Any], ...] | None = None
    try:
        events = _history(kube, subject)
    except (LabError, ValueError) as error:
        silent["app"] = f"the app does not answer ({getattr(error, 'seen', '') or error})"
    service = kube.get("v1", "Service", subject.service, subject.namespace)
    return Facts(
        subject=subject,
        external=external,
        store=store,
        secret=secret,
        paths=_paths(spec, store),
        pod=pod,
        calls=calls,
        renames=swaps,
        vault=entries,
        events=events,
        words=_words(kube, subject),
        made={
            resource: str(obj["metadata"]["creationTimestamp"])
            for resource, obj in (
                ("externalsecrets", external),
                ("deployments", deployment),
                ("services", service),
            )
            if obj
        },
        silent=silent,
    )


def _store(kube: Kube, spec: Object, subject: Subject) -> Store:
    reference = spec.get("secretStoreRef") or {}
    kind, name = reference.get("kind") or "SecretStore", reference.get("name") or ""
    if not name:
        return Store()
    is_wide = kind == "ClusterSecretStore"
    found = kube.get(eso.API, kind, name, None if is_wide else subject.namespace)
    provider = (((found or {}).get("spec") or {}).get("provider") or {}).get("vault") or {}
    auth = (provider.get("auth") or {}).get("kubernetes") or {}
    who = auth.get("serviceAccountRef") or {}
    # A ClusterSecretStore that names no namespace means the ExternalSecret's own.
    where = (who.get("namespace") if is_wide else None) or subject.namespace
    return Store(
        kind=kind,
        name=name,
        account=f"{where}:{who['name']}" if who.get("name") else "",
        mount=provider.get("path") or vault.MOUNT,
        login=f"auth/{(auth.get('mountPath') or 'kubernetes').strip('/')}/login",
    )


def _paths(spec: Object, store: Store) -> frozenset[str]:
    """The paths at which Vault is asked for this ExternalSecret, KV v2 or v1."""
    keys = [entry.get("remoteRef", {}).get("key") for entry in spec.get("data") or []]
    keys += [(entry.get("extract") or {}).get("key") for entry in spec.get("dataFrom") or []]
    names = {key.removeprefix(f"{store.mount}/").removeprefix("data/") for key in keys if key}
    return frozenset(f"{store.mount}/{part}{name}" for name in names for part in ("data/", ""))


def _pod(kube: Kube, deployment: Object | None, subject: Subject) -> Object | None:
    """The Deployment's newest pod that is not being deleted."""
    wanted = ((deployment or {}).get("spec") or {}).get("selector", {}).get("matchLabels") or {}
    if not wanted:
        return None
    labels = ",".join(f"{key}={value}" for key, value in wanted.items())
    pods = [
        pod
        for pod in kube.list("v1", "Pod", subject.namespace, labels=labels)
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def _words(kube: Kube, subject: Subject) -> str:
    """Vault's own words in ESO's last Warning event.

    Its audit device tells some refusals as an HMAC only.  No other part of a message is
    taken: a template's error may quote a value.
    """
    message = eso.last_warning(kube, subject.external_secret, subject.namespace)
    found = re.search(r"Code: \d+\. Errors:\s+\* (.+)", message, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _history(kube: Kube, subject: Subject) -> tuple[dict[str, Any], ...]:
    answer = kube.service("GET", subject.namespace, subject.service, subject.port, "/api/history")
    return tuple(json.loads(answer))
