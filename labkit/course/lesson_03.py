"""Lesson 03: ESO meets Vault: stores with no credential in them, and who may use them."""

from __future__ import annotations

from labkit import app, eso, vault, workloads
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course import script as scripts
from labkit.course.lesson_02 import ACCOUNTS
from labkit.course.lesson_02_team import TEAM as TEAM_ROLE
from labkit.course.lesson_02_team import TEAM_SECRET
from labkit.course.lesson_03_limit import LIMIT
from labkit.course.lesson_03_quiz import QUIZ
from labkit.course.lesson_03_stores import probe, signs_in, why_not_read
from labkit.course.lesson_03_team import TEAM_STORE
from labkit.course.model import Exercise, Fault, Lesson

NAMES = {
    "team": "team-blue",
    "account": "reporter",
    "role": "blue-reports",
    "store": "blue-store",
}

# What lesson 02 left for team blue, and ESO's right to be its reporter.
BEGIN = ACCOUNTS + scripts.applied("03-secret-stores/tokens.yaml") + TEAM_SECRET + TEAM_ROLE.script

_KIND = "ClusterSecretStore"
_NAME = workloads.STORE
_SCRIPT = scripts.applied(workloads.STORE_FILE)
_REMOVE = f"kubectl delete clustersecretstore {_NAME} --ignore-not-found\n"


@expects("the store is there")
def store_exists(scene: Scene) -> Finding:
    expected = f"there is a {_KIND} {_NAME}"
    if scene.kube.get(eso.API, _KIND, _NAME):
        return met(expected)
    return not_yet(
        expected,
        "there is none",
        next="Fill in the blanks and apply it: run the cell.",
        blocks=True,
    )


@expects("no credential is in it")
def store_holds_no_token(scene: Scene) -> Finding:
    expected = "it signs in with a ServiceAccount, and names no stored token"
    found = scene.kube.get(eso.API, _KIND, _NAME) or {}
    auth = found["spec"]["provider"].get("vault", {}).get("auth") or {}
    stored = sorted({*auth} - {"kubernetes"})
    if (auth.get("kubernetes") or {}).get("secretRef"):
        stored.append("kubernetes.secretRef")
    if auth and not stored:
        return met(expected)
    return not_yet(
        expected,
        f"it has auth.{', auth.'.join(stored)}" if stored else "it has no auth",
        next="Use auth.kubernetes with a serviceAccountRef, and nothing else.",
        hint="A token in a Secret is a token that somebody has to put there, guard and renew. "
        "auth.kubernetes with serviceAccountRef needs none.",
    )


@expects("ESO signs in with it")
def store_signs_in(scene: Scene) -> Finding:
    return signs_in(scene, _KIND, _NAME)


@expects("a secret can be read through it")
def store_reads(scene: Scene) -> Finding:
    expected = (
        f"an ExternalSecret in the namespace {app.NAMESPACE} reads {vault.KEY} through the store"
    )
    said = probe(scene, _KIND, _NAME, namespace=app.NAMESPACE, key=vault.KEY)
    if not said:
        return met(expected)
    return not_yet(
        expected,
        f"the store is valid, but the ExternalSecret fails: {said}",
        next=why_not_read(said, vault.KEY),
    )


def _instead(right: str, wrong: str) -> str:
    return _REMOVE + _SCRIPT.replace(right, wrong)


STORE = Exercise(
    name="store",
    title="A store for the whole cluster",
    script=_SCRIPT,
    undo=_REMOVE,
    blanks=(
        "path: ⟦secret⟧",
        "role: ⟦demo⟧",
        "name: ⟦external-secrets⟧",
        "namespace: ⟦external-secrets⟧",
        "audiences: [⟦vault⟧]",
    ),
    expectations=(store_exists, store_holds_no_token, store_signs_in, store_reads),
    hints=(
        "`bao secrets list` shows the mount, `bao read auth/kubernetes/role/demo` whom the role "
        "admits and for which audience.",
        "The mount is secret, the role is demo, name and namespace are both external-secrets, the "
        "audience is vault.",
    ),
    faults=(
        Fault("it is deleted", _REMOVE, store_exists, "apply it"),
        Fault(
            "a token in a Secret",
            f"kubectl patch clustersecretstore {_NAME} --type=json -p '"
            '[{"op": "replace", "path": "/spec/provider/vault/auth", "value": {"tokenSecretRef": '
            '{"name": "vault-token", "namespace": "demo", "key": "token"}}}]\'',
            store_holds_no_token,
            "a token in a Secret",
        ),
        Fault(
            "a role that Vault does not have",
            _instead("role: demo", "role: demmo"),
            store_signs_in,
            "no role of that name",
        ),
        Fault(
            "another role",
            _instead("role: demo", "role: blue-reports"),
            store_signs_in,
            "does not admit",
        ),
        Fault(
            "another ServiceAccount",
            _instead("name: external-secrets", "name: default"),
            store_signs_in,
            "gets no token",
        ),
        Fault(
            "another audience",
            _instead("[vault]", "[kubernetes]"),
            store_signs_in,
            "audience of the role",
        ),
        Fault(
            "another auth method",
            _instead("mountPath: kubernetes", "mountPath: k8s"),
            store_signs_in,
            "bao auth list",
        ),
        Fault(
            "another server",
            _instead("http://vault.vault:", "http://vault.vaults:"),
            store_signs_in,
            "Vault's Service",
        ),
        Fault(
            "the ServiceAccount's namespace is left out",
            _instead("            namespace: external-secrets\n", ""),
            store_reads,
            "no namespace",
        ),
        Fault(
            "data/ in the path",
            _instead("path: secret", "path: secret/data"),
            store_reads,
            "mount alone",
        ),
    ),
)

LESSON = Lesson(
    number=3,
    slug="secret-stores",
    title="SecretStores",
    stage="role",
    begins_with="a secret, a role demo that admits ESO, and a role for team blue",
    missing="a store, which tells ESO where Vault is and who to be there",
    begin=BEGIN,
    names=NAMES,
    exercises=(STORE, TEAM_STORE, LIMIT),
    quiz=QUIZ,
)
