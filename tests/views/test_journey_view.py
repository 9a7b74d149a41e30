"""The journey's words and lengths, and the widget over a real lab."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import harness
import pytest

from labkit import views
from labkit.lab import Lab
from labkit.snapshot import Hop, Rotation, Snapshot, Vault
from labkit.views.journey import HOPS, Journey, as_lines, state_of

until = functools.partial(harness.until, timeout=30.0)
SECONDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def rotation(version: int, proven: int, progress: str, why: str = "", **more: object) -> Rotation:
    names = list(HOPS)
    hops = tuple(
        Hop(name, 1000.0 + seconds, seconds, "somebody's log") if i < proven else Hop(name)
        for i, (name, seconds) in enumerate(zip(names, SECONDS, strict=True))
    )
    waits = names[proven] if proven < len(names) else ""
    return Rotation(version, 1000.0, "root", True, hops, progress, waits, why, **more)  # type: ignore[arg-type]


def seen(*rotations: Rotation, vault: str = "open", **more: object) -> Snapshot:
    return Snapshot(
        "lab",
        "up",
        rotations=rotations,
        sync="watch",
        refresh_interval="15s",
        vault=Vault(vault),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def test_the_newest_comes_first_and_all_bars_have_one_scale() -> None:
    state = state_of(seen(rotation(1, 6, "done"), rotation(2, 3, "under way", "ESO is slow")))
    assert [each["version"] for each in state["rotations"]] == [2, 1]
    assert state["scale"] == 0.5
    assert state["mode"] == "refreshInterval 15s · node sync mode watch"
    assert [each["counts"] for each in state["rotations"]] == [True, False]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (rotation(3, 6, "done"), "Version 3 is on the page after 0.500 s."),
        (
            rotation(3, 1, "stalled", "Vault is sealed, so ESO cannot read"),
            "Version 3 is stalled before “ESO read it”: Vault is sealed, so ESO cannot read.",
        ),
        (
            rotation(3, 1, "under way", "ESO reads soon"),
            "Version 3 waits for “ESO read it”: ESO reads soon.",
        ),
        (
            rotation(3, 5, "stalled", "is the app's page open?"),
            "Version 3 is in the app after 0.400 s; is the app's page open?",
        ),
        (rotation(3, 1, "overtaken", "ESO read another"), "Version 3: ESO read another."),
    ],
)
def test_each_end_has_its_sentence(told: Rotation, said: str) -> None:
    state = state_of(seen(told))
    assert state["said"] == said
    assert said in "\n".join(as_lines(state))


def test_without_rotations_or_a_lab_it_says_so() -> None:
    assert as_lines(state_of(seen())) == [
        "The secret's journey (refreshInterval 15s · node sync mode watch)",
        "No rotation yet. Write a new password to Vault and watch it travel.",
    ]
    assert "labkit up" in state_of(Snapshot("lab"))["note"]
    assert state_of(seen(vault="sealed"))["note"] == "Vault is sealed."


@pytest.fixture
def journey(lab: Lab) -> Iterator[Journey]:
    view: Journey = views.journey(lab)
    yield view
    view.close()


def test_it_follows_a_rotation_and_a_pause_keeps_what_is_shown(lab: Lab, journey: Journey) -> None:
    assert views.journey(lab) is journey  # one in a kernel: a cell that runs again shows it
    lab.journey()
    until(lambda: journey.state["rotations"][0]["progress"] == "done", "a rotation")
    version = journey.state["rotations"][0]["version"]
    text = repr(journey)
    assert f"Version {version} is on the page" in text
    assert all(label in text for label in HOPS.values())
    bundle = journey._repr_mimebundle_()[0]
    assert bundle["text/plain"] == text
    assert "<table>" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
    journey.paused = True
    lab.journey()
    until(lambda: journey.latest.rotations[-1].version == version + 1, "the next in the snapshot")
    assert journey.state["rotations"][0]["version"] == version
    journey.paused = False
    assert journey.state["rotations"][0]["version"] == version + 1


def test_closing_it_ends_its_work(lab: Lab) -> None:
    view = views.journey(lab)
    assert any(each.name.startswith("labkit-watcher") for each in threading.enumerate())
    view.close()
    assert not any(each.name.startswith("labkit-watcher") for each in threading.enumerate())
    another = views.journey(lab)
    assert another is not view
    another.close()
