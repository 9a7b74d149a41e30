"""What is running of a Deployment, and what its page says: for lesson 05's checkpoints.

A rollout keeps the old pod until the new one is ready, so after a mistake the old page still
answers.  What counts here is the pod of the Deployment's newest text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from labkit import app, vault
from labkit.checks import Finding, Scene, met, not_yet
from labkit.errors import ClusterError
from labkit.kube import Object, is_condition

_REVISION = "deployment.kubernetes.io/revision"
_PORT = 8080
FIELDS = {"db_con": "url", "db_user": "username", "db_password": "password"}
"""What the page shows, and the property in Vault that each value comes from."""


def deployment(scene: Scene, name: str) -> Object | None:
    return scene.kube.get("apps/v1", "Deployment", name, app.NAMESPACE)


def newest_pod(scene: Scene, name: str) -> Object | None:
    """A pod of the Deployment's newest text; None while there is none."""
    found = deployment(scene, name)
    if (
        found is None
        or (found.get("status") or {}).get("observedGeneration")
        != (found["metadata"]["generation"])
    ):
        return None
    revision = (found["metadata"].get("annotations") or {}).get(_REVISION)
    replica_sets = {
        each["metadata"]["uid"]
        for each in scene.kube.list("apps/v1", "ReplicaSet", app.NAMESPACE)
        if any(ref["uid"] == found["metadata"]["uid"] for ref in _owners(each))
        and (each["metadata"].get("annotations") or {}).get(_REVISION) == revision
    }
    for pod in scene.kube.list("v1", "Pod", app.NAMESPACE):
        is_ours = any(ref["uid"] in replica_sets for ref in _owners(pod))
        if is_ours and "deletionTimestamp" not in pod["metadata"]:
            return pod
    return None


def _owners(obj: Object) -> list[Object]:
    return obj["metadata"].get("ownerReferences") or []


def page_of(scene: Scene, pod: Object, *, reveal: bool = False) -> dict[str, Any] | None:
    """What this pod's page shows; None while it does not answer.

    With ``reveal`` the values are the real ones: not to be shown.
    """
    one = app.App(
        scene.kube, "", pod_name=pod["metadata"]["name"], pod_port=_PORT, namespace=app.NAMESPACE
    )
    try:
        shown = one.credentials()
        if reveal:
            shown["values"] = {key: one.shows(key) for key in FIELDS}
    except ClusterError:
        return None
    return shown


def is_ready(pod: Object) -> bool:
    return is_condition(pod, "Ready")


def secret_mounts(pod: Object) -> list[Object]:
    """The first container's mounts of volumes that are Secrets."""
    volumes = {each["name"] for each in pod["spec"].get("volumes") or [] if "secret" in each}
    mounts = pod["spec"]["containers"][0].get("volumeMounts") or []
    return [mount for mount in mounts if mount["name"] in volumes]


def missing_secrets(scene: Scene, pod: Object) -> list[str]:
    """The Secrets that the pod's volumes name and that are not there."""
    names = [each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each]
    return [name for name in names if not scene.kube.get("v1", "Secret", name, app.NAMESPACE)]


def written_at(scene: Scene) -> float:
    """When Vault's newest version was written (unix seconds)."""
    about = scene.vault.secrets.kv.v2.read_secret_metadata(path=vault.KEY, mount_point=vault.MOUNT)
    return datetime.fromisoformat(about["data"]["updated_time"]).timestamp()


def finds_its_file(scene: Scene, name: str) -> Finding:
    """Whether the newest pod of a Deployment has read its file."""
    expected = "the application has read its file"
    pod = newest_pod(scene, name)
    shown = page_of(scene, pod) if pod else None
    if pod and shown and shown["version"]:
        return met(expected)
    places = [
        (mount["mountPath"].rstrip("/"), mount.get("subPath"))
        for mount in secret_mounts(pod or _NO_POD)
    ]
    is_wrong = bool(shown) and not _GOOD.intersection(places)
    return not_yet(
        expected,
        f"it opens the file {_FILE}, and the Secret is "
        + (f"the folder {places[0][0]}" if places else "not mounted")
        if is_wrong
        else f"it says: {shown['error']}"
        if shown
        else "it has not started yet",
        next="Mount the Secret where the application looks."
        if is_wrong
        else f"Wait; or read `kubectl -n {app.NAMESPACE} describe deployment {name}`.",
        hint="The application opens /secrets/credentials, and each key of the Secret is a file in "
        "the folder that mountPath names. So mountPath: is /secrets."
        if is_wrong
        else "",
        settling=not is_wrong,
        blocks=True,
    )


_FILE = "/secrets/credentials"
_GOOD = {("/secrets", None), (_FILE, "credentials")}
_NO_POD: Object = {"spec": {"containers": [{}]}}
