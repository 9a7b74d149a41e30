"""What a foreign cluster's lab refuses: in one line, before anything is changed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from harness import until

from labkit import lab as labs
from labkit.errors import ClusterError, UsageError
from labkit.foreign import rights, target
from labkit.kube import namespaces
from real_cluster.conftest import Foreign, everything, identity

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def refused(foreign: Foreign, here: Path, labkit: Run) -> Callable[..., str]:
    """Run ``labkit up`` with these words; what it said, having changed nothing anywhere."""

    def run(*words: str | Path) -> str:
        before = everything(foreign.kube)
        done = labkit("up", *words)
        assert done.returncode == 1, done.stderr
        assert everything(foreign.kube) == before
        assert [path for path in here.iterdir() if path.is_dir()] == []
        said = [line for line in done.stderr.splitlines() if line.startswith("labkit: ")]
        assert len(said) == 1
        return said[0]

    return run


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not YAML"),
        ("hello", "is not a kubeconfig"),
        ("{clusters: 3, contexts: 4, users: 5, current-context: a}", "is not a kubeconfig"),
        ("{clusters: [], contexts: [], users: []}", "has no context called"),
        (
            "{clusters: [{name: a, cluster: {certificate-authority-data: abc}}], users: [{name: a,"
            " user: {}}], contexts: [{name: a, context: {cluster: a, user: a}}],"
            " current-context: a}",
            "not the Base64 of a text",
        ),
    ],
)
def test_a_file_that_is_no_kubeconfig(
    text: str | None, words: str, tmp_path: Path, here: Path
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        labs.up("lab", kubeconfig=path)
    assert [found for found in here.iterdir() if found.is_dir()] == []


def test_a_context_that_does_not_exist(foreign: Foreign, refused: Callable[..., str]) -> None:
    said = refused("--kubeconfig", foreign.kubeconfig, "--context", "nowhere")
    assert "has no context called 'nowhere'" in said


def test_a_cluster_that_is_dead_or_silent(
    foreign: Foreign, tmp_path: Path, refused: Callable[..., str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        config = yaml.safe_load(foreign.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        assert "does not answer" in refused("--kubeconfig", path)
    assert "does not answer" in refused("--kubeconfig", path)


def test_a_credential_that_is_not_valid(foreign: Foreign, refused: Callable[..., str]) -> None:
    path = foreign.with_user("stranger", "not-a-token")
    assert "lets nobody in with this kubeconfig" in refused("--kubeconfig", path)


def test_a_cluster_that_is_too_old(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "OLDEST", (9, 0))
    with pytest.raises(ClusterError, match="too old for the course"):
        target.reach(foreign.kubeconfig)


def test_rights_that_are_missing_are_all_named(
    foreign: Foreign, refused: Callable[..., str]
) -> None:
    """An identity with every right but three, and one with next to none."""
    kube = foreign.kube
    lacking = {("create", "pods/portforward"), ("patch", "secrets"), ("create", "clusterroles")}
    wanted = [
        right for right in rights.needed(crds=True) if (right.verb, right.resource) not in lacking
    ]
    with identity(kube, "nearly", wanted) as token:
        said = refused("--kubeconfig", foreign.with_user("nearly", token))
    for thing in ("create pods/portforward", "patch secrets", "create clusterroles.rbac."):
        assert thing in said
    assert "namespaces" not in said
    with identity(kube, "nobody", []) as token:
        said = refused("--kubeconfig", foreign.with_user("nobody", token))
    assert "get, list namespaces" in said


def test_rights_that_it_would_pass_on_without_having_them(
    foreign: Foreign, refused: Callable[..., str]
) -> None:
    """All that is asked for one by one, and still no way to make Vault a reviewer of tokens."""
    wanted = list(rights.needed(crds=True))
    with identity(foreign.kube, "climber", wanted) as token:
        said = refused("--kubeconfig", foreign.with_user("climber", token))
    assert "ClusterRoleBinding vault-token-reviewer" in said
    assert "not currently held" in said


def test_names_that_are_somebody_elses(foreign: Foreign, refused: Callable[..., str]) -> None:
    kube = foreign.kube
    theirs = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "theirs", "namespace": "demo"},
        },
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "vault",
                "labels": {"app.kubernetes.io/managed-by": "labkit", "labkit.dev/lab": "other"},
            },
        },
    ]
    for obj in theirs:
        kube.apply(obj)
    try:
        # What the cluster itself puts into a namespace comes a moment later.
        own = [("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")]
        until(
            lambda: all(kube.get("v1", *each, name) for each in own for name in ("demo", "vault")),
            "the namespaces have what all have",
        )
        said = refused("--kubeconfig", foreign.kubeconfig)
    finally:
        for name in ("demo", "vault"):
            namespaces.remove(kube, name)
    assert "the namespace demo;" in said
    assert "the namespace vault (of the lab other)" in said
