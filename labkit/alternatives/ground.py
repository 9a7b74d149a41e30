"""Where the comparison is run: a folder, two namespaces, a Vault of its own; all of it removed.

The folder (0700, below the lab's state) holds throw-away Git repositories and, while a way
is run, keys and tokens in 0600 files.  The Vault is another OpenBao than the lab's, because
it is sealed on purpose.  Values are random and of this run.  What a killed process left is
removed by the next run; one run at a time is seen to by a lock.  What is tried here is left
to the ways.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hvac
import yaml
from hvac.exceptions import Forbidden

from labkit import programs, vault
from labkit.alternatives.repository import Repository
from labkit.errors import LabBusy, LabError, VaultError, WaitTimeout
from labkit.kube import Kube, Object, is_condition, load_manifests, namespaces, parse_manifests
from labkit.lab import Lab
from labkit.paths import make_private_dir, manifest, write_private
from labkit.programs import Program
from labkit.scan import Needle, Searcher
from labkit.workloads import is_available, new_password

NAMESPACE = "alternatives"
CONTROLLER_NAMESPACE = "sealed-secrets"
PROGRAMS = ("sealed-secrets-controller", "kubeseal", "argocd-vault-plugin")
IN_GIT = "alternatives/in-git"
FIELD = "password"
READERS = {"plugin": "repo-server", "external": "reader"}
"""The keys in Vault, each with the one ServiceAccount (and role, and policy) that reads it."""

_MARK = ("labkit/made-for", "alternatives")
_CRD = "sealedsecrets.bitnami.com"
_CLUSTER_OBJECTS = (
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "alternatives-token-reviewer"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "sealed-secrets-unsealer"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "sealed-secrets-unsealer"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", _CRD),
)


@dataclass(frozen=True)
class Ran:
    """How a program ended.  What it printed may be a secret, so it is in no repr."""

    code: int
    output: str = field(repr=False)
    errors: str = field(repr=False)

    @property
    def complaint(self) -> str:
        """Its last word on what went wrong, one line, without the usage text after it."""
        text = self.errors.partition("\nUsage:")[0].strip()
        lines = [line.strip(" *") for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ").removeprefix("error: ") if lines else ""


@dataclass(frozen=True)
class Ground:
    """What the ways are given.

    ``proxy`` are the variables with which a program outside of the cluster reaches a
    Service by name.  ``has_controller`` says whether Sealed Secrets' controller runs: it
    looks for its token at one fixed path, which only a mount can provide.  ``api_audit`` is
    the API server's audit log, which need not exist.
    """

    kube: Kube
    vault: hvac.Client = field(repr=False)
    unseal_key: str = field(repr=False)
    folder: Path
    proxy: Mapping[str, str] = field(repr=False)
    tools: Mapping[str, Program]
    has_controller: bool
    api_audit: Path
    timeout: float

    # -- programs and repositories -------------------------------------------------------

    def run(self, program: str, *words: str, given: str = "", **variables: str) -> Ran:
        """Run a program with nothing of this process's environment but what is named.

        ``given`` is its standard input.  No secret belongs into ``words``: other users see
        a program's arguments.
        """
        env = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", ""), **variables}
        done = subprocess.run(
            [self.tools[program].path, *words],
            input=given,
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def repository(self, name: str) -> Repository:
        """A new repository below the folder."""
        return Repository.create(self.folder / name)

    def keep(self, name: str, content: str) -> Path:
        """A file below the folder, 0600; its path."""
        write_private(self.folder / name, content)
        return self.folder / name

    def files_hold(self, checkout: Repository, *values: str) -> bool:
        """Whether a value stands in a file of the checkout, in any spelling."""
        return bool(searcher(*values).in_files(checkout.folder).leaks)

    # -- the cluster ---------------------------------------------------------------------

    def sync(self, checkout: Path) -> None:
        """Apply what a checkout holds, as Argo CD would with a folder of plain manifests."""
        for obj in load_manifests(checkout):
            self.kube.apply(obj)

    def sync_text(self, text: str) -> None:
        """Apply manifests that were rendered and are in no file."""
        for obj in parse_manifests(text, "what was rendered"):
            self.kube.apply(obj)

    def value_of(self, secret: str) -> str | None:
        """What the Secret holds now; None when there is none."""
        found = self.kube.get("v1", "Secret", secret, NAMESPACE)
        coded = ((found or {}).get("data") or {}).get(FIELD)
        return base64.b64decode(coded).decode() if coded else None

    def wait_value(self, secret: str, value: str) -> float:
        """Wait until the Secret holds ``value``; how many seconds that took."""
        began = time.monotonic()
        self.until(lambda: self.value_of(secret) == value, f"the Secret {secret} has the value")
        return time.monotonic() - began

    def until(self, is_met: Callable[[], bool], awaited: str) -> None:
        """Wait for what no single watch tells.  Raises WaitTimeout."""
        deadline = time.monotonic() + self.timeout
        while not is_met():
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"Not within {self.timeout:g} s: {awaited}",
                    todo=f"See `kubectl -n {NAMESPACE} get events`, and try again.",
                )
            time.sleep(0.05)

    @contextlib.contextmanager
    def sealed_vault(self) -> Iterator[None]:
        """The comparison's Vault sealed, as after a restart; unsealed afterwards."""
        self.vault.sys.seal()
        try:
            yield
        finally:
            vault.unseal(self.vault, self.unseal_key)
            vault.wait_active(self.vault)

    def client_with(self, token: str) -> hvac.Client:
        """The comparison's Vault as whoever holds ``token`` sees it."""
        return vault.open_client(self.kube, token, namespace=NAMESPACE)

    def may_read_every_secret(self, namespace: str, account: str) -> bool:
        """Whether the API server lets a ServiceAccount list the Secrets of all namespaces."""
        review: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{namespace}:{account}",
                "resourceAttributes": {"verb": "list", "resource": "secrets"},
            },
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.kube.request("POST", path, body=review)["status"]["allowed"])

    def is_denied(self, token: str, key: str) -> bool:
        """Whether Vault refuses to let ``token`` read that key."""
        try:
            vault.read(self.client_with(token), key=key)
        except VaultError as error:
            if isinstance(error.__cause__, Forbidden):
                return True
            raise
        return False


