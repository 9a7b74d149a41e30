"""Who can read what, by real reads: as ServiceAccounts, with Vault tokens, as the learner."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labkit import rules, vault
from labkit.access import (
    ALLOWED,
    DENIED,
    FAILED,
    IDENTITIES,
    LEARNER,
    THINGS,
    Identity,
    Reader,
    Thing,
    Verdict,
)
from labkit.lab import Lab

ESO = Identity("account", "external-secrets", "external-secrets")
KEY, OTHER, SECRET, ALL = THINGS


def read(lab: Lab, identity: Identity, thing: Thing, **options: str) -> Verdict:
    with Reader(lab.api, lab.vault, identity, **options) as reader:
        return reader.read(thing)


def accessors(lab: Lab) -> set[str]:
    return set(lab.vault.list("auth/token/accessors")["data"]["keys"])


def test_each_read_ends_as_its_rules_say(lab: Lab) -> None:
    seen = {}
    for identity in IDENTITIES:
        with Reader(lab.api, lab.vault, identity) as reader:
            seen[identity.title] = "".join(reader.read(thing).outcome[0] for thing in THINGS)
    assert seen == {  # the key, another path, the app's Secret, ESO's namespace
        "external-secrets/external-secrets": "adaa",
        "demo/default": "dddd",
        "vault/vault": "dddd",
        "your kubeconfig": "ddaa",
        "policy root": "aadd",
        "policy demo-read": "addd",
        "policy default": "dddd",
    }


def test_a_role_and_a_policy_decide_in_vault(lab: Lab) -> None:
    allowed = read(lab, ESO, KEY)
    assert allowed.outcome == ALLOWED
    assert "role demo lets it in" in allowed.rule
    assert 'path "secret/data/mysql_credentials"' in allowed.text
    assert "bound_service_account_names = [external-secrets]" in allowed.text
    denied = read(lab, ESO, OTHER)
    assert "No policy of its token (default, demo-read) names this path" in denied.rule
    refused = read(lab, Identity("account", "default", "external-secrets"), KEY)
    assert "bound_service_account_names are [external-secrets]" in refused.rule
    assert refused.said == "Vault: service account name not authorized"


def test_rbac_decides_in_kubernetes(lab: Lab) -> None:
    allowed = read(lab, ESO, SECRET)
    assert 'ClusterRoleBinding "external-secrets-controller"' in allowed.rule
    assert "resources: [secrets]" in allowed.text
    assert "generators" not in allowed.text
    denied = read(lab, Identity("account", "vault", "vault"), SECRET)
    assert "403 Forbidden" in denied.said
    assert "ClusterRoleBinding vault-token-reviewer → ClusterRole system:auth-delegator" in (
        denied.text
    )
    assert "system:masters" in read(lab, LEARNER, ALL).rule
    assert "401" in read(lab, Identity("token", "root"), SECRET).said


def test_a_role_of_the_learners_own_is_seen_at_once(lab: Lab, namespace: str) -> None:
    rbac = "rbac.authorization.k8s.io/v1"
    visitor, thing = Identity("account", "default", namespace), Thing(namespace=namespace, name="x")
    lab.wait_for("serviceaccount/default", bool, namespace=namespace)
    assert read(lab, visitor, thing).outcome == DENIED
    for obj in (
        {
            "kind": "Role",
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
        },
        {
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": rbac.split("/")[0], "kind": "Role", "name": "reads"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        },
    ):
        meta = {"name": "reads", "namespace": namespace}
        lab.api.apply({"apiVersion": rbac, "metadata": meta, **obj})
    lab.wait_for(
        "serviceaccount/default",
        lambda _: read(lab, visitor, thing).outcome == ALLOWED,
        namespace=namespace,
    )
    found = read(lab, visitor, thing)
    assert f'RoleBinding "reads/{namespace}" of Role "reads"' in found.rule
    assert "# Role reads" in found.text
    assert found.said == "Kubernetes: 404, nothing is there"


def test_nothing_of_a_read_is_left(lab: Lab) -> None:
    values = vault.read(lab.vault)
    assert values
    before = accessors(lab)
    for identity in IDENTITIES:
        with Reader(lab.api, lab.vault, identity) as reader:
            verdicts = [reader.read(thing) for thing in THINGS]
        assert not any(value in repr(verdicts) for value in values.values())
    assert accessors(lab) <= before, "tokens are revoked"


def test_what_cannot_be_tried_says_why(lab: Lab) -> None:
    nobody = read(lab, Identity("account", "nobody", "demo"), SECRET)
    assert nobody.outcome == FAILED
    assert "no token for the ServiceAccount demo/nobody" in nobody.rule
    assert "Vault has no role nowhere" in read(lab, ESO, KEY, role="nowhere").rule
    missing = read(lab, Identity("token", "not-written-yet"), KEY)
    assert missing.outcome == DENIED
    assert "There is no policy not-written-yet" in missing.rule


@pytest.fixture
def shell(lab: Lab) -> dict[str, str]:
    return {**os.environ, **{each.name: each.read() for each in lab.variables()}}


@pytest.mark.parametrize(
    ("identity", "thing", "says"),
    [
        (ESO, KEY, "allowed"),
        (ESO, OTHER, ""),
        (Identity("account", "default", "demo"), KEY, ""),
        (Identity("account", "default", "demo"), SECRET, ""),
        (ESO, SECRET, "mysql-credentials"),
        (LEARNER, KEY, "403"),
        (LEARNER, SECRET, "mysql-credentials"),
        (Identity("token", "demo-read"), KEY, "allowed"),
        (Identity("token", "demo-read"), OTHER, ""),
        (Identity("token", "root"), SECRET, "401"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.title,
)
def test_the_command_does_the_same(
    lab: Lab, shell: dict[str, str], tmp_path: Path, identity: Identity, thing: Thing, says: str
) -> None:
    line = read(lab, identity, thing).command
    done = subprocess.run(
        ["sh", "-c", line],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert says in done.stdout, done.stderr
    assert bool(done.stdout) == bool(says), done.stdout
    values = vault.read(lab.vault) or {}
    assert not any(value in done.stdout for value in values.values())


POLICIES = {
    "wide": 'path "secret/*" { capabilities = ["list"] }',
    "team": """
