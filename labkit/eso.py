"""What the course does with External Secrets Operator: install, wait, ask for a sync.

ESO's kinds are spoken to through the Kubernetes API alone; nothing here knows Vault.
"""

from __future__ import annotations

import time
from collections.abc import Container
from pathlib import Path

from labkit.errors import ApiError, WaitTimeout
from labkit.kube import Kube, Object, Resource, condition, definitions, is_condition

NAMESPACE = "external-secrets"
GROUP = "external-secrets.io"
API = f"{GROUP}/v1"
STORE = Resource(API, "ClusterSecretStore", "clustersecretstores", False)
NAMESPACED_STORE = Resource(API, "SecretStore", "secretstores", True)
EXTERNAL_SECRET = Resource(API, "ExternalSecret", "externalsecrets", True)


def install_crds(kube: Kube, bundle: Path, *, timeout: float = 60.0) -> bool:
    """Apply ESO's CRDs and wait until they are Established; False when they were there.

    ESO's informers wait ten seconds before they try again for a kind that is not
    served yet, so this comes before its Deployment.
    """
    return definitions.install(kube, [bundle], GROUP, timeout=timeout)


def force_sync(kube: Kube, name: str, namespace: str) -> str:
    """Ask ESO to read the secret again now; the kubectl line that does the same.

    Any change of the ExternalSecret's annotations makes ESO reconcile it.
    Source: ESO's FAQ, "Can I manually trigger a secret refresh?".
    """
    stamp = str(time.time_ns())
    kube.patch(
        API,
        "ExternalSecret",
        name,
        {"metadata": {"annotations": {"force-sync": stamp}}},
        namespace,
    )
    return (
        f"kubectl -n {namespace} annotate externalsecret {name} force-sync=$(date +%s) --overwrite"
    )


def wait_store(
    kube: Kube, name: str, *, namespace: str | None = None, timeout: float = 60.0
) -> Object:
    """Wait until a ClusterSecretStore (in a ``namespace``: a SecretStore) says Ready: it
    could sign in to its provider.

    An ExternalSecret that comes earlier fails once, and is tried again a second later.
    Raises WaitTimeout with the condition and the last warning event.
    """
    resource = NAMESPACED_STORE if namespace else STORE
    return _wait_ready(kube, resource, name, namespace, "valid (Ready=True)", timeout)


def wait_synced(kube: Kube, name: str, namespace: str, *, timeout: float = 60.0) -> Object:
    """Wait until an ExternalSecret says Ready; the object.

    Raises WaitTimeout with the condition and the last warning event, which is where
    ESO puts the provider's own words.
    """
    return _wait_ready(kube, EXTERNAL_SECRET, name, namespace, "synced (Ready=True)", timeout)


def _wait_ready(
    kube: Kube, resource: Resource, name: str, namespace: str | None, awaited: str, timeout: float
) -> Object:
    try:
        found = kube.wait(
            resource,
            name,
            namespace,
            lambda seen: is_condition(seen, "Ready"),
            awaited=awaited,
            timeout=timeout,
        )
    except WaitTimeout as error:
        # Events of an object without a namespace are kept in "default".
        event = last_warning(kube, name, namespace or "default")
        if event:
            raise WaitTimeout(error.what, seen=f"{error.seen}; {event}", todo=error.todo) from None
        raise
    assert found is not None  # noqa: S101 - is_condition is never true of None
    return found


def store_of(external_secret: Object) -> tuple[str, str | None]:
    """The name of the store that an ExternalSecret reads from, and its namespace (None for
    a ClusterSecretStore)."""
    reference = external_secret["spec"].get("secretStoreRef") or {}
    is_cluster = reference.get("kind") == STORE.kind
    return str(reference.get("name", "")), (
        None if is_cluster else str(external_secret["metadata"]["namespace"])
    )


def last_warning(kube: Kube, name: str, namespace: str, *, besides: Container[str] = ()) -> str:
    """The newest Warning event about an object, as ``reason: message`` ("" for none).

    ``besides`` is what ``warnings`` told earlier: what has not happened again since then
    does not count.
    """
    events = {
        version: event
        for version, event in _warnings(kube, name, namespace).items()
        if version not in besides
    }
    newest = max(events.values(), key=_happened, default=None)
    return f"{newest.get('reason')}: {newest.get('message')}" if newest else ""


def warnings(kube: Kube, name: str, namespace: str) -> frozenset[str]:
    """Marks of the Warning events about an object so far; one that happens again gets
    another.  An event's own time is no use here: it is cut to whole seconds."""
    return frozenset(_warnings(kube, name, namespace))


def _warnings(kube: Kube, name: str, namespace: str) -> dict[str, Object]:
    try:
        events = kube.request(
            "GET",
            f"/api/v1/namespaces/{namespace}/events",
            query={"fieldSelector": f"involvedObject.name={name},type=Warning"},
        ).get("items", [])
    except ApiError:
        return {}
    return {event["metadata"]["resourceVersion"]: event for event in events}


def _happened(event: Object) -> str:
    series = event.get("series") or {}
    return str(
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )


def is_store_ready(store: Object | None) -> bool:
    """Whether a SecretStore or ClusterSecretStore could sign in to its provider."""
    return is_condition(store, "Ready")


def store_message(store: Object | None) -> str:
    """The message of a store's Ready condition ("" when there is none yet)."""
    ready = condition(store, "Ready")
    return str(ready.get("message", "")) if ready else ""
