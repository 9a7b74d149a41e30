"""The course's starting point on any cluster: Vault, ESO and the app, connected.

Each step is safe to repeat and does nothing where its work is done, so ``up`` on a
running lab, ``reset`` and a lab whose Vault was lost all take the same way.  Where the
cluster comes from is none of its business.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hvac

from labkit import app, argocd, eso, gitops, vault
from labkit.errors import ApiError, ClusterError, VaultError, WaitTimeout
from labkit.kube import Kube, Object, is_condition, load_manifests, namespaces, replicasets
from labkit.paths import manifest, write_private
from labkit.position import Position

Progress = Callable[[str], None]

PLATFORM = ("vault/vault.yaml", "external-secrets/external-secrets.yaml")
NAMESPACE_FILE = "05-application/namespace.yaml"
STORE_FILE = "03-secret-stores/vault-backend.yaml"
EXTERNAL_SECRET_FILE = "04-external-secrets/my-db-credentials.yaml"
APPLICATION_FILE = "05-application/app.yaml"
EVERYTHING = Position()
STORE = "vault-backend"
_LONG = 15.0  # seconds, within which a Deployment's pods are always there
_SYSTEM = {"default", "kube-system", "kube-public", "kube-node-lease"}
_OURS = {vault.NAMESPACE, eso.NAMESPACE}
_IN_THE_BACKGROUND = {
    "apiVersion": "v1",
    "kind": "DeleteOptions",
    "propagationPolicy": "Background",
}


@dataclass(frozen=True)
class Setup:
    """What bringing the workloads up needs to know of the lab around them.

    ``crds`` is the pinned ESO module's CRD bundle; ``token`` and ``unseal_key`` are
    where Vault's keys are kept (0600); ``reviewer`` is called once Vault runs; ``gitops`` is
    what Argo CD and its Git server need, asked for when they are wanted; ``provide_app`` sees
    to it that the cluster can run the app, once the app's namespace is there.
    """

    engine: vault.Engine
    crds: Path
    token: Path
    unseal_key: Path
    reviewer: Callable[[], vault.Reviewer]
    gitops: Callable[[], gitops.Access]
    provide_app: Callable[[Kube], None] = lambda kube: None


def bring_up(
    kube: Kube,
    setup: Setup,
    *,
    position: Position = EVERYTHING,
    progress: Progress,
    timeout: float = 120.0,
) -> None:
    """From an empty cluster as far as ``position`` says: by default, to the secret on
    the app's page.

    Raises the LabError of the step that failed; what is up by then stays up, and the
    next call goes on from there.
    """
    if position.argocd:
        gitops.provide(kube, setup.gitops(), progress=progress, timeout=timeout)
    if not position.has("vault"):
        return
    client, _ = _begin_platform(kube, setup, progress, timeout)
    if position.has("secret") and vault.read(client) is None:
        vault.write(client, first_values())
        progress(f"{setup.engine.title}: wrote {vault.MOUNT}/{vault.KEY}")
    if position.has("trust"):
        vault.trust_cluster(client, reviewer=setup.reviewer())
    if position.has("role"):
        vault.admit_reader(client)
    _end_of_app(kube, timeout)
    apply_files(kube, NAMESPACE_FILE)
    setup.provide_app(kube)
    if position.has("store"):
        apply_files(kube, STORE_FILE)
        _patiently(kube, eso.NAMESPACE, lambda s: eso.wait_store(kube, STORE, timeout=s), timeout)
        progress("External Secrets Operator: signed in to Vault as its ServiceAccount")
    if position.has("external-secret"):
        apply_files(kube, EXTERNAL_SECRET_FILE)
        eso.wait_synced(kube, app.EXTERNAL_SECRET, app.NAMESPACE, timeout=timeout)
        progress("External Secrets Operator: wrote the Secret mysql-credentials")
    if position.has("application"):
        apply_files(kube, APPLICATION_FILE)
        page = app.App(kube, "")
        _patiently(kube, app.NAMESPACE, lambda s: page.wait_answering(timeout=s), timeout)
        progress("The app shows the secret on its page")
    if not position.has("store"):  # else ESO has proven already that it works
        _wait_operator(kube, timeout)


def bring_up_platform(
    kube: Kube, setup: Setup, *, progress: Progress, timeout: float = 120.0
) -> bool:
    """An open Vault with its KV mount, and ESO at work: what every lesson begins with.

    True when that Vault is a new one, with nothing in it.  Raises as ``bring_up`` does.
    """
    _, is_new = _begin_platform(kube, setup, progress, timeout)
    _wait_operator(kube, timeout)
    _end_of_app(kube, timeout)
    return is_new


def _begin_platform(
    kube: Kube, setup: Setup, progress: Progress, timeout: float
) -> tuple[hvac.Client, bool]:
    if eso.install_crds(kube, setup.crds):
        progress("External Secrets Operator: CRDs are served")
    _apply_platform(kube, setup)
    client = ready_vault(kube, setup, progress=progress, timeout=timeout)
    return client, vault.open_store(client)


def _wait_operator(kube: Kube, timeout: float) -> None:
    deployment = kube.resource("apps/v1", "Deployment")

    def wait(seconds: float) -> object:
        return kube.wait(
            deployment,
            "external-secrets",
            eso.NAMESPACE,
            is_available,
            awaited="available",
            timeout=seconds,
        )

    _patiently(kube, eso.NAMESPACE, wait, timeout)


def _patiently(kube: Kube, namespace: str, wait: Callable[[float], object], timeout: float) -> None:
    """Wait for what a Deployment runs; where that takes long, see that it is not stuck."""
    try:
        wait(min(_LONG, timeout))
        return
    except WaitTimeout:
        space = kube.get("v1", "Namespace", namespace)
        if space is not None and kube.owns(space):
            replicasets.free(kube, namespace)
    wait(timeout)


def first_values() -> dict[str, str]:
    """The course's first credentials: a random password for nobody's database."""
    return {
        "url": "jdbc:mysql://mysql.demo:3306/shop",
        "username": "demo_user",
        "password": new_password(),
    }


def new_password() -> str:
    """A random password, 16 characters."""
    return secrets.token_urlsafe(12)


def ready_vault(
    kube: Kube, setup: Setup, *, progress: Progress, timeout: float = 60.0
) -> hvac.Client:
    """A running, unsealed Vault and a client with its root token.

    A Vault that lost its memory is initialised anew; one whose token is lost too is
    replaced, since nobody can ever open it again.
    """
    client = vault.open_client(kube)
    if vault.wait_answering(client, timeout=timeout):
        if not setup.token.exists() or not _opens(client, setup):
            progress(f"{setup.engine.title}: its keys are not this lab's; starting it afresh")
            _replace_vault(kube, client, timeout=timeout)
            return ready_vault(kube, setup, progress=progress, timeout=timeout)
    else:
        keys = vault.initialise(client)
        write_private(setup.unseal_key, keys.unseal_key)
        write_private(setup.token, keys.root_token)
        progress(f"{setup.engine.title}: initialised and unsealed")
    return client


def _opens(client: hvac.Client, setup: Setup) -> bool:
    """Unseal with the kept key if need be; whether the kept token is good."""
    try:
        if client.sys.is_sealed():
            vault.unseal(client, setup.unseal_key.read_text())
            vault.wait_active(client)
        client.token = setup.token.read_text()
        return bool(client.is_authenticated())
    except (VaultError, hvac.exceptions.VaultError, FileNotFoundError):
        return False


def _replace_vault(kube: Kube, client: hvac.Client, *, timeout: float) -> None:
    pod = kube.get("v1", "Pod", vault.POD, vault.NAMESPACE)
    kube.delete("v1", "Pod", vault.POD, vault.NAMESPACE)
    old = pod["metadata"]["uid"] if pod else ""
    kube.wait(
        kube.resource("v1", "Pod"),
        vault.POD,
        vault.NAMESPACE,
        lambda seen: bool(seen and seen["metadata"]["uid"] != old and is_started(seen)),
        awaited="replaced",
        timeout=timeout,
    )


def is_available(deployment: Object | None) -> bool:
    """Whether a pod of the Deployment is there to do its work."""
    return bool(((deployment or {}).get("status") or {}).get("availableReplicas"))


def is_started(pod: Object) -> bool:
    """Whether the pod's phase is Running (ready or not)."""
    return bool((pod.get("status") or {}).get("phase") == "Running")


