"""The team's manifests against a real Vault and a real External Secrets Operator."""

from base64 import b64decode
from pathlib import Path

import pytest

from labkit import Lab, LabError, eso, vault

HERE = Path(__file__).parent
POLICY = 'path "secret/data/team/orders" { capabilities = ["read"] }'


@pytest.fixture
def orders(lab: Lab, namespace: str):
    """Vault as it is set up for the team: a policy, a role for its ServiceAccount, a secret."""
    lab.vault.sys.create_or_update_policy("orders", POLICY)
    vault.admit(lab.vault, "orders", (namespace, "vault-reader"), "orders")
    vault.write(lab.vault, {"username": "orders", "password": "first"}, key="team/orders")
    lab.apply(HERE / "manifests" / "store.yaml", namespace=namespace)
    lab.wait_for("secretstore/team-vault", namespace=namespace, timeout=20)
    return namespace


def says(text):
    """Whether the Secret's file says so."""
    return lambda secret: secret and text in b64decode(secret["data"]["orders.ini"]).decode()


def test_the_file_follows_vault(lab: Lab, orders: str) -> None:
    lab.apply(HERE / "manifests" / "orders.yaml", namespace=orders)
    lab.wait_for("externalsecret/orders", namespace=orders, timeout=20)
    lab.wait_for("secret/orders-credentials", says("password = first"), namespace=orders)
    vault.write(lab.vault, {"username": "orders", "password": "second"}, key="team/orders")
    eso.force_sync(lab.api, "orders", orders)  # or wait for the refreshInterval
    lab.wait_for("secret/orders-credentials", says("password = second"), namespace=orders)


def test_a_misspelt_property_is_found_out(lab: Lab, orders: str) -> None:
    lab.apply(HERE / "wrong" / "orders.yaml", namespace=orders)
    with pytest.raises(LabError, match='cannot find secret data for key: "passwrd"'):
        lab.wait_for("externalsecret/orders", namespace=orders, timeout=5)
