"""The one watcher of a lab: what it tells, when it lives, and what it survives."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import pytest

from labkit import app, eso, launch, vault
from labkit import lab as labs
from labkit.board import Board
from labkit.errors import LabError
from labkit.feeds import Tail
from labkit.lab import Lab
from labkit.snapshot import Snapshot
from labkit.things import KINDS
from labkit.trail import HOPS
from labkit.watcher import Watcher

until = functools.partial(harness.until, timeout=60.0)


class Listener:
    """A subscriber that keeps what it was told."""

    def __init__(self, watcher: Watcher) -> None:
        self.told: list[Snapshot] = []
        self.end = watcher.subscribe(self.told.append)
        until(lambda: self.told, "a first snapshot")

    @property
    def last(self) -> Snapshot:
        return self.told[-1]


@pytest.fixture
def listener(lab: Lab) -> Iterator[Listener]:
    listening = Listener(Watcher.of(lab))
    yield listening
    listening.end()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("labkit-watcher")]


def test_it_lives_from_the_first_subscriber_to_the_last(lab: Lab) -> None:
    watcher = Watcher.of(lab)
    assert Watcher.of(labs.attach(lab.name)) is watcher
    assert not threads()
    first, second = Listener(watcher), Listener(watcher)
    assert len(threads()) == 1
    assert first.last == second.last
    first.end()
    first.end()
    assert len(threads()) == 1
    second.end()
    assert not threads()
    assert watcher.look().lab == "up"  # for a moment
    assert not threads()


def test_it_tells_the_lab_as_it_is(lab: Lab, listener: Listener) -> None:
    seen = listener.last
    assert (seen.lab, seen.sync, seen.vault.state) == ("up", "watch", "open")
    shown = lab.app.credentials()
    until(lambda: listener.last.app.version == shown["version"], "the page's version")
    assert {value.key: value.shown for value in listener.last.app.values} == shown["values"]
    kinds = {thing.kind for thing in seen.things}
    assert kinds == {resource.kind for resource in KINDS} - {"SecretStore"}
    pod = lab.app.pod()
    assert pod is not None
    thing = seen.thing("Pod", app.NAMESPACE, pod["metadata"]["name"])
    assert thing is not None
    assert (thing.health, thing.message) == ("ok", "ready")
    assert [(link.relation, link.name) for link in thing.links] == [("mounts", app.SECRET)]
    owner = next(each for each in seen.things if each.uid in thing.owners)
    assert owner.kind == "ReplicaSet"
    assert seen.volume is not None
    assert seen.volume.target == shown["file"]["target"]


def test_a_rotation_is_told_hop_by_hop_as_whoever_made_it_saw_it(
    lab: Lab, listener: Listener
) -> None:
    followed = lab.journey(forced=True)
    until(lambda: listener.last.rotations[-1].seconds is not None, "the page's hop")
    told = listener.last.rotations[-1]
    assert [hop.name for hop in told.hops] == list(HOPS)
    assert (told.progress, told.forced) == ("done", True)
    for mine, theirs in zip(told.hops, followed.hops, strict=True):
        assert mine.seconds == pytest.approx(theirs.seconds, abs=0.01)
        assert mine.evidence == theirs.evidence
    volume = listener.last.volume
    assert volume is not None
    assert volume.swaps[-1].target == volume.target == listener.last.app.target


def test_a_refusal_is_told_with_vaults_own_words(lab: Lab, listener: Listener) -> None:
    lab.vault.sys.delete_policy(vault.POLICY)
    try:
        values = vault.read(lab.vault)
        assert values is not None
        vault.write(lab.vault, {**values, "password": "course-value-1"})
        eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
        until(lambda: "permission denied" in listener.last.rotations[-1].why, "Vault's words")
        told = listener.last.rotations[-1]
        assert (told.progress, told.waits_for) == ("stalled", "eso-read")
    finally:
        vault.trust_cluster(lab.vault, reviewer=lab._reviewer())
    eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
    until(lambda: listener.last.rotations[-1].waits_for in {"page-updated", ""}, "the app's read")


def test_no_value_of_a_secret_comes_in(lab: Lab, listener: Listener) -> None:
    lab.journey({"url": "u", "username": "n", "password": "course-value-1"})
    until(lambda: listener.last.rotations[-1].progress == "done", "the page's hop")
    assert "course-value-1" not in repr(listener.told)


def test_a_burst_is_one_snapshot_and_nothing_new_is_none(lab: Lab, listener: Listener) -> None:
    before, began = len(listener.told), time.monotonic()
    for number in range(30):
        body = {"metadata": {"annotations": {"labkit.test/number": str(number)}}}
        lab.api.patch("apps/v1", "Deployment", app.DEPLOYMENT, body, app.NAMESPACE)
    took = time.monotonic() - began
    calm = len(listener.told)
    assert calm - before <= took * 10 + 2
    # A change that is no news (a label of the namespace) tells nothing.
    lab.api.patch("v1", "Namespace", app.NAMESPACE, {"metadata": {"labels": {"x": "y"}}})
    pairs = zip(listener.told, listener.told[1:], strict=False)
    assert all(earlier != later for earlier, later in pairs)


def test_a_new_pod_and_a_sealed_vault_are_told_and_outlived(lab: Lab, listener: Listener) -> None:
    old = listener.last.app.pod_uid
    lab.api.delete("v1", "Pod", listener.last.app.pod, app.NAMESPACE)
    until(lambda: listener.last.app.answers and listener.last.app.pod_uid != old, "another pod")
    lab.vault.sys.seal()
    until(lambda: listener.last.vault.state == "sealed", "a sealed Vault")
    labs.up(lab.name)
    until(lambda: listener.last.vault.state == "open", "an open Vault")
    lab.journey()
    until(lambda: listener.last.rotations[-1].progress == "done", "the page's hop")


def _restarts(name: str, program: str) -> int:
    found = launch.running(name)
    return sum(each.restarts for each in found.programs if each.name == program) if found else 0


def _answers(lab: Lab) -> bool:
    try:
        return lab.app.credentials()["version"] > 0
    except LabError:
        return False


def test_it_outlives_the_api_server_and_the_lab(state: Path) -> None:
    lab = labs.up("mortal")
    listener = Listener(Watcher.of(lab))
    try:
        lab.journey()
        until(lambda: listener.last.rotations[-1].progress == "done", "a first rotation")
        server = next(each for each in lab.record.programs if each.name == "kube-apiserver")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        # It may be back before anybody can look: what counts is that the watch goes on.
        until(lambda: _restarts("mortal", server.name), "the API server is started again")
        until(lambda: _answers(lab), "the API")
        lab.journey()
        until(lambda: listener.last.lab == "up", "the API, for the watcher")
        until(lambda: listener.last.rotations[-1].progress == "done", "a rotation after it")
        lab.stop()
        until(lambda: listener.last.lab == "stopped", "a stopped lab")
        assert not listener.last.things
        labs.up("mortal").journey()
        until(lambda: listener.last.lab == "up", "the lab")
        until(lambda: listener.last.rotations[-1].progress == "done", "a rotation in the new one")
        assert listener.last.vault.state == "open"
    finally:
        listener.end()
        labs.attach("mortal").stop()
    assert not threads()


def test_an_interpreter_ends_with_it(lab: Lab) -> None:
    """Nobody unsubscribes, as when a kernel is shut down."""
    script = (
        "import sys, labkit; from labkit.watcher import Watcher\n"
        "told = []\n"
        "Watcher.of(labkit.attach(sys.argv[1])).subscribe(told.append)\n"
        "import time\n"
        "while not told: time.sleep(0.01)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, lab.name], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_thousand_changes_leave_nothing_behind(lab: Lab) -> None:
    """Real objects and lines of this lab, told a thousand times more."""
    lab.journey()
    objects = {
        resource.kind: lab.api.request("GET", resource.path())["items"]
        for resource in KINDS
        if resource.kind != "Secret"
    }
    entries = list(vault.audit(lab.api))
    swaps = [json.loads(line) for line in lab.paths.journal.read_text().splitlines()]
    history = lab.app.history()
    board = Board(lab.name, lambda: None)
    board.lab("up", sync="watch")

    def tell(number: int) -> Snapshot:
        for kind, found in objects.items():
            for obj in found:
                copied: dict[str, Any] = json.loads(json.dumps(obj))
                copied["metadata"]["generation"] = number
                board.object("MODIFIED", kind, copied)
        for entry in entries:
            board.audit(
                vault.AuditEntry(**{**entry.__dict__, "at": entry.at + number, "version": number})
            )
        for line in swaps:
            board.node_line({**line, "at": line["at"] + number}, f"..{number}")
        board.history([{**event, "at": event["at"] + number} for event in history])
        return board.snapshot()

    for number in range(1, 300):  # until everything that is bounded is full
        tell(number)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(300, 1300):
            tell(number)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000, f"{grown} bytes"


def test_a_file_that_is_rotated_away_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "log"
    tail = Tail(file)
    assert list(tail.lines()) == []
    file.write_text('{"n":1}\n{"n":')
    assert list(tail.lines()) == [{"n": 1}]
    with file.open("a") as stream:
        stream.write("2}\nno json\n")
    assert list(tail.lines()) == [{"n": 2}]
    file.rename(tmp_path / "log.1")
    file.write_text('{"n":3}\n')
    assert list(tail.lines()) == [{"n": 3}]
