"""The scan finds what was planted: in files, in Git's whole history, in logs, in processes."""

from __future__ import annotations

import base64
import json
import random
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from labkit import scan, vault, workloads
from labkit.lab import Lab
from labkit.scan import KEPT_BY_DESIGN, Needle, Searcher

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def canary(lab: Lab) -> Needle:
    """A password that is in Vault, and nowhere else until a test puts it there."""
    value = workloads.new_password()
    vault.write(lab.vault, {**(vault.read(lab.vault) or {}), "password": value})
    return Needle("the canary", value)


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_it_knows_every_version_and_shows_none(lab: Lab, canary: Needle) -> None:
    found = scan.needles(lab.api, lab.vault, [lab.paths.vault_token])
    values = {needle.value for needle in found}
    assert canary.value in values
    assert lab.paths.vault_token.read_text() in values
    assert "demo_user" not in values
    assert canary.value not in repr(found)
    assert any("password of secret/mysql_credentials, version" in needle.what for needle in found)


def test_it_finds_a_value_in_every_form_wherever_it_stands() -> None:
    letters = string.ascii_letters + string.digits + '/+"\\ _-'
    for _ in range(300):
        value = "x" + "".join(random.choices(letters, k=random.randint(8, 24))) + "x"
        before, after = ("".join(random.choices(string.ascii_letters, k=n)) for n in (3, 5))
        text = before[: random.randint(0, 3)] + value + after[: random.randint(0, 5)]
        searcher = Searcher([Needle("it", value)])
        for form in (
            text,
            json.dumps({"k": text}),
            base64.b64encode(text.encode()).decode(),
            base64.urlsafe_b64encode(text.encode()).decode(),
        ):
            assert searcher.in_bytes(form.encode(), "here"), (value, form)


def test_a_leak_in_a_notebook_a_log_and_a_state_file_is_found(
    lab: Lab, canary: Needle, tmp_path: Path
) -> None:
    searcher = Searcher([canary])
    assert not searcher.in_files(lab.paths.root, skip=KEPT_BY_DESIGN).leaks
    output = nbformat.v4.new_output("stream", text=f"password: {canary.value}\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])
    nbformat.write(notebook, tmp_path / "leak.ipynb")
    assert len(searcher.in_files(tmp_path).leaks) == 1
    for planted in (lab.paths.logs / "planted.log", lab.paths.root / "planted.json"):
        planted.write_text(f"line\nand {canary.value} too\n")
        try:
            leaks = searcher.in_files(lab.paths.root, skip=KEPT_BY_DESIGN).leaks
            assert [leak.where for leak in leaks] == [f"{planted}:2"]
        finally:
            planted.unlink()


def test_what_is_kept_by_design_is_really_there(lab: Lab) -> None:
    """The list of exceptions holds nothing that could hide a leak for no reason."""
    lab.journey(timeout=30)
    password = Needle("password", (vault.read(lab.vault) or {})["password"])
    searcher = Searcher([password])
    for place in ("etcd", "node/pods"):
        assert searcher.in_files(lab.paths.root / place).leaks, place


def test_a_deleted_file_is_found_in_history(canary: Needle, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "values.yaml").write_text(f"password: {canary.value}\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "rm", "-q", "values.yaml")
    git(tmp_path, "commit", "-qm", "removed, so all is well")
    searcher = Searcher([canary])
    assert not searcher.in_files(tmp_path).leaks
    (leak,) = searcher.in_git(tmp_path).leaks
    assert "values.yaml" in leak.where
    assert canary.value not in str(leak)


def test_a_message_of_a_commit_is_found_too(canary: Needle, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", f"use {canary.value}")
    assert "git commit" in Searcher([canary]).in_git(tmp_path).leaks[0].where


def test_an_argument_of_a_process_is_found(canary: Needle) -> None:
    searcher = Searcher([canary])
    assert not searcher.in_processes().leaks
    with subprocess.Popen(["sh", "-c", "read x", canary.value], stdin=subprocess.PIPE) as process:
        leaks = searcher.in_processes().leaks
        assert [leak.where for leak in leaks] == [f"arguments of process {process.pid}"]


def test_the_command_says_where_and_exits_1(
    lab: Lab, canary: Needle, labkit: Run, tmp_path: Path
) -> None:
    clean = labkit("scan", str(tmp_path), "--lab", "--name", lab.name)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    (tmp_path / "a.txt").write_text(canary.value)
    dirty = labkit("scan", str(tmp_path), "--name", lab.name)
    assert dirty.returncode == 1
    assert "a.txt:1: password of secret/mysql_credentials" in dirty.stdout
    assert canary.value not in dirty.stdout + dirty.stderr
    found = json.loads(labkit("scan", str(tmp_path), "--name", lab.name, "--json").stdout)
    assert len(found["leaks"]) == 1
    missing = labkit("scan", str(tmp_path / "none"), "--name", lab.name)
    assert missing.returncode == 1
    assert "There is nothing at" in missing.stderr