# path "secret/data/blue/x" { capabilities = ["create"] }
path "secret/data/+/x" { capabilities = ["update"] }
path "secret/data/blue/*" {
  capabilities = ["read", "list"]
}
""",
    "exact": 'path "secret/data/blue/y" { capabilities = ["deny"] }',
}


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("secret/data/blue/y", "exact"),
        ("secret/data/blue/x", "team"),
        ("secret/data/blue/z", "team"),
        ("secret/data/red", "wide"),
        ("cubbyhole/x", ""),
    ],
)
def test_the_most_specific_stanza_decides(path: str, policy: str) -> None:
    """Source: "Policies", Priority matching, in Vault's documentation."""
    found = rules.deciding(POLICIES, path)
    assert "".join(stanza.policy for stanza in found) == policy


def test_of_two_patterns_the_later_wildcard_wins(lab: Lab) -> None:
    """As Vault itself decides: a token with these policies is asked for its capabilities."""
    for name, text in POLICIES.items():
        lab.vault.sys.create_or_update_policy(f"t-{name}", text)
    token = lab.vault.auth.token.create(
        policies=[f"t-{name}" for name in POLICIES], ttl="1m", no_default_policy=True
    )["auth"]["client_token"]
    try:
        for path in ("secret/data/blue/x", "secret/data/blue/y", "secret/data/blue/z", "secret/a"):
            answer = lab.vault.sys.get_capabilities(paths=[path], token=token)
            (stanza,) = rules.deciding(POLICIES, path)
            assert set(answer["data"]["capabilities"]) == stanza.capabilities
    finally:
        lab.vault.auth.token.revoke(token)
        for name in POLICIES:
            lab.vault.sys.delete_policy(f"t-{name}")
