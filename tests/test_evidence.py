"""The twelve steps from real logs: what is proven, by whom, and what is not."""

from __future__ import annotations

from pathlib import Path

from harness import until

from labkit import app, eso, evidence, vault, workloads
from labkit.evidence import Step, Story
from labkit.kube import parse_manifests
from labkit.lab import Lab

ESO = "ESO as system:serviceaccount:external-secrets:external-secrets"


def tell(lab: Lab, *, api_audit: Path | None = None, **options: float) -> Story:
    return evidence.story(
        lab.api,
        api_audit=api_audit or lab.paths.api_audit,
        node_journal=lab.paths.journal,
        **options,
    )


def by_number(story: Story) -> dict[int, Step]:
    assert [step.number for step in story.steps] == list(range(1, 13))
    return {step.number: step for step in story.steps}


def test_a_rotation_is_proven_step_by_step(lab: Lab) -> None:
    journey = lab.journey()
    began = journey.hops[0].at
    story = tell(lab)
    step = by_number(story)
    assert [each.number for each in story.unproven] == [1], str(story)
    assert step[1].who == "labkit-admin"
    assert "no ServiceAccount of Argo CD applied them; labkit-admin did" in step[1].missing
    assert step[2].who == "labkit-admin"
    assert "services/gitops-secrets-service" in step[2].proof
    assert "deployments/gitops-secrets-deploy" in step[2].proof
    for number in (3, 4, 8, 9):
        assert step[number].who == ESO
    assert "externalsecrets/my-db-credentials -n demo: 200 by labkit-admin" in step[3].proof
    assert "create serviceaccounts/external-secrets/token" in step[4].proof
    assert step[5].who == "ESO with the JWT of external-secrets:external-secrets"
    assert step[5].proof.endswith("auth/kubernetes/login, role demo")
    assert step[6].who == "Vault as system:serviceaccount:vault:vault"
    assert step[6].proof.startswith("create tokenreviews: 201")
    assert "a token for 600 s with default, demo-read" in step[6].proof
    written = lab.vault.secrets.kv.v2.read_secret_metadata(vault.KEY, mount_point=vault.MOUNT)
    newest = written["data"]["current_version"]
    assert step[7].proof == f"response to read secret/data/mysql_credentials, version {newest}"
    assert step[8].proof == (
        "update secrets/mysql-credentials -n demo: 200, from the template of credentials"
    )
    assert step[10].title == "The Deployment mounts it at /secrets/credentials"
    assert step[10].who == f"the node {lab.name} as system:node:{lab.name}"
    secret = lab.api.get("v1", "Secret", app.SECRET, app.NAMESPACE)
    assert secret
    assert f"Secret at version {secret['metadata']['resourceVersion']};" in step[10].proof
    assert "no ServiceAccount token" in step[11].who
    assert "db_password" in step[11].proof
    assert step[12].who == "the page labkit"
    # In the order of their causes; 9 and 10 run side by side.
    at = {number: each.at for number, each in step.items() if each.at is not None}
    for order in ((2, 3, 4, 5, 6, 7, 8, 9), (8, 10, 11, 12)):
        times = [at[number] for number in order]
        assert times == sorted(times)
    assert began is not None
    assert at[3] > began, "it tells of this rotation"
    assert Story(story.steps, began).begin == began


def test_no_secret_is_told(lab: Lab) -> None:
    password = workloads.new_password()
    lab.journey({"url": "jdbc:canary", "username": "canary-user", "password": password})
    bundle = tell(lab)._repr_mimebundle_()
    token = lab.paths.vault_token.read_text()
    for told in (*bundle.values(), repr(tell(lab))):
        for secret in (password, "canary-user", "jdbc:canary", token, "hmac-sha256", "eyJ"):
            assert secret not in told


def test_what_has_no_witness_is_not_proven(lab: Lab, tmp_path: Path) -> None:
    lab.journey()
    nothing = evidence.story(lab.api, api_audit=None, node_journal=None)
    assert [step.number for step in nothing.unproven] == [1, 2, 3, 4, 6, 8, 9, 10], str(nothing)
    assert "cannot be read from here" in by_number(nothing)[4].missing
    assert "no journal" in by_number(nothing)[10].missing
    gone = tell(lab, api_audit=tmp_path / "audit.log")
    assert [step.number for step in gone.unproven] == [1, 2, 3, 4, 6, 8, 9], str(gone)
    (tmp_path / "audit.log").write_text("")
    emptied = by_number(tell(lab, api_audit=tmp_path / "audit.log"))
    assert "(or no longer)" in emptied[6].missing
    assert emptied[7].proven


