"""The pins agree with each other, and the public names are these."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from labkit import programs
from labkit.errors import UsageError
from labkit.programs.catalogue import CATALOGUE, GoModule, Wheel, needed_by_a_lab, variable_of
from labkit.programs.command import parse_size
from labkit.programs.golang import Limits, Version

ROOT = Path(__file__).parents[2]


def test_public_names() -> None:
    assert programs.__all__ == [
        "CATALOGUE", "Entry", "Event", "Program", "Progress", "ensure", "lock_digest", "resolve",
        "silent",
    ]  # fmt: skip


def test_what_a_lab_needs() -> None:
    assert set(needed_by_a_lab()) == {
        "etcd", "etcdutl", "kube-apiserver", "kube-controller-manager", "external-secrets",
        "bao", "kubectl",
    }  # fmt: skip


@pytest.mark.parametrize("name", CATALOGUE)
def test_version_is_the_pinned_one(name: str) -> None:
    entry = CATALOGUE[name]
    if isinstance(entry.source, Wheel):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert f"{entry.source.distribution}=={entry.version}" in project["dependencies"]
    else:
        pinned = (entry.source.folder / "go.mod").read_text()
        assert f"{entry.source.module} v{entry.version}\n" in pinned
        replaced = re.search(rf"{re.escape(entry.source.module)} => (\S+) v", pinned)
        served = replaced[1] if replaced else entry.source.module
        sums = (entry.source.folder / "go.sum").read_text()
        assert f"{served} v{entry.version} h1:" in sums


def test_lock_changes_with_a_pin(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "go.sum").write_text(text)
        return GoModule(folder=tmp_path, names=("x",)).lock_digest()

    assert digest("a") == digest("a") != digest("b")


def test_lock_digest_sees_a_program_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = programs.lock_digest(["etcd"])
    own = tmp_path / "etcd"
    own.write_text("#!/bin/sh\n")
    monkeypatch.setenv("LABKIT_ETCD", str(own))
    assert programs.lock_digest(["etcd"]) != pinned


def test_variable_of() -> None:
    assert variable_of("kube-apiserver") == "LABKIT_KUBE_APISERVER"
    assert variable_of("e2e.test") == "LABKIT_E2E_TEST"


def test_parse_size() -> None:
    assert parse_size("2G") == 2 * 10**9
    assert parse_size("1500MiB") == 1500 * 10**6
    with pytest.raises(UsageError, match="2G"):
        parse_size("lots")


def test_memory_bounds_jobs() -> None:
    assert Limits.of(None, 2 * 10**9).jobs <= 2
    assert Limits.of(None, 10**8).jobs == 1
    assert Limits.of(3, 10**9).jobs == 3


def test_go_versions_compare() -> None:
    old, new = Version.parse("go1.9.7"), Version.parse("go1.26.0")
    assert old is not None
    assert new is not None
    assert old < new == Version(1, 26, 0)
    assert Version.parse("devel") is None