def new_value() -> str:
    """A random value for a field called password."""
    return new_password()


def searcher(*values: str) -> Searcher:
    """Looks for values in any spelling in which they usually escape."""
    return Searcher([Needle(f"value {n}", value) for n, value in enumerate(values, start=1)])


def check(is_so: object, claim: str, seen: str = "") -> None:
    """Raise LabError when what the comparison says is not what is seen."""
    if not is_so:
        raise LabError(
            f"The comparison says something that is not so here: {claim}",
            seen=seen,
            todo="Run it again; if it stays so, believe what you see and tell labkit's authors.",
        )


def as_yaml(obj: Object) -> str:
    """A manifest as a file's text."""
    return yaml.safe_dump(obj, sort_keys=False)


# -- opening and closing -----------------------------------------------------------------


def find_tools(names: Sequence[str] = PROGRAMS) -> dict[str, Program]:
    """The programs by name.  Raises LabError that names all that are missing at once."""
    found, missing = {}, []
    for name in names:
        try:
            found[name] = programs.resolve(name)
        except LabError:
            missing.append(name)
    if missing:
        raise LabError(
            "The comparison runs programs that no lab needs, and they are not here yet",
            seen=f"missing: {', '.join(missing)}",
            todo=f"Run `labkit programs get {' '.join(missing)}` (about three minutes on two "
            "cores); `alternatives.table()` shows the table without running anything.",
        )
    return found


@contextlib.contextmanager
def opened(
    lab: Lab, tools: Mapping[str, Program], *, timeout: float, progress: Callable[[str], None]
) -> Iterator[Ground]:
    """Everything set up, and everything removed afterwards, whatever happened in between.

    Raises LabBusy while another process compares in this lab, LabError when somebody's own
    Sealed Secrets is installed in it.
    """
    with _alone(lab):
        _check_free(lab.api)
        folder = lab.paths.root / "alternatives"
        try:
            close(lab.api, folder)  # what a killed process left
            make_private_dir(folder)
            progress("Setting up a Vault of the comparison's own, and Sealed Secrets' controller")
            yield _set_up(lab, tools, folder, timeout)
        finally:
            progress("Removing all of it")
            close(lab.api, folder)