def test_a_refused_read_is_told_in_vaults_words(lab: Lab) -> None:
    lab.journey()
    client = lab.vault
    client.sys.create_or_update_policy(vault.POLICY, 'path "secret/none" {}')
    try:
        eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
        until(lambda: not tell(lab).steps[6].proven, "ESO is refused")
        story = tell(lab)
    finally:
        vault.trust_cluster(client, reviewer=lab.setup_for(lab.engine).reviewer())
    step = by_number(story)
    assert [each.number for each in story.unproven] == [1, 7, 8, 9, 10, 11, 12], str(story)
    assert step[7].missing == "Vault refused: permission denied"
    assert step[7].proof == "response to read secret/data/mysql_credentials"
    assert "SecretSyncedError" in step[8].missing
    assert lab.journey(timeout=30).same_pod
    until(lambda: tell(lab).steps[6].proven, "the next passage is told")


def test_a_refused_login_is_told_in_vaults_words(lab: Lab) -> None:
    lab.journey()
    lab.vault.auth.kubernetes.delete_role(vault.ROLE)
    try:
        eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
        until(lambda: not tell(lab).steps[5].proven, "ESO is refused")
        until(lambda: "role name" in tell(lab).steps[5].missing, "ESO says so in an event")
        step = by_number(tell(lab))
    finally:
        vault.admit_reader(lab.vault)
    assert step[5].proven
    assert step[6].missing.startswith('Vault refused the login: invalid role name "demo"')
    assert step[7].missing == "the passage ended before: Vault refused the login"
    lab.journey(timeout=30)


ARGO = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: argocd-application-controller}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: argocd}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: argocd-application-controller}]
"""

OTHER = """
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: other}
spec:
  secretStoreRef: {kind: ClusterSecretStore, name: vault-backend}
  target: {name: other-target}
  data: [{secretKey: a, remoteRef: {key: mysql_credentials, property: username}}]
"""


def test_argo_cd_is_believed_when_its_service_account_applies(lab: Lab, namespace: str) -> None:
    lab.apply(ARGO, namespace=namespace)
    name = "argocd-application-controller"
    as_argo = lab.api.with_token(lab.api.token(name, namespace))
    as_argo.apply(parse_manifests(OTHER, "the test")[0], namespace=namespace)
    eso.wait_synced(lab.api, "other", namespace)
    subject = evidence.Subject(external_secret="other", namespace=namespace)
    told = evidence.story(
        lab.api, api_audit=lab.paths.api_audit, node_journal=lab.paths.journal, subject=subject
    )
    step = by_number(told)
    assert [each.number for each in told.unproven] == [2, 10, 11, 12], str(told)
    assert step[1].who == f"Argo CD as system:serviceaccount:{namespace}:{name}"
    assert "externalsecrets/other" in step[1].proof
    assert step[8].proof == f"create secrets/other-target -n {namespace}: 201, without a template"
    assert "no pod" in step[10].missing


def test_what_never_worked_is_told_in_vaults_words(lab: Lab, namespace: str) -> None:
    lab.apply(OTHER.replace("mysql_credentials", "not-for-demo"), namespace=namespace)
    subject = evidence.Subject(external_secret="other", namespace=namespace)
    until(lambda: lab.story(subject=subject).steps[6].proof, "ESO is refused")
    step = by_number(lab.story(subject=subject))
    assert all(step[number].proven for number in (3, 4, 5, 6))
    assert step[7].missing == "Vault refused: permission denied"


def test_it_reads_as_text_and_as_a_table() -> None:
    odd = Step(7, "Vault <answers>", 10.5, "a & b", "Vault", "its log", "read: 200")
    absent = Step(12, "The page shows it", missing="no page")
    bundle = Story((odd, absent), 10.0)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("From Git to page: 1 of 2 steps proven")
    assert "+0.500 s" in bundle["text/plain"]
    assert "NOT PROVEN: no page" in bundle["text/plain"]
    assert "Vault &lt;answers&gt;" in bundle["text/html"]
    assert "a &amp; b" in bundle["text/html"]
    assert "NOT PROVEN: no page" in bundle["text/html"]
