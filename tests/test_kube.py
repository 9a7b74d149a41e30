"""The small client against the real API server, and its errors as a learner sees them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from pods import pod

from labkit.errors import ApiError, ClusterError, ManifestError, UsageError, WaitTimeout
from labkit.kube import Kube, load_manifests, namespaces, parse_manifests, replicasets
from labkit.lab import Lab


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_apply_says_what_it_changed(kube: Kube, namespace: str) -> None:
    changes = [kube.apply(config_map("a", x=value), namespace=namespace).change for value in "112"]
    assert changes == ["created", "unchanged", "configured"]


def test_wait_sees_a_change_and_a_deletion(kube: Kube, namespace: str) -> None:
    resource = kube.resource("v1", "ConfigMap")
    threading.Timer(0.2, lambda: kube.apply(config_map("late"), namespace=namespace)).start()
    found = kube.wait(
        resource, "late", namespace, lambda seen: seen is not None, awaited="there", timeout=10
    )
    assert found is not None
    threading.Timer(0.2, lambda: kube.delete("v1", "ConfigMap", "late", namespace)).start()
    kube.wait(resource, "late", namespace, lambda seen: seen is None, awaited="gone", timeout=10)


def test_a_wait_that_fails_says_what_was_seen_and_what_to_do(lab: Lab) -> None:
    with pytest.raises(WaitTimeout) as failure:
        lab.wait_for("deployment/gitops-secrets-deploy", "Impossible", namespace="demo", timeout=1)
    assert "Available=True" in failure.value.seen
    assert "kubectl -n demo describe deployments gitops-secrets-deploy" in str(failure.value)


@pytest.mark.parametrize(
    "word",
    ["externalsecret", "es", "ExternalSecret", "externalsecrets.external-secrets.io"],
)
def test_resources_are_found_by_kubectls_words(kube: Kube, word: str) -> None:
    assert kube.find(word).plural == "externalsecrets"


def test_an_unknown_word_is_a_usage_error(kube: Kube) -> None:
    with pytest.raises(UsageError, match="no resource called 'wombat'"):
        kube.find("wombat")


def test_the_blogs_old_version_names_the_one_that_is_served(lab: Lab) -> None:
    old = """
apiVersion: external-secrets.io/v1beta1
kind: ExternalSecret
metadata: {name: old}
"""
    with pytest.raises(ManifestError) as failure:
        lab.apply(old)
    assert 'No matches for kind "ExternalSecret" in version "external-secrets.io/v1beta1"' in str(
        failure.value
    )
    assert "external-secrets.io/v1: change the apiVersion" in failure.value.todo


def test_nothing_is_applied_when_one_kind_is_unknown(lab: Lab, namespace: str) -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: first}
---
apiVersion: v1
kind: Wombat
metadata: {name: second}
"""
    with pytest.raises(ManifestError, match="Wombat"):
        lab.apply(text, namespace=namespace)
    assert lab.api.get("v1", "ConfigMap", "first", namespace) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", r"not valid YAML \(line 2, column 1\)"),
        ("a:\n\t- b: 1", r"not valid YAML \(line 2, column 1\)"),
        ("just words: and\nno: kind", "it has no apiVersion, kind, metadata.name"),
        ("- 1\n- 2", "it has no apiVersion"),
        ("apiVersion: v1\nkind: Pod\nmetadata: nonsense", "it has no metadata.name"),
        ("# nothing", "holds no Kubernetes object"),
    ],
)
def test_a_manifest_that_is_none_says_where(text: str, expected: str) -> None:
    with pytest.raises(ManifestError, match=expected) as failure:
        parse_manifests(text, "mine.yaml")
    assert "mine.yaml" in str(failure.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="There is no manifest"):
        load_manifests(tmp_path / "nowhere.yaml")


def test_the_api_servers_own_words_come_through(lab: Lab, namespace: str) -> None:
    with pytest.raises(ApiError) as failure:
        lab.api.apply(config_map("Not_A_Name"), namespace=namespace)
    assert failure.value.status == 422
    assert "RFC 1123" in failure.value.seen


def test_kubeconfigs_that_do_not_work(tmp_path: Path, lab: Lab) -> None:
    missing = tmp_path / "none"
    with pytest.raises(UsageError, match="cannot be read"):
        Kube.from_kubeconfig(missing)
    garbage = tmp_path / "garbage"
    garbage.write_text("{[")
    with pytest.raises(UsageError, match="is not YAML"):
        Kube.from_kubeconfig(garbage)
    other = tmp_path / "other"
    other.write_text("kind: Pod")
    with pytest.raises(UsageError, match="is not a kubeconfig"):
        Kube.from_kubeconfig(other)
    with pytest.raises(UsageError, match="no context called 'nope'"):
        Kube.from_kubeconfig(lab.kubeconfig, context="nope")
    if os.geteuid() != 0:
        other.chmod(0)
        with pytest.raises(UsageError, match="cannot be read"):
            Kube.from_kubeconfig(other)


def test_an_api_that_is_gone_says_so() -> None:
    gone = Kube("https://127.0.0.1:9", token="t")
    with pytest.raises(ClusterError, match="did not answer") as failure:
        gone.request("GET", "/version")
    assert "labkit up" in failure.value.todo


def test_no_credential_shows_in_a_repr(kube: Kube) -> None:
    secret = kube.with_token("very-secret")
    assert "very-secret" not in f"{secret!r} {kube!r}"


def test_a_namespace_goes_with_all_that_is_in_it(kube: Kube) -> None:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
    kube.apply(config_map("a"), namespace="doomed")
    kube.apply(pod("p"), namespace="doomed")
    namespaces.remove(kube, "doomed")
    assert kube.get("v1", "Namespace", "doomed") is None
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
    assert kube.get("v1", "ConfigMap", "a", "doomed") is None, "nothing of it comes back"
    namespaces.remove(kube, "doomed")
    namespaces.remove(kube, "doomed")


def test_a_namespace_that_something_holds_says_what(kube: Kube, namespace: str) -> None:
    held = config_map("held")
    held["metadata"] = {"name": "held", "finalizers": ["example.com/hold"]}
    kube.apply(held, namespace=namespace)
    with pytest.raises(WaitTimeout) as failure:
        namespaces.remove(kube, namespace, timeout=6)
    assert "example.com/hold" in failure.value.seen
    kube.patch("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}}, namespace)
    namespaces.remove(kube, namespace)


def test_a_replicaset_that_never_made_its_pods_is_made_anew(
    lab: Lab, kube: Kube, namespace: str
) -> None:
    """The controller is stopped, so that there is one, and so is the Deployment's way out."""
    template = pod("web")
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
        },
    }
    kube.apply(deployment, namespace=namespace)
    lab.wait_for("deployment/web", "Available", namespace=namespace)
    (whole,) = kube.list("apps/v1", "ReplicaSet", namespace)
    assert replicasets.free(kube, namespace) == []

    programs = lab.status()["programs"]
    controller = next(each for each in programs if each["name"] == "kube-controller-manager")
    os.kill(controller["pid"], signal.SIGSTOP)
    try:
        metadata = {"name": "stuck", "ownerReferences": whole["metadata"]["ownerReferences"]}
        stuck = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": whole["spec"]}
        kube.apply({**stuck, "metadata": metadata}, namespace=namespace)
        assert replicasets.free(kube, namespace) == ["stuck"]
        (left,) = kube.list("apps/v1", "ReplicaSet", namespace)
        assert left["metadata"]["uid"] == whole["metadata"]["uid"]
    finally:
        os.kill(controller["pid"], signal.SIGCONT)