def close(kube: Kube, folder: Path) -> None:
    """Remove the folder, the namespaces and what stands outside of them; safe to repeat."""
    shutil.rmtree(folder, ignore_errors=True)
    for namespace in (NAMESPACE, CONTROLLER_NAMESPACE):
        if _is_ours(kube.get("v1", "Namespace", namespace)):
            _remove_external_secrets(kube, namespace)
            namespaces.remove(kube, namespace)
    for api, kind, name in _CLUSTER_OBJECTS:
        kube.delete(api, kind, name)
    # A CRD goes when its objects are gone; until then another of its name would go along.
    kube.wait(
        kube.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        _CRD,
        None,
        lambda seen: seen is None,
        awaited="deleted",
        timeout=60.0,
    )


def _remove_external_secrets(kube: Kube, namespace: str) -> None:
    # While the operator runs: a finalizer of its own may be on them.
    for kind in ("ExternalSecret", "SecretStore"):
        for obj in kube.list("external-secrets.io/v1", kind, namespace):
            kube.delete("external-secrets.io/v1", kind, obj["metadata"]["name"], namespace)


@contextlib.contextmanager
def _alone(lab: Lab) -> Iterator[None]:
    path = lab.paths.root / ".alternatives.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabBusy(
                "The alternatives are being compared in this lab already",
                todo="Wait for that to end (a minute at most), or interrupt it.",
            ) from None
        yield
    finally:
        os.close(lock)


def _is_ours(namespace: Object | None) -> bool:
    labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    return bool(labels.get(_MARK[0]) == _MARK[1])


def _check_free(kube: Kube) -> None:
    for name in (NAMESPACE, CONTROLLER_NAMESPACE):
        found = kube.get("v1", "Namespace", name)
        if found is not None and not _is_ours(found):
            raise LabError(
                f"The namespace {name} is somebody else's",
                seen=f"it has no label {_MARK[0]}={_MARK[1]}",
                todo=f"Compare in another lab, or `kubectl delete namespace {name}` "
                "if it is yours and not wanted.",
            )


def _set_up(lab: Lab, tools: Mapping[str, Program], folder: Path, timeout: float) -> Ground:
    kube = lab.api
    has_controller = lab.record.mode == "mounts"
    if has_controller:
        _begin_controller(kube, tools["sealed-secrets-controller"], timeout)
    client, keys = _begin_vault(kube, timeout)
    if has_controller:
        kube.wait(
            kube.resource("apps/v1", "Deployment"),
            "sealed-secrets-controller",
            CONTROLLER_NAMESPACE,
            is_available,
            awaited="available",
            timeout=timeout,
        )
    return Ground(
        kube=kube,
        vault=client,
        unseal_key=keys.unseal_key,
        folder=folder,
        proxy={v.name: v.read() for v in lab.variables() if v.name.lower().endswith("_proxy")},
        tools=tools,
        has_controller=has_controller,
        api_audit=lab.paths.api_audit,
        timeout=timeout,
    )


def _begin_controller(kube: Kube, program: Program, timeout: float) -> None:
    """The CRD from the pinned release's own chart, then the controller."""
    for file in sorted((program.assets / "chart" / "crds").glob("*.yaml")):
        for obj in load_manifests(file):
            kube.apply(obj)
    kube.wait(
        kube.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        _CRD,
        None,
        lambda seen: is_condition(seen, "Established"),
        awaited="Established",
        timeout=timeout,
    )
    for obj in load_manifests(manifest("alternatives/sealed-secrets.yaml")):
        kube.apply(obj)


def _begin_vault(kube: Kube, timeout: float) -> tuple[hvac.Client, vault.Keys]:
    """An open Vault with Kubernetes auth and a role for each reader."""
    for obj in load_manifests(manifest("alternatives/vault.yaml")):
        kube.apply(obj)
    client = vault.open_client(kube, namespace=NAMESPACE)
    vault.wait_answering(client, timeout=timeout)
    keys = vault.initialise(client)
    vault.open_store(client)
    # Its own mounted token would do where there are mounts; this one does everywhere.
    jwt = kube.token("vault", NAMESPACE, seconds=3600)
    vault.trust_cluster(client, reviewer=vault.Reviewer(ca=kube.ca, jwt=jwt))
    for key, reader in READERS.items():
        _admit(client, key, reader)
    return client, keys


def _admit(client: hvac.Client, key: str, reader: str) -> None:
    """Let one ServiceAccount read one key, and nothing else."""
    text = f'path "{vault.MOUNT}/data/{key}" {{\n  capabilities = ["read"]\n}}\n'
    client.sys.create_or_update_policy(reader, text)
    vault.admit(client, reader, (NAMESPACE, reader), reader)
