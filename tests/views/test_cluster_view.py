"""The cluster map: what it draws of a snapshot, and of a real lab; values only when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from harness import until

from labkit import closeup, vault, views
from labkit.lab import Lab
from labkit.snapshot import Link, Snapshot, Thing, Vault
from labkit.views.cluster import Cluster, as_lines, state_of

STORE = Thing(
    "ClusterSecretStore", "", "store", "u-store", "bad", "not valid", 3.0,
    links=(Link("asks", "StatefulSet", "vault", "vault"),),
)  # fmt: skip
EXTERNAL = Thing(
    "ExternalSecret", "demo", "es", "u-es", "ok", "synced", 4.0,
    links=(
        Link("reads", "ClusterSecretStore", "", "store"),
        Link("writes", "Secret", "demo", "s"),
    ),
)  # fmt: skip
SECRET = Thing("Secret", "demo", "s", "u-s", "ok", "", 5.0, owners=("u-es",))
POD = Thing(
    "Pod", "demo", "p", "u-p", "progressing", "starting", 6.0, owners=("u-rs",),
    links=(
        Link("mounts", "Secret", "demo", "s"),
        Link("env", "Secret", "demo", "s"),
        Link("mounts", "Secret", "demo", "missing"),
    ),
)  # fmt: skip
SEEN = Snapshot(
    name="lab",
    lab="up",
    vault=Vault(state="sealed", version="2.7.2", engine="OpenBao", pod="vault-0"),
    things=(
        Thing("StatefulSet", "vault", "vault", "u-v", "ok", "1 of 1 ready", 1.0),
        Thing("ReplicaSet", "demo", "rs", "u-rs", "ok", "1 of 1 ready", 2.0),
        Thing("ReplicaSet", "demo", "old", "u-old", "ok", "scaled to 0", 2.0),
        POD, SECRET, STORE, EXTERNAL,
    ),
)  # fmt: skip


def cards(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {thing["title"]: thing for row in state["rows"] for thing in row["things"]}


def test_arrows_join_what_owns_and_what_uses() -> None:
    arrows = {(a["start"], a["end"]): (a["word"], a["owns"]) for a in state_of(SEEN)["arrows"]}
    assert arrows == {
        ("u-store", "u-v"): ("asks", False),
        ("u-es", "u-store"): ("reads", False),
        ("u-es", "u-s"): ("writes and owns", True),
        ("u-p", "u-s"): ("mounts and has as env", False),
        ("u-rs", "u-p"): ("owns", True),
    }


def test_cards_say_it_in_words() -> None:
    found = cards(state_of(SEEN))
    assert "ReplicaSet demo/old" not in found
    sealed = found["StatefulSet vault/vault"]
    assert (sealed["word"], sealed["message"]) == ("not well", "OpenBao 2.7.2: sealed")
    assert found["Pod demo/p"]["links"] == [
        "mounts and has as env Secret demo/s",
        "owned by ReplicaSet demo/rs",
        "mounts Secret missing, which is not there",
    ]
    assert found["Secret demo/s"]["links"] == ["owned by ExternalSecret demo/es"]


def test_the_text_is_a_tree() -> None:
    assert as_lines(SEEN) == [
        "Map of the lab lab",
        "├─ StatefulSet vault/vault: not well, OpenBao 2.7.2: sealed (last change 00:00:01 UTC)",
        "│  └─ asks it: ClusterSecretStore store: not well, not valid (last change 00:00:03 UTC)",
        "│     └─ reads it: ExternalSecret demo/es: ok, synced (last change 00:00:04 UTC)",
        "│        └─ Secret demo/s: ok (last change 00:00:05 UTC)",
        "└─ ReplicaSet demo/rs: ok, 1 of 1 ready (last change 00:00:02 UTC)",
        "   └─ Pod demo/p: in progress, starting; mounts Secret s; has as env Secret s; "
        "mounts Secret missing (last change 00:00:06 UTC)",
    ]


def test_a_lab_that_is_down_says_so() -> None:
    assert as_lines(Snapshot(name="lab"))[1].startswith("The lab is stopped.")
    rows = state_of(Snapshot(name="lab"))["rows"]
    assert not any(row["things"] for row in rows)
    assert [row["title"] for row in rows][:2] == ["Vault", "Stores"]


@pytest.fixture
def view(lab: Lab) -> Iterator[Cluster]:
    made = views.cluster(lab)
    yield made
    made.close()


def press(view: Cluster, **message: object) -> dict[str, Any]:
    """What the browser's ``model.send`` does; the view's answer."""
    answers: list[dict[str, Any]] = []
    view.send = answers.append  # type: ignore[method-assign, assignment]
    view._asked(None, message, None)
    return answers[-1]


def asked(card: dict[str, Any]) -> dict[str, Any]:
    return {key: card[key] for key in ("uid", "kind", "namespace", "name")}


def test_a_rotation_moves_the_map_and_no_value_comes_in(lab: Lab, view: Cluster) -> None:
    name = "Secret demo/mysql-credentials"
    before = cards(view.state)[name]["changed_at"]
    lab.journey()
    until(lambda: cards(view.state)[name]["changed_at"] > before, "the map shows the change")
    values = vault.read(lab.vault)
    assert values
    for told in (json.dumps(view.state), str(view), view.as_html()):
        assert not any(value in told for value in values.values())
    assert views.cluster(lab) is view


def test_an_object_close_up(lab: Lab, view: Cluster) -> None:
    secret = cards(view.state)["Secret demo/mysql-credentials"]
    found = press(view, do="look", **asked(secret))["found"]
    password = (vault.read(lab.vault) or {})["password"]
    assert "bytes, masked" in found["yaml"]
    assert "managedFields" not in found["yaml"]
    assert password not in json.dumps(found)
    assert found["commands"][0] == "kubectl -n demo describe secret mysql-credentials"
    shown = press(view, do="reveal", **asked(secret), **{"for": "this tab"})
    assert shown["for"] == "this tab"
    assert f'db_password="{password}"' in shown["values"]["credentials"]
    assert "{.data.credentials}" in shown["command"]
    assert password not in json.dumps(view.state)
    pod = next(card for title, card in cards(view.state).items() if title.startswith("Pod demo/"))
    assert "Started" in [
        event["reason"] for event in press(view, do="look", **asked(pod))["found"]["events"]
    ]
    gone = press(view, do="look", **{**asked(pod), "name": "gone"})
    assert gone["found"] is None


def test_what_kubectl_noted_of_a_secret_is_masked_too(lab: Lab, namespace: str) -> None:
    note = "kubectl.kubernetes.io/last-applied-configuration"
    lab.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "x",
                "namespace": namespace,
                "annotations": {note: '{"stringData":{"tls.key":"open-sesame"}}'},
            },
            "stringData": {"tls.key": "open-sesame"},
        }
    )
    found = closeup.look(lab.api, "Secret", namespace, "x")
    assert found
    assert "open-sesame" not in found.yaml
    assert closeup.reveal(lab.api, namespace, "x") == {"tls.key": "open-sesame"}
    assert "{.data.tls\\.key}" in closeup.reveal_command(namespace, "x", ("tls.key",))
