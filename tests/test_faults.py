"""What may be wrong before or while a lab comes up: one paragraph, exit 1, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import KERNEL, Home, home

from labkit import host, launch
from labkit.ledger import Ledger
from labkit.paths import cache_dir


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def refused(place: Home, *words: str, **env: str) -> str:
    """What ``labkit WORDS`` says in failing: one paragraph, and nothing is left running."""
    code, said = place.run(*words, **env)
    assert code == 1, said
    paragraph = said[said.index("labkit: ") :]
    assert "Traceback" not in said
    assert "\n\n" not in paragraph
    assert place.living() == {}
    assert list(place.temporary.iterdir()) == []
    return paragraph


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_that_dies_at_once_is_quoted(place: Home, tmp_path: Path) -> None:
    manager = script(tmp_path / "manager", "echo all of my controls are stuck >&2; exit 3")
    said = refused(place, "up", "--name", "a", LABKIT_KUBE_CONTROLLER_MANAGER=manager)
    assert "kube-controller-manager ended by itself" in said
    assert "exited with 3" in said
    assert "all of my controls are stuck" in said
    code, status = place.run("status", "--name", "a")
    assert code == 1
    assert "all of my controls" in status, "whoever asks later is told, too"
    assert "controls" in place.run("logs", "kube-controller-manager", "--name", "a")[1]


def test_nothing_is_derived_from_a_program_that_dies(place: Home, tmp_path: Path) -> None:
    etcd = script(tmp_path / "etcd", "echo the disk is made of cheese >&2; exit 3")
    before = {*(cache_dir() / "golden").glob("*")}
    assert "the disk is made of cheese" in refused(place, "up", "--name", "a", LABKIT_ETCD=etcd)
    assert {*(cache_dir() / "golden").glob("*")} == before


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"LABKIT_MODE": "magic"}, "mounts or rewrite"),
        ({"LABKIT_ETCD": "/nowhere/etcd"}, "LABKIT_ETCD names no program"),
    ],
)
def test_a_wrong_setting_is_named(place: Home, env: dict[str, str], words: str) -> None:
    assert words in refused(place, "up", "--name", "a", **env)


def test_a_mistake_in_the_images_table_is_quoted(place: Home) -> None:
    place.state.mkdir()
    (place.state / "images.toml").write_text('["my/image"]\nprogramme = "x"\n')
    assert "unknown key programme" in refused(place, "up", "--name", "a")


@pytest.mark.parametrize("content", ['{"version": 0, "pids": [1]}', "\x00garbage", "[]", ""])
def test_the_state_of_an_older_lab_is_replaced(place: Home, content: str) -> None:
    folder = place.state / "a"
    (folder / "etcd" / "member").mkdir(parents=True)
    (folder / "lab.json").write_text(content)
    (folder / "vault-token").write_text("of the older lab")
    assert place.run("status", "--name", "a")[0] == 1
    code, said = place.run("kernel", "a")
    assert code == 0, said
    assert not (folder / "vault-token").exists()
    assert place.record("a")["version"] == 1


def test_only_what_the_ledger_proves_is_ended(place: Home) -> None:
    sleep = (sys.executable, "-c", "import time; time.sleep(600)")
    with subprocess.Popen(sleep) as own, subprocess.Popen(sleep) as other:
        folder = place.state / "a"
        left = place.temporary / "labkit-left"
        left.mkdir(parents=True)
        folder.mkdir(parents=True)
        (folder / "lab.json").write_text(json.dumps({"version": 0, "run": str(left)}))
        ledger = Ledger(folder / "ledger")
        ledger.add(own.pid, host.process_start_time(own.pid) or 0, "etcd")
        ledger.add(other.pid, 1.0, "a pid used again")
        assert place.run("down", "--name", "a") == (0, "The lab a is down.\n")
        assert own.wait(10) == -9
        assert other.poll() is None
        assert not left.exists()
        assert not folder.exists()
        other.kill()


def test_a_folder_with_something_else_in_it_is_left_alone(place: Home) -> None:
    folder = place.state / "documents"
    folder.mkdir(parents=True)
    (folder / "thesis").write_text("mine")
    assert "holds something else" in refused(place, "up", "--name", "documents")
    assert place.run("down", "--name", "documents")[0] == 0
    assert (folder / "thesis").read_text() == "mine"


def test_a_state_folder_that_cannot_be_one_is_named(place: Home, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for state in (file, file / "below", Path("/proc/labkit")):
        said = refused(place, "up", "--name", "a", LABKIT_STATE=str(state))
        assert "The lab's folder cannot be used" in said
        assert str(state) in said
        assert "Set LABKIT_STATE" in said
        assert place.run("down", "--all", LABKIT_STATE=str(state)) == (0, "")
    if os.geteuid() != 0:
        place.state.mkdir(mode=0o500)
        assert "Permission denied" in refused(place, "up", "--name", "a")


@pytest.mark.skipif(
    not (host.can_mount_namespace() and shutil.which("unshare")), reason="needs a mount of its own"
)
def test_a_full_disk_is_said_to_be_full(place: Home) -> None:
    place.state.mkdir()
    code = f"mount -t tmpfs -o size=20m none {place.state} && exec {sys.executable} -c '{KERNEL}' a"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", code],
        env=place.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "There is too little space on the disk" in done.stderr


def test_names_lists_labs_alone(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_STATE", str(place.state))
    assert launch.names() == []
    for name in ("b", "a", "no-lab"):
        (place.state / name).mkdir(parents=True)
    for name in ("b", "a"):
        (place.state / name / "lab.json").write_text("{}")
    assert launch.names() == ["a", "b"]
    assert launch.running("a") is None
    assert launch.last_problem("a") == ""
