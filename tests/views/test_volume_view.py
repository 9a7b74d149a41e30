"""The folder and its swap: what the view makes of a snapshot, and of a real rotation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness import until

from labkit import views
from labkit.lab import Lab
from labkit.snapshot import App, Snapshot, Swap, Thing, Volume
from labkit.views.volume import POD, VolumeView, as_lines, state_of

PAGE = {
    "version": 2,
    "loaded_at": 20.0,
    "file": {"path": "/secrets/credentials", "target": "..new", "fingerprint": "bbbb"},
    "other_sources": [
        {
            "kind": kind,
            "where": where,
            "fingerprint": "aaaa",
            "matches_file": False,
            "changed_since_start": False,
            "read_at": 10.0,
            "error": None,
        }
        for kind, where in (("env", "DB_CREDENTIALS"), ("subpath", "/frozen/credentials"))
    ],
}


def volume(pod: str, *targets: str) -> Volume:
    swaps = tuple(
        Swap(10.0 * number, number == 1, ("credentials",), str(number), target)
        for number, target in enumerate(targets, 1)
    )
    return Volume(
        "demo", pod, f"uid-{pod}", "credentials", "mysql-credentials", "/x", targets[-1], swaps
    )


def snapshot(*volumes: Volume, own: str = "") -> Snapshot:
    things = (Thing("Secret", "demo", "mysql-credentials", "s", "ok", "", 0.0),)
    if own:
        health = "ok" if own == "ready" else "progressing"
        things += (Thing("Pod", "demo", POD, f"uid-{POD}", health, own, 0.0),)
    return Snapshot(
        "lab",
        "up",
        things=things,
        volumes=volumes,
        app=App(pod="app", pod_uid="uid-app", file_path="/secrets/credentials"),
        sync="watch",
    )


def test_the_folder_is_the_apps_until_there_is_a_pod_with_all_three() -> None:
    before = state_of(snapshot(volume("app", "..old", "..new"), own="starting"), None)
    assert before["where"].startswith("in the pod app ")
    assert before["pod"]["state"] == "starting"
    assert before["ways"] == []
    seen = snapshot(volume("app", "..a"), volume(POD, "..old", "..new"), own="ready")
    after = state_of(seen, PAGE)
    assert after["where"].startswith(f"in the pod {POD} ")
    assert [way["kind"] for way in after["ways"]] == ["file", "env", "subpath"]


def test_a_swap_is_told_with_both_folders_and_the_first_writing_is_none() -> None:
    assert state_of(snapshot(volume("app", "..old")), None)["swaps"] == []
    state = state_of(snapshot(volume("app", "..old", "..new")), None)
    assert [(swap["from"], swap["to"]) for swap in state["swaps"]] == [("..old", "..new")]
    assert state["folder"]["target"] == "..new"
    text = "\n".join(as_lines(state))
    assert "..data -> ..new" in text
    assert "..old -> ..new" in text


def test_what_no_swap_reaches_is_told_in_words() -> None:
    seen = snapshot(volume(POD, "..old", "..new"), own="ready")
    text = "\n".join(as_lines(state_of(seen, PAGE)))
    assert "mark bbbb      Has the new value" in text
    assert text.count("mark aaaa      As at the start, not what the file holds") == 2


def test_without_a_lab_or_a_secret_it_says_what_is_missing() -> None:
    stopped = state_of(Snapshot("lab"), None)
    assert "`labkit up`" in stopped["note"]
    assert stopped["pod"]["why"] == "The lab does not run."
    empty = state_of(Snapshot("lab", "up"), None)
    assert empty["note"] == "No pod mounts the Secret yet."
    assert "no Secret mysql-credentials" in empty["pod"]["why"]


@pytest.fixture
def view(lab: Lab) -> Iterator[VolumeView]:
    made = views.volume(lab, start=True)
    yield made
    made.remove({})
    made.close()


def test_a_rotation_turns_the_folder_and_nothing_else(lab: Lab, view: VolumeView) -> None:
    until(lambda: len(view.state["ways"]) == 3, "the pod with all three ways", timeout=60)
    first = {way["kind"]: way["mark"] for way in view.state["ways"]}
    assert len(set(first.values())) == 1
    lab.journey(client="test-volume")
    until(
        lambda: any(not way["same"] for way in view.state["ways"]),
        "the file has the new value",
        timeout=30,
    )
    now = {way["kind"]: way["mark"] for way in view.state["ways"]}
    assert now["file"] != first["file"]
    assert (now["env"], now["subpath"]) == (first["env"], first["subpath"])
    (swap,) = view.state["swaps"]
    assert swap["to"] == view.state["folder"]["target"]
    link = lab.app.on(pod_of(lab)).credentials()["file"]["target"]
    assert link == swap["to"]
    password = lab.app.shows("db_password")
    assert password
    bundle, _ = view._repr_mimebundle_()
    assert password not in json.dumps([view.state, bundle])


def pod_of(lab: Lab) -> dict[str, object]:
    found = lab.api.get("v1", "Pod", POD, "demo")
    assert found
    return found