def apply_files(kube: Kube, *names: str) -> list[str]:
    """Apply course manifests by name, in order; one line on each object that changed."""
    changed = []
    for name in names:
        for obj in load_manifests(manifest(name)):
            done = kube.apply(obj)
            if done.change != "unchanged":
                changed.append(str(done))
    return changed


def _apply_platform(kube: Kube, setup: Setup) -> None:
    # What is applied into a namespace that is being deleted goes with it a moment later.
    for name in _OURS.intersection(_terminating(kube)):
        namespaces.remove(kube, name)
    apply_files(kube, *PLATFORM, setup.engine.manifest)


def _terminating(kube: Kube) -> list[str]:
    return [
        obj["metadata"]["name"]
        for obj in kube.list("v1", "Namespace")
        if obj["metadata"]["name"] in {*_OURS, app.NAMESPACE}
        and "deletionTimestamp" in obj["metadata"]
    ]


def _end_of_app(kube: Kube, timeout: float) -> None:
    """Wait for the end of the app's namespace where it is ending: ESO must run for that, which
    takes its finalizers off what is in there."""
    if app.NAMESPACE in _terminating(kube):
        _wait_operator(kube, timeout)
        namespaces.remove(kube, app.NAMESPACE)


def engine_of(kube: Kube) -> vault.Engine | None:
    """The engine that the cluster's Vault runs, or None where there is no Vault."""
    found = kube.get("apps/v1", "StatefulSet", "vault", vault.NAMESPACE)
    if found is None:
        return None
    image = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return vault.ENGINES["openbao" if "openbao" in image else "hashicorp"]


