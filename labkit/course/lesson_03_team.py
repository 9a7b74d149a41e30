"""Lesson 03's second exercise: a store of a team's own, in its own namespace."""

from __future__ import annotations

from labkit import eso
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course import script as scripts
from labkit.course.lesson_03_stores import probe, signs_in, why_not_read
from labkit.course.model import Exercise, Fault

_KIND = "SecretStore"
_SCRIPT = scripts.applied("03-secret-stores/team-store.yaml")
_REMOVE = """\
kubectl -n team-blue delete secretstore blue-store --ignore-not-found
kubectl delete clustersecretstore blue-store --ignore-not-found
"""


@expects("the team has a store")
def team_store_exists(scene: Scene) -> Finding:
    name, team = scene["store"], scene["team"]
    expected = f"there is a {_KIND} {name} in the namespace {team}"
    if scene.kube.get(eso.API, _KIND, name, team):
        return met(expected)
    if scene.kube.get(eso.API, "ClusterSecretStore", name):
        return not_yet(
            expected,
            "there is a ClusterSecretStore of that name",
            next=f"Delete it, and make a {_KIND}.",
            hint="A ClusterSecretStore belongs to no namespace, and every namespace may use it. "
            f"Delete it (`kubectl delete clustersecretstore {name}`) and make a {_KIND}.",
            blocks=True,
        )
    return not_yet(
        expected,
        "there is none",
        next=f"Apply a {_KIND} with metadata.namespace {team}: the blanks are kind, namespace, "
        "role and the ServiceAccount's name.",
        blocks=True,
    )


@expects("ESO signs in as the team")
def team_store_signs_in(scene: Scene) -> Finding:
    return signs_in(scene, _KIND, scene["store"], scene["team"])


@expects("the team's secret can be read through it")
def team_store_reads(scene: Scene) -> Finding:
    key = f"{scene['team']}/reports"
    expected = f"an ExternalSecret in the namespace {scene['team']} reads {key} through the store"
    said = probe(scene, _KIND, scene["store"], namespace=scene["team"], key=key)
    if not said:
        return met(expected)
    return not_yet(
        expected,
        f"the store is valid, but the ExternalSecret fails: {said}",
        next=why_not_read(said, key),
    )


def _instead(right: str, wrong: str) -> str:
    return _REMOVE + _SCRIPT.replace(right, wrong)


TEAM_STORE = Exercise(
    name="team-store",
    title="A store of the team's own",
    script=_SCRIPT,
    undo=_REMOVE,
    blanks=(
        "kind: ⟦SecretStore⟧",
        "namespace: ⟦team-blue⟧",
        "role: ⟦blue-reports⟧",
        "name: ⟦reporter⟧",
    ),
    expectations=(team_store_exists, team_store_signs_in, team_store_reads),
    hints=(
        "The role and whom it admits: `bao read auth/kubernetes/role/blue-reports`.",
        "kind SecretStore, namespace team-blue, role blue-reports, ServiceAccount reporter.",
    ),
    faults=(
        Fault(
            "a ClusterSecretStore",
            _instead("kind: SecretStore", "kind: ClusterSecretStore").replace(
                "  namespace: team-blue\n", ""
            ),
            team_store_exists,
            "every namespace may use it",
        ),
        Fault(
            "ESO's role",
            _instead("role: blue-reports", "role: demo"),
            team_store_signs_in,
            "does not admit",
        ),
        Fault(
            "ESO's ServiceAccount",
            _instead(
                "            name: reporter\n",
                "            name: external-secrets\n            namespace: external-secrets\n",
            ),
            team_store_signs_in,
            "in its own namespace",
        ),
        Fault(
            "data/ in the path",
            _instead("path: secret", "path: secret/data"),
            team_store_reads,
            "mount alone",
        ),
    ),
)
