"""Trust instead of a token: what the real Vault and the real API server refuse."""

from __future__ import annotations

import pytest

from labkit import vault, workloads
from labkit.errors import ApiError, VaultError
from labkit.kube import Kube
from labkit.lab import Lab


def account(kube: Kube, name: str, namespace: str) -> None:
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        namespace=namespace,
    )


def test_the_bound_service_account_gets_a_short_lived_token(lab: Lab) -> None:
    jwt = lab.api.token("external-secrets", "external-secrets", audiences=["vault"])
    auth = vault.login(lab.vault, jwt)
    assert auth["lease_duration"] == 600
    assert vault.POLICY in auth["policies"]
    reader = vault.open_client(lab.api, auth["client_token"])
    assert vault.read(reader) == vault.read(lab.vault)
    with pytest.raises(VaultError, match="permission denied"):
        vault.read(reader, key="something-else")
    with pytest.raises(VaultError, match="permission denied"):
        vault.write(reader, {"password": "mine now"})


def test_another_service_account_is_refused(lab: Lab, namespace: str) -> None:
    account(lab.api, "stranger", "external-secrets")
    try:
        jwt = lab.api.token("stranger", "external-secrets", audiences=["vault"])
        with pytest.raises(VaultError, match="service account name not authorized"):
            vault.login(lab.vault, jwt)
    finally:
        lab.api.delete("v1", "ServiceAccount", "stranger", "external-secrets")


def test_the_same_name_in_another_namespace_is_refused(lab: Lab, namespace: str) -> None:
    account(lab.api, "external-secrets", namespace)
    jwt = lab.api.token("external-secrets", namespace, audiences=["vault"])
    with pytest.raises(VaultError, match="namespace not authorized"):
        vault.login(lab.vault, jwt)


def test_a_token_for_another_audience_is_refused(lab: Lab) -> None:
    jwt = lab.api.token("external-secrets", "external-secrets", audiences=["somebody-else"])
    with pytest.raises(VaultError, match="invalid audience"):
        vault.login(lab.vault, jwt)


def test_an_unknown_role_is_refused(lab: Lab) -> None:
    jwt = lab.api.token("external-secrets", "external-secrets", audiences=["vault"])
    with pytest.raises(VaultError, match="invalid role name"):
        vault.login(lab.vault, jwt, role="nobody")


def test_a_service_account_without_a_role_is_refused_by_kubernetes(
    lab: Lab, namespace: str
) -> None:
    account(lab.api, "external-secrets", namespace)
    unbound = lab.api.with_token(lab.api.token("external-secrets", namespace))
    with pytest.raises(ApiError) as failure:
        unbound.list("v1", "Secret", namespace)
    assert failure.value.status == 403
    assert (
        f'User "system:serviceaccount:{namespace}:external-secrets" cannot list resource "secrets"'
        in failure.value.seen
    )


def test_eso_is_no_admin(lab: Lab) -> None:
    token = lab.api.token("external-secrets", "external-secrets")
    eso = lab.api.with_token(token)
    assert eso.list("v1", "Secret", "demo")
    for path in ("/api/v1/nodes", "/apis/rbac.authorization.k8s.io/v1/clusterroles"):
        with pytest.raises(ApiError, match="refused") as failure:
            eso.request("GET", path)
        assert failure.value.status == 403
    with pytest.raises(ApiError) as failure:
        eso.token("vault", "vault")
    assert failure.value.status == 403


def test_the_audit_device_names_the_reader_and_never_the_value(lab: Lab) -> None:
    canary = workloads.new_password()
    vault.write(lab.vault, {"password": canary}, key="canary")
    vault.read(lab.vault, key="canary")
    entries = [entry for entry in vault.audit(lab.api) if entry.path == "secret/data/canary"]
    operations = {entry.operation for entry in entries}
    assert operations - {"create", "update"} == {"read"}
    assert len(operations) > 1, "the write is there, as whichever of the two the engine calls it"
    assert {entry.identity for entry in entries} == {"root"}
    log = lab.api.raw("GET", "/api/v1/namespaces/vault/pods/vault-0/log")
    assert canary.encode() not in log
    assert lab.paths.vault_token.read_bytes() not in log


def test_reading_what_is_not_there(lab: Lab) -> None:
    assert vault.read(lab.vault, key="never-written") is None
