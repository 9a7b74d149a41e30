"""Trees of Applications as data and as text, from what Argo CD and the cluster may say.

Whether that is what they do say is tested in ``argocd``, on a platform deployed from Git.
"""

from __future__ import annotations

from typing import Any

from labkit import apptree, argocd, treetext
from labkit.apptree import deployed_of, overview
from labkit.lab import Lab
from labkit.things import TRACKING, thing_of

Entry = dict[str, Any]


def application(name: str, *resources: Entry, wave: str = "", **status: Any) -> Entry:
    notes = {"annotations": {argocd.WAVE: wave}} if wave else {}
    sync = {"status": status.pop("sync", "Synced"), "revision": "97c4b601ca6b9da192139fed"}
    return {
        "metadata": {"name": name, "namespace": "argocd", **notes},
        "status": {
            "sync": sync,
            "health": {"status": status.pop("health", "Healthy")},
            "resources": list(resources),
            **status,
        },
    }


def entry(kind: str, name: str, sync: str = "Synced", health: str = "", **more: Any) -> Entry:
    group, _, kind = kind.rpartition("/")
    found: Entry = {"group": group, "kind": kind, "namespace": "demo", "name": name}
    found |= {"status": sync} if sync else {}
    return found | ({"health": {"status": health}} if health else {}) | more


def thing(kind: str, name: str, owner: str = "", tracking: str = "", **more: Any) -> Any:
    meta: Entry = {"name": name, "namespace": "demo", "uid": f"u-{kind}-{name}"}
    if owner:
        group, _, rest = owner.rpartition("/")
        kind_of, _, of = rest.partition(":")
        version = f"{group}/v1" if group else "v1"
        meta["ownerReferences"] = [
            {"apiVersion": version, "kind": kind_of, "name": of, "uid": f"u-{kind_of}-{of}"}
        ]
    if tracking:
        meta["annotations"] = {TRACKING: tracking}
    return thing_of(kind, {"metadata": meta, **more})


RUNS = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
WAITS = {
    "status": {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "web", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
        ],
    }
}
ONE = {"spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1}}
NONE = {"spec": {"replicas": 0}, "status": {}}
THINGS = (
    thing("Deployment", "web", tracking="shop:apps/Deployment:demo/web", **ONE),
    thing("ReplicaSet", "web-1", "apps/Deployment:web", "shop:apps/Deployment:demo/web", **ONE),
    thing("ReplicaSet", "web-0", "apps/Deployment:web", **NONE),
    thing("Pod", "web-1-a", "apps/ReplicaSet:web-1", **RUNS),
    thing("Pod", "web-1-b", "apps/ReplicaSet:web-1", **WAITS),
    thing("Pod", "other", "apps/ReplicaSet:other", **RUNS),
    thing("Pod", "make-key-x", "batch/Job:make-key", status={"phase": "Succeeded"}),
    thing("Secret", "credentials", "external-secrets.io/ExternalSecret:external"),
    thing("Secret", "in-git", "external-secrets.io/ExternalSecret:external"),
)
SHOP = application(
    "shop",
    entry("apps/Deployment", "web", "OutOfSync", "Progressing", syncWave=2),
    entry("external-secrets.io/ExternalSecret", "external", health="Degraded", syncWave=-1),
    entry("Secret", "in-git"),
    entry("ConfigMap", "gone", "OutOfSync", "Missing"),
    entry("ConfigMap", "old", "OutOfSync", requiresPruning=True),
    entry("batch/Job", "make-key", "", hook=True, syncWave=-1),
    *(entry("ServiceAccount", f"account-{number}") for number in range(6)),
    wave="3",
    sync="OutOfSync",
    health="Degraded",
    conditions=[{"type": "SyncError", "message": "one\n  two"}],
)
ROOT = application(
    "platform",
    entry("argoproj.io/Application", "shop", "OutOfSync", "Degraded", syncWave=3),
    entry("argoproj.io/Application", "platform", health="Healthy"),
    entry("argoproj.io/Application", "elsewhere", health="Healthy"),
)


TEXT = (
    """\
NAME                  KIND            SYNC         HEALTH
platform              Application     Synced       Healthy      97c4b60
├─ elsewhere          Application     Synced       Healthy
├─ platform           Application     Synced       Healthy
└─ shop               Application     OutOfSync    Degraded     its own manifest is OutOfSync
   ├─ external        ExternalSecret  Synced       Degraded
   │  └─ credentials  Secret          not tracked  –
   ├─ make-key        Job             hook         –
   │  └─ make-key-x   Pod             not tracked  Healthy
   ├─ gone            ConfigMap       OutOfSync    Missing
   ├─ old             ConfigMap       OutOfSync    –            no longer in Git, to be pruned
   ├─ in-git          Secret          Synced       –
   ├─ 6 objects       ServiceAccount  Synced       –
   └─ web             Deployment      OutOfSync    Progressing
      └─ web-1        ReplicaSet      not tracked  Healthy      tracking-id copied from its owner
         ├─ web-1-a   Pod             not tracked  Healthy
         └─ web-1-b   Pod             not tracked  Degraded     web ImagePullBackOff

shop: one two
"""
    + treetext.LEGEND
)


def test_the_text_is_a_tree_with_aligned_columns() -> None:
    found = overview(map(deployed_of, (SHOP, ROOT)), THINGS)
    assert str(found) == TEXT
    assert len(list(found["shop"].walk())) == 17
    assert found["shop"].revision == "97c4b60"


def test_applications_stand_in_the_order_of_their_waves() -> None:
    apps = [application(name, wave=wave) for name, wave in (("c", "x"), ("b", "2"), ("a", "10"))]
    root = application("z", *(entry("argoproj.io/Application", name) for name in "abc"))
    found = overview(map(deployed_of, (*apps, root)), ())
    assert [(tree.name, tree.wave, tree.is_root) for tree in found.trees] == [
        ("z", 0, True),
        ("c", 0, False),
        ("b", 2, False),
        ("a", 10, False),
    ]


def test_applications_that_deploy_each_other_are_all_told() -> None:
    pair = [
        application("a", entry("argoproj.io/Application", "b")),
        application("b", entry("argoproj.io/Application", "a")),
    ]
    text = str(overview(map(deployed_of, pair), ()))
    assert [line.split()[:2] for line in text.splitlines()[1:4]] == [
        ["a", "Application"],
        ["└─", "b"],
        ["└─", "a"],
    ]


def test_health_that_argo_cd_keeps_to_itself_is_read_from_the_object() -> None:
    shop = application("shop", entry("apps/Deployment", "web"), entry("Secret", "in-git"))
    found = overview([deployed_of(shop)], THINGS)["shop"]
    assert {node.name: node.health for node in found.nodes} == {"in-git": "", "web": "Healthy"}


def test_html_says_the_same_and_is_safe() -> None:
    shop = application("shop", entry("ConfigMap", "<b>"), health="Degraded", conditions=[
        {"type": "ComparisonError", "message": "<script>"},
    ])  # fmt: skip
    shown = overview([deployed_of(shop)], ())._repr_mimebundle_()
    assert "&lt;b&gt;" in shown["text/html"]
    assert "<script>" not in shown["text/html"]
    assert "shop: <script>" in shown["text/plain"]


def test_a_lab_without_argo_cd_says_so(lab: Lab) -> None:
    for names in ((), "shop", ("shop", "store")):
        found = apptree.look(lab.api, names)
        assert (found.trees, str(found)) == ((), apptree.NOT_INSTALLED)
    assert "<code>labkit up --argocd</code>" in found._repr_mimebundle_()["text/html"]
