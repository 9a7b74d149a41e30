"""A foreign cluster for the whole run: another labkit cluster, bare, with its own state folder.

It is treated as somebody else's: only its API, through a kubeconfig; none of its files, its
audit log or its node's journal.  ``everything`` lists all its objects, to see what changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from labkit import launch, lifeline
from labkit.errors import ApiError
from labkit.foreign import rights
from labkit.kube import Kube, definitions
from labkit.kube.client import Resource

LABKIT = (sys.executable, "-m", "labkit")
# What changes by itself: heartbeats, and records of what happened.
_RESTLESS = {"componentstatuses", "events", "leases", "nodes"}


@dataclass(frozen=True)
class Foreign:
    """``kubeconfig`` is its administrator's; ``folder`` is for kubeconfigs that tests make."""

    kube: Kube
    kubeconfig: Path
    folder: Path

    def with_user(self, name: str, token: str) -> Path:
        """A kubeconfig for somebody with this token."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"] = [{"name": entry["name"], "user": {"token": token}}
                           for entry in config["users"]]  # fmt: skip
        path = self.folder / name
        path.write_text(yaml.safe_dump(config))
        return path


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with lifeline.temporary("lkf") as state, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_STATE", str(state))
        launch.bring_up("foreign")
        patch.undo()
        folder = tmp_path_factory.mktemp("kubeconfigs")
        kubeconfig = folder / "admin"
        kubeconfig.write_bytes((state / "foreign" / "kubeconfig").read_bytes())
        kube = Kube.from_kubeconfig(kubeconfig)
        definitions.remove(kube, "external-secrets.io")  # every labkit cluster begins with them
        yield Foreign(kube, kubeconfig, folder)


@pytest.fixture
def here(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This machine's own state folder, for labs in the foreign cluster."""
    with lifeline.temporary("lkh") as state:
        monkeypatch.setenv("LABKIT_STATE", str(state))
        yield state


@pytest.fixture
def labkit(here: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, as a user of this machine has it."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LABKIT, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "LABKIT_STATE": str(here)},
        )

    return run


def everything(kube: Kube) -> dict[str, str]:
    """Every object of the cluster, by its path, with its resourceVersion."""
    found: dict[str, str] = {}
    versions = ["v1"] + [
        version["groupVersion"]
        for group in kube.request("GET", "/apis")["groups"]
        for version in group["versions"]
    ]

    def look(resource: Resource) -> None:
        try:
            items = kube.request("GET", resource.path()).get("items") or []
        except ApiError:
            return
        for item in items:
            meta = item["metadata"]
            path = resource.path(meta.get("namespace"), meta["name"])
            found[path] = meta["resourceVersion"]

    kinds = []
    for version in versions:
        for entry in kube.request("GET", Resource(version, "", "", False).path().rstrip("/"))[
            "resources"
        ]:
            is_kept = "list" in entry["verbs"] and entry["name"] not in _RESTLESS
            if is_kept and "/" not in entry["name"]:
                kinds.append(Resource(version, entry["kind"], entry["name"], entry["namespaced"]))
    with ThreadPoolExecutor(max_workers=6) as pool:
        list(pool.map(look, kinds))
    return found


class identity:
    """A ServiceAccount with these rights in the whole cluster; its token."""

    def __init__(self, kube: Kube, name: str, wanted: Iterable[rights.Right]) -> None:
        self._kube = kube
        self._name = name
        self._rules = [
            {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
            for right in wanted
        ]

    def __enter__(self) -> str:
        name, group = self._name, "rbac.authorization.k8s.io"
        account = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        role = {"apiGroup": group, "kind": "ClusterRole", "name": name}
        for obj in (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": name},
                "rules": self._rules,
            },
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": role,
                "subjects": [account],
            },
        ):
            self._kube.apply(obj)
        return self._kube.token(name, "default")

    def __exit__(self, *_: object) -> None:
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            self._kube.delete("rbac.authorization.k8s.io/v1", kind, self._name)
        self._kube.delete("v1", "ServiceAccount", self._name, "default")
