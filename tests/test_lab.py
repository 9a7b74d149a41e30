"""The facade: rotation, faults and recovery on the running lab."""

from __future__ import annotations

import functools
import os
import signal

import harness
import psutil
import pytest

import labkit
from labkit import app, eso, vault, workloads
from labkit.errors import LabError, WaitTimeout
from labkit.lab import Lab

until = functools.partial(harness.until, timeout=30.0)


def test_public_names() -> None:
    assert sorted(labkit.__all__) == ["Lab", "LabError", "attach", "lesson", "start", "views"]


def test_a_rotation_reaches_the_page_in_the_same_pod(lab: Lab) -> None:
    before = lab.app.credentials()
    journey = lab.journey({"url": "u", "username": "n", "password": "course-value-1"})
    after = lab.app.credentials()
    assert lab.app.shows("db_password") == "course-value-1"
    assert after["version"] > before["version"]
    assert (after["pid"], after["started_at"]) == (before["pid"], before["started_at"])
    assert journey.pod_restarts == 0
    assert journey.same_pod
    assert "course-value-1" not in repr(journey)


def test_a_denied_read_stalls_the_journey_and_says_where(lab: Lab) -> None:
    vault_client = lab.vault
    vault_client.sys.create_or_update_policy(vault.POLICY, 'path "secret/none" {}')
    try:
        with pytest.raises(WaitTimeout) as failure:
            lab.journey(timeout=5)
        assert "no evidence of eso-read" in failure.value.seen
        assert "permission denied" in failure.value.seen
        assert lab.app.credentials()["version"], "the app keeps its last good values"
    finally:
        vault.trust_cluster(vault_client, reviewer=lab.setup_for(lab.engine).reviewer())
    lab.journey(timeout=30)


def test_official_clients_work(lab: Lab) -> None:
    from kubernetes import client

    pods = client.CoreV1Api(lab.kube).list_namespaced_pod("demo").items
    assert [pod.status.phase for pod in pods] == ["Running"]
    assert lab.vault.is_authenticated()


def test_a_vault_that_lost_everything_is_set_up_again(lab: Lab) -> None:
    lab.api.delete("v1", "Pod", vault.POD, vault.NAMESPACE)
    until(lambda: not workloads.is_up(lab.api), what="Vault is gone")
    assert lab.app.credentials()["values"], "the pods keep the old values"
    again = labkit_up(lab)
    assert again.journey(timeout=60).pod_restarts == 0


def test_a_sealed_vault_is_unsealed(lab: Lab) -> None:
    lab.vault.sys.seal()
    assert lab.status()["ready"] is False
    assert labkit_up(lab).status()["ready"] is True


def test_a_killed_control_plane_program_is_restarted(lab: Lab) -> None:
    victim = next(
        program
        for program in lab.status()["programs"]
        if program["name"] == "kube-controller-manager"
    )
    os.kill(victim["pid"], signal.SIGKILL)

    def is_back() -> bool:
        now = next(
            program
            for program in lab.status()["programs"]
            if program["name"] == "kube-controller-manager"
        )
        return bool(now["restarts"] == victim["restarts"] + 1 and now["state"] == "running")

    until(is_back, what="kube-controller-manager is back")
    assert psutil.pid_exists(lab.record.supervisor.pid)


def test_reset_removes_what_a_learner_made(lab: Lab) -> None:
    lab.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: mine}")
    lab.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: left}", namespace="default")
    vault.write(lab.vault, {"a": "b"}, key="mine")
    lab.vault.sys.create_or_update_policy("mine", 'path "secret/*" { capabilities = ["read"] }')
    lab.api.delete("rbac.authorization.k8s.io/v1", "ClusterRole", "external-secrets-controller")
    said: list[str] = []
    lab.reset(progress=said.append)
    assert lab.api.get("v1", "Namespace", "mine") is None
    assert lab.api.get("v1", "ConfigMap", "left", "default") is None
    assert vault.read(lab.vault, key="mine") is None
    assert "mine" not in lab.vault.sys.list_policies()["data"]["policies"]
    assert lab.status()["ready"] is True
    assert any("mine" in line for line in said)


def test_a_namespace_that_cannot_end_without_eso_ends_with_it(lab: Lab) -> None:
    """Its finalizers are ESO's, and ESO does not run: it is brought back first."""
    for mend in (lambda: labkit_up(lab), lab.reset):
        lab.api.patch(
            "apps/v1", "Deployment", "external-secrets", {"spec": {"replicas": 0}}, eso.NAMESPACE
        )
        until(lambda: not lab.api.list("v1", "Pod", eso.NAMESPACE), what="the operator is gone")
        before = lab.api.get("v1", "Namespace", "demo")
        assert before
        lab.api.delete("v1", "Namespace", "demo")
        mend()
        after = lab.api.get("v1", "Namespace", "demo")
        assert after
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert "deletionTimestamp" not in after["metadata"]
        assert lab.status()["ready"] is True


def test_an_external_secret_that_cannot_sync_says_why(lab: Lab, namespace: str) -> None:
    lab.apply(
        """
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: missing}
spec:
  refreshInterval: 15s
  secretStoreRef: {kind: ClusterSecretStore, name: vault-backend}
  target: {name: missing}
  data: [{secretKey: a, remoteRef: {key: nowhere, property: a}}]
""",
        namespace=namespace,
    )
    with pytest.raises(WaitTimeout) as failure:
        eso.wait_synced(lab.api, "missing", namespace, timeout=6)
    assert "SecretSyncedError" in failure.value.seen


def test_attaching_to_nothing_says_what_to_do(state: object) -> None:
    with pytest.raises(LabError, match="labkit up --name nobody"):
        labkit.attach("nobody")


def test_the_app_knows_where_its_values_come_from(lab: Lab) -> None:
    shown = lab.app.credentials()
    assert set(shown["values"]) >= {"db_con", "db_user", "db_password"}
    assert shown["sources"]["db_user"]["path"].endswith("/credentials")
    assert app.restarts(lab.app.pod() or {}) == 0


def labkit_up(lab: Lab) -> Lab:
    from labkit import lab as labs

    return labs.up(lab.name)
