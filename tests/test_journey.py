"""Following a rotation: on other routes, on one pod of several, and when it fails."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import harness
import pytest

from labkit import app, eso, journey, vault, workloads
from labkit.errors import LabError, WaitTimeout
from labkit.journey import HOPS, Journey, Route, Witnesses
from labkit.kube import is_condition
from labkit.lab import Lab

LONG = 300.0  # seconds that no test waits: what fails is told long before


def rotate(
    lab: Lab, *, route: Route = journey.COURSE, timeout: float = 60.0, **values: str
) -> Journey:
    written = {**workloads.first_values(), **values}
    sources = Witnesses(lab.paths.api_audit, lab.paths.journal, lab.sync)
    return journey.rotate(
        lab.api, lab.vault, written, witnesses=sources, route=route, timeout=timeout
    )


def scale(lab: Lab, name: str, namespace: str, replicas: int) -> None:
    """Set a Deployment's replicas and wait until so many pods are there, all of them ready."""
    lab.api.patch("apps/v1", "Deployment", name, {"spec": {"replicas": replicas}}, namespace)
    found = lab.api.get("apps/v1", "Deployment", name, namespace)
    assert found is not None
    labels = ",".join(f"{k}={v}" for k, v in found["spec"]["selector"]["matchLabels"].items())

    def is_done() -> bool:
        pods = lab.api.list("v1", "Pod", namespace, labels=labels)
        return len(pods) == replicas and all(is_condition(pod, "Ready") for pod in pods)

    harness.until(is_done, what=f"{replicas} pods of {name}")


@contextmanager
def denied(lab: Lab) -> Iterator[None]:
    """ESO may not read the secret for a while."""
    client = lab.vault
    client.sys.create_or_update_policy(vault.POLICY, 'path "secret/none" {}')
    yield
    client.sys.create_or_update_policy(vault.POLICY, vault.POLICY_TEXT)
    rotate(lab)


@contextmanager
def no_eso(lab: Lab) -> Iterator[None]:
    """ESO does not run for a while."""
    scale(lab, "external-secrets", eso.NAMESPACE, 0)
    yield
    scale(lab, "external-secrets", eso.NAMESPACE, 1)
    rotate(lab)


def test_hops_come_in_order(lab: Lab) -> None:
    walked = rotate(lab)
    assert tuple(hop.name for hop in walked.hops) == HOPS
    assert all(a.at <= b.at for a, b in itertools.pairwise(walked.hops) if a.at and b.at)
    assert "write by root" in walked.hops[0].evidence
    assert "read by kubernetes-external-secrets" in walked.hops[1].evidence


def test_of_several_pods_one_is_followed(lab: Lab) -> None:
    scale(lab, app.DEPLOYMENT, app.NAMESPACE, 2)
    try:
        for _ in range(3):
            walked = rotate(lab)
            assert walked.same_pod
            assert all(hop.at is not None for hop in walked.hops)
    finally:
        scale(lab, app.DEPLOYMENT, app.NAMESPACE, 1)


def test_another_app_is_followed_by_its_own_route(lab: Lab, namespace: str) -> None:
    lab.apply(_MINE, namespace=namespace)
    route = Route(
        namespace=namespace,
        external_secret="mine",
        secret="my-values",
        service="my-service",
        port="web",
        labels="app=mine",
    )
    walked = rotate(lab, route=route, password="course-value-2")
    assert walked.pod == "my-app"
    assert all(hop.at is not None for hop in walked.hops)
    assert "rename of ..data in files" in walked.hops[3].evidence


def test_a_failure_is_told_long_before_the_time_is_up(lab: Lab) -> None:
    with denied(lab), pytest.raises(WaitTimeout, match="no evidence of eso-read") as failure:
        rotate(lab, timeout=LONG)
    assert "permission denied" in failure.value.seen


def test_an_old_failure_is_not_blamed(lab: Lab) -> None:
    with denied(lab), pytest.raises(WaitTimeout, match="permission denied"):
        rotate(lab, timeout=LONG)
    warned = eso.last_warning(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
    assert "permission denied" in warned, "the event is still there"
    with no_eso(lab), pytest.raises(WaitTimeout, match="no evidence of eso-read") as failure:
        rotate(lab, timeout=2)
    assert "no warning events since the write" in failure.value.seen


def test_a_file_that_the_app_cannot_use_is_told(lab: Lab) -> None:
    with pytest.raises(WaitTimeout, match="the app cannot use the new file") as failure:
        rotate(lab, timeout=LONG, password="")
    assert "no evidence of app-reloaded" in failure.value.seen
    rotate(lab)


def test_a_write_that_changes_nothing_says_so(lab: Lab) -> None:
    rotate(lab, password="course-value-3")
    with pytest.raises(WaitTimeout, match="is anything in it different"):
        rotate(lab, timeout=2, password="course-value-3")


def test_a_missing_external_secret_is_told_before_the_write(lab: Lab) -> None:
    before = vault.read(lab.vault)
    with pytest.raises(LabError, match="There is no ExternalSecret nobody"):
        rotate(lab, route=Route(external_secret="nobody"))
    assert vault.read(lab.vault) == before


def test_a_pod_that_is_replaced_on_the_way_is_told(lab: Lab) -> None:
    first = lab.app.pod()
    assert first is not None
    name = first["metadata"]["name"]

    def replace() -> None:
        harness.until(
            lambda: (vault.read(lab.vault) or {}).get("password") == "course-value-4",
            what="the value is on its way",
        )
        lab.api.delete("v1", "Pod", name, app.NAMESPACE)

    thread = threading.Thread(target=replace)
    with no_eso(lab):
        thread.start()
        with pytest.raises(LabError, match=f"pod {name} is gone"):
            rotate(lab, timeout=LONG, password="course-value-4")
        thread.join()


_MINE = """
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: mine}
spec:
  refreshInterval: 1h
  secretStoreRef: {kind: ClusterSecretStore, name: vault-backend}
  target:
    name: my-values
    template:
      data:
        credentials: |
          db_con="{{ .url }}"
          db_user="{{ .username }}"
          db_password="{{ .password }}"
  dataFrom: [{extract: {key: mysql_credentials}}]
---
apiVersion: v1
kind: Pod
metadata: {name: my-app, labels: {app: mine}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: localhost/gitops-secrets-app:1.0
      ports: [{name: http, containerPort: 8080}]
      volumeMounts: [{name: files, mountPath: /secrets}]
  volumes: [{name: files, secret: {secretName: my-values}}]
---
apiVersion: v1
kind: Service
metadata: {name: my-service}
spec:
  selector: {app: mine}
  ports: [{name: web, port: 80, targetPort: http}]
"""
