"""The view of Applications: what it shows of a snapshot.  On a real platform: ``argocd``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labkit import argocd, views
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.snapshot import Deployed, Managed, Snapshot, Thing
from labkit.views.apptree import Told, state_of


def deployed(name: str, wave: int, *managed: Managed, **said: str) -> Deployed:
    green = {"sync": "Synced", "health": "Healthy", "revision": "97c4b601ca", "phase": ""}
    return Deployed(argocd.Application(name, **{**green, "message": "", **said}), wave, managed)


ROOT = deployed(
    "platform", 0, Managed("argoproj.io", "Application", "argocd", "shop", "Synced", "")
)
EXTERNAL = Managed("external-secrets.io", "ExternalSecret", "demo", "es", "Synced", "Healthy")
SHOP = deployed("shop", 3, EXTERNAL, sync="OutOfSync", phase="Running", message="why")
SECRET = Thing(
    "Secret", "demo", "s", "u-s", "ok", "", 0.0, owned_by=("ExternalSecret.external-secrets.io/es",)
)  # fmt: skip
SEEN = Snapshot("lab", lab="up", argocd=True, deployed=(SHOP, ROOT), things=(SECRET,))


def card(seen: Snapshot, name: str, **told: Told) -> dict[str, Any]:
    return next(app for app in state_of(seen, told)["apps"] if app["name"] == name)


def test_cards_say_sync_and_health_in_words() -> None:
    state = state_of(SEEN, {})
    assert state["summary"] == "2 Applications: shop is OutOfSync, Healthy."
    assert [app["name"] for app in state["apps"]] == ["platform", "shop"]
    shop = state["apps"][1]
    assert (shop["sync"], shop["health"], shop["differs"]) == ("OutOfSync", "Healthy", True)
    assert (shop["about"], shop["message"]) == ("sync wave 3, commit 97c4b60, being synced", "why")
    assert shop["count"] == "2 objects: 1 Synced, 1 made from them"
    (external,) = shop["nodes"]
    assert [(node["name"], node["sync"], node["health"]) for node in external["below"]] == [
        ("s", "not tracked", "")
    ]
    (told,) = state["apps"][0]["nodes"]
    assert (told["name"], told["sync"]) == ("shop", "OutOfSync"), "as the Application itself says"
    assert state_of(replace(SEEN, deployed=(ROOT,)), {})["summary"] == (
        "1 Application: Synced and Healthy."
    )


def test_a_long_tree_is_folded_at_first_unless_something_is_wrong() -> None:
    many = tuple(Managed("", f"Kind{number}", "", "x", "Synced", "") for number in range(13))
    for health, is_open in (("Healthy", False), ("Degraded", True)):
        seen = replace(SEEN, deployed=(deployed("big", 0, *many, health=health),))
        assert card(seen, "big")["open"] is is_open


def test_buttons_say_their_command_and_why_they_cannot_be_pressed() -> None:
    assert card(SEEN, "platform")["asks"] == {
        "refresh": {"line": "argocd app get platform --refresh", "why": ""},
        "sync": {"line": "argocd app sync platform", "why": ""},
        "diff": {"line": "argocd app diff platform", "why": ""},
    }
    assert card(SEEN, "shop")["asks"]["sync"]["why"] == "It is being synced."
    busy = card(SEEN, "platform", platform=Told("argocd app sync platform"))
    assert {ask["why"] for ask in busy["asks"].values()} == {"It is being done."}
    away = replace(SEEN, lab="unreachable", problem="the Kubernetes API does not answer")
    assert {ask["why"] for ask in card(away, "platform")["asks"].values()} == {
        "The lab does not run."
    }
    assert state_of(away, {})["summary"].startswith("the Kubernetes API does not answer. Last seen")


def test_what_there_is_to_see_without_applications() -> None:
    for seen, words in (
        (Snapshot("lab", lab="up", argocd=True), "There is no Application yet."),
        (Snapshot("lab", lab="up"), "Argo CD is not installed here."),
        (Snapshot("lab"), "The lab is stopped."),
    ):
        state = state_of(seen, {})
        assert state["summary"].startswith(words)
        assert (state["apps"], state["legend"]) == ([], "")


def test_a_lab_without_argo_cd_is_told_and_watched_for_nothing_more(lab: Lab) -> None:
    view = views.apptree(lab)
    try:
        assert views.apptree(lab) is view
        assert "Argo CD is not installed here" in str(view)
        assert view.latest.deployed == ()
        view.ask("sync", "shop").join(30)
        told = view._told["shop"]
        assert (told.ok, told.line) == (False, "argocd app sync shop")
        assert "There is no Application shop" in told.said
        view._told = {"shop": Told("argocd app sync shop")}
        with pytest.raises(LabError, match="cannot be done now"):
            view.ask("refresh", "shop")
    finally:
        view.close()