def is_platform_up(kube: Kube) -> bool:
    """Whether Vault is open and ESO at work."""
    try:
        operator = kube.get("apps/v1", "Deployment", "external-secrets", eso.NAMESPACE)
        if not is_available(operator) or _terminating(kube):
            return False
        return vault.is_active(vault.open_client(kube))
    except (ClusterError, VaultError, ValueError, OSError):
        return False


def is_up(kube: Kube, position: Position = EVERYTHING) -> bool:
    """Whether everything that ``position`` promises is there and works."""
    try:
        if position.argocd and not gitops.is_provided(kube):
            return False
        if not position.has("vault"):
            return True
        if not is_platform_up(kube):
            return False
        if position.has("store") and not eso.is_store_ready(
            kube.get(eso.API, "ClusterSecretStore", STORE)
        ):
            return False
        if position.has("external-secret") and not is_condition(
            kube.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE), "Ready"
        ):
            return False
        return not position.has("application") or bool(
            app.App(kube, "").credentials().get("version")
        )
    except (ClusterError, VaultError, ValueError, OSError):
        return False


# -- taking it back ------------------------------------------------------------------


def clean(
    kube: Kube,
    setup: Setup,
    *,
    position: Position = EVERYTHING,
    progress: Progress,
    timeout: float = 60.0,
) -> None:
    """Take away what a learner made, and of the platform what ``position`` is without.

    ESO's objects go first, while ESO runs: their finalizers are its to remove.  A platform
    that Argo CD deployed, or that is not wanted, goes as a whole.  Nothing in kube-* is
    touched, and nothing that the lab does not own.
    """
    if kube.is_shared:
        if not position.has("vault"):
            raise ClusterError("A cluster that others use too cannot be cleared")
    elif not position.has("vault") or not _has_own_platform(kube):
        gitops.clear(kube, keep=_SYSTEM, progress=progress, timeout=timeout)
        setup.token.unlink(missing_ok=True)
        setup.unseal_key.unlink(missing_ok=True)
        return
    if not kube.is_shared:  # else an Argo CD that is there is somebody else's
        argocd.remove(kube, timeout=timeout)
    _apply_platform(kube, setup)  # an ESO that was broken is mended
    for kind in ("ClusterExternalSecret", "ExternalSecret", "PushSecret"):
        _delete_all(kube, eso.API if kind != "PushSecret" else "external-secrets.io/v1alpha1", kind)
    for kind in ("SecretStore", "ClusterSecretStore"):
        _delete_all(kube, eso.API, kind)
    names = [
        obj["metadata"]["name"]
        for obj in kube.list("v1", "Namespace")
        if obj["metadata"]["name"] not in _SYSTEM | _OURS and kube.owns(obj)
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: namespaces.remove(kube, name, timeout=timeout), names))
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        _delete_all(kube, "apps/v1", kind, namespace="default")
    for kind in ("Pod", "Secret", "ConfigMap"):
        _delete_all(kube, "v1", kind, namespace="default", keep={"kube-root-ca.crt"})
    also = f" and the namespaces {', '.join(sorted(names))}" if names else ""
    progress(f"Removed ESO's objects{also}")
    client = ready_vault(kube, setup, progress=progress)
    vault.forget(client)
    progress(f"{setup.engine.title}: removed every secret, role and policy")


def _has_own_platform(kube: Kube) -> bool:
    """Whether Vault and ESO here, if any, are the lab's own, and the API serves ESO's kinds."""
    if any(gitops.has_deployed(kube, namespace=name) for name in (vault.NAMESPACE, eso.NAMESPACE)):
        return False
    return kube.serves(eso.GROUP)


def _delete_all(
    kube: Kube,
    api: str,
    kind: str,
    *,
    namespace: str | None = None,
    keep: frozenset[str] | set[str] = frozenset(),
) -> None:
    resource = kube.resource(api, kind)
    for obj in kube.list(api, kind, namespace):
        meta = obj["metadata"]
        if meta["name"] not in keep and kube.owns(obj):
            path = resource.path(meta.get("namespace"), meta["name"])
            try:
                kube.request("DELETE", path, body=_IN_THE_BACKGROUND)
            except ApiError as error:
                if error.status != 404:
                    raise
