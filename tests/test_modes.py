"""The other way of everything: no mount namespaces, and the stock kubelet's sync."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pods import WRITE_FOREVER, log, phase, pod, secret, secret_volume, wait_pod

from labkit import lab as labs
from labkit import vault, vaultadmin
from labkit.kube import Object, namespaces
from labkit.lab import Lab


@pytest.fixture(scope="module")
def other(state: Path) -> Iterator[Lab]:
    """A second lab beside the session's, in rewrite mode and with ``--sync kubelet``."""
    os.environ["LABKIT_MODE"] = "rewrite"
    try:
        running = labs.up("other", sync="kubelet", progress=print)
    finally:
        del os.environ["LABKIT_MODE"]
    yield running
    running.stop()


def test_two_labs_stand_side_by_side(lab: Lab, other: Lab) -> None:
    assert (lab.record.mode, other.record.mode) == (lab.record.mode, "rewrite")
    assert lab.app.url != other.app.url
    assert lab.api.server != other.api.server
    assert lab.app.shows("db_password") != other.app.shows("db_password")


def test_one_labs_credentials_open_nothing_of_the_other(lab: Lab, other: Lab) -> None:
    assert lab.paths.proxy_url.read_text() != other.paths.proxy_url.read_text()
    stranger = other.vault
    stranger.token = lab.paths.vault_token.read_text()
    assert not stranger.is_authenticated()


def test_the_secret_is_on_the_page_without_namespaces(other: Lab) -> None:
    shown = other.app.credentials()
    assert set(shown["values"]) == {"db_con", "db_user", "db_password"}
    assert shown["sources"]["db_user"]["path"].endswith("/credentials")


def _files(lab: Lab, running: Object) -> list[Object]:
    entries = [json.loads(line) for line in lab.paths.journal.read_text().splitlines()]
    return [
        entry
        for entry in entries
        if entry["event"] == "volume-swapped"
        and entry["uid"] == running["metadata"]["uid"]
        and entry["volume"] == "files"
    ]


def test_a_stock_kubelet_does_not_hear_of_a_secret_until_it_looks(other: Lab) -> None:
    kube, namespace = other.api, "default"
    kube.apply(secret("s", word="first"), namespace=namespace)
    kube.apply(
        pod(
            "p",
            WRITE_FOREVER,
            volumeMounts=[{"name": "files", "mountPath": "/secrets"}],
            volumes=[secret_volume("s")],
        ),
        namespace=namespace,
    )
    running = wait_pod(kube, namespace, "p", phase("Running"), "Running")
    kube.apply(secret("s", word="second"), namespace=namespace)
    # Long enough for watch mode: another pod comes, sees the new value, and ends.
    kube.apply(
        pod(
            "q",
            "cat /secrets/word",
            restartPolicy="Never",
            volumeMounts=[{"name": "files", "mountPath": "/secrets"}],
            volumes=[secret_volume("s")],
        ),
        namespace=namespace,
    )
    wait_pod(kube, namespace, "q", phase("Succeeded"), "Succeeded")
    assert log(kube, namespace, "q") == "second"
    assert len(_files(other, running)) == 1
    assert "second" not in log(kube, namespace, "p")
    # Whatever makes the kubelet look at the pod makes it look at the volumes, too.
    kube.patch("v1", "Pod", "p", {"metadata": {"annotations": {"look": "now"}}}, namespace)
    for line in kube.stream(
        f"/api/v1/namespaces/{namespace}/pods/p/log", query={"follow": "true"}, idle=30
    ):
        if line == b"second":
            break
    else:
        pytest.fail("the new value never reached the file")
    assert len(_files(other, running)) == 2


def test_a_vault_that_sets_itself_up_finds_its_files_without_namespaces(other: Lab) -> None:
    # Its key, its data and its token: each named by a path in what the image's entrypoint writes.
    namespaces.remove(other.api, vault.NAMESPACE)
    other.apply("manifests/07-gitops/vault")
    admin = vault.open_client(other.api, vaultadmin.login(other.api))
    jwt = other.api.token("external-secrets", "external-secrets", audiences=[vault.AUDIENCE])
    reader = vault.open_client(other.api, vault.login(admin, jwt)["client_token"])
    assert vault.read(reader) == vault.read(admin)
