"""Buttons over a real lab: what they do, what they say, and what they say it stands for."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator

import harness
import pytest

from labkit import app, eso, vault, views
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.snapshot import Snapshot, Thing, Vault
from labkit.views.control import Control, choices, state_of

until = functools.partial(harness.until, timeout=60.0)


@pytest.fixture
def control(lab: Lab) -> Iterator[Control]:
    view: Control = views.control(lab)
    yield view
    view.close()


def press(control: Control, name: str) -> list[str]:
    """As the browser does, and to the end of it; what was said."""
    control.do(name).join(60)
    told = control.state["told"][0]
    assert told["ok"], told
    said: list[str] = told["said"]
    return said


def why(seen: Snapshot, lab: Lab) -> dict[str, str]:
    state = state_of(seen, choices(lab, "bao"), ())
    return {name: button["why"] for name, button in state["buttons"].items()}


def test_what_makes_no_sense_now_cannot_be_pressed_and_says_why(lab: Lab) -> None:
    operator = Thing("Deployment", eso.NAMESPACE, "external-secrets", "u", "ok", "1 of 1 ready", 0)
    good = Snapshot(
        "lab", "up", things=(operator,), vault=Vault("open"), sync="watch", refresh_interval="15s"
    )
    found = why(good, lab)
    assert found["start-vault"] == "Vault is open."
    assert found["resume-eso"] == "ESO is at work."
    assert not any(found[name] for name in ("rotate", "every-5s", "stop-vault", "pause-eso"))
    sealed = why(Snapshot("lab", "up", vault=Vault("sealed"), refresh_interval="15s"), lab)
    assert sealed["rotate"] == "Vault is sealed."
    assert sealed["start-vault"] == ""
    assert set(why(Snapshot("lab"), lab).values()) == {"The lab does not run."}


def test_rotate_now_reaches_the_app(lab: Lab, control: Control) -> None:
    before = lab.app.credentials()["version"]
    [said] = press(control, "rotate")
    assert said.startswith("Vault has version ")
    lab.app.wait_showing(lambda shown: shown["version"] > before)
    value = vault.read(lab.vault)
    assert value is not None
    assert value["password"] not in repr(control) + repr(control.state)
    assert "Rotate now: done" in repr(control)


def test_the_line_in_a_terminal_does_the_same(lab: Lab, control: Control) -> None:
    before = vault.read(lab.vault)
    environment = {variable.name: variable.read() for variable in lab.variables()}
    for line in control.state["buttons"]["rotate"]["lines"]:
        subprocess.run(["/bin/sh", "-c", line], env=environment, check=True, capture_output=True)
    after = vault.read(lab.vault)
    assert before
    assert after
    assert {**after, "password": ""} == {**before, "password": ""}
    assert after["password"] != before["password"]


def test_the_interval_is_the_external_secrets(lab: Lab, control: Control) -> None:
    press(control, "every-1h")
    try:
        found = lab.api.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)
        assert found is not None
        assert found["spec"]["refreshInterval"] == "1h"
        until(lambda: control.state["every"] == "1h", "the view says so")
    finally:
        press(control, "every-15s")


def test_eso_pauses_and_goes_on(lab: Lab, control: Control) -> None:
    press(control, "pause-eso")
    try:
        until(lambda: control.state["buttons"]["pause-eso"]["why"] == "ESO is paused.", "paused")
        with pytest.raises(LabError, match="cannot be done now"):
            control.do("pause-eso")
    finally:
        until(lambda: not control.state["buttons"]["resume-eso"]["why"], "can go on")
        press(control, "resume-eso")
    until(lambda: control.state["buttons"]["resume-eso"]["why"] == "ESO is at work.", "at work")


def test_vault_is_stopped_and_mended(lab: Lab, control: Control) -> None:
    press(control, "stop-vault")
    try:
        until(lambda: control.latest.vault.state == "stopped", "a stopped Vault")
        with pytest.raises(LabError, match="cannot be done now"):
            control.do("rotate")
        assert lab.app.credentials()["version"]  # the app goes on with what it has
    finally:
        said = press(control, "start-vault")
    assert any("initialised and unsealed" in line for line in said)
    until(lambda: control.latest.vault.state == "open", "an open Vault")
    press(control, "rotate")
    journey = lab.journey()  # and the whole way works again
    assert journey.seconds is not None


def test_a_failure_is_its_paragraph(lab: Lab, control: Control) -> None:
    lab.api.delete(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)
    try:
        control.do("rotate").join(60)
        told = control.state["told"][0]
        assert told["ok"] is False
        assert "There is no ExternalSecret my-db-credentials" in told["said"][0]
    finally:
        lab.apply("manifests/04-external-secrets/my-db-credentials.yaml")
        eso.wait_synced(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
