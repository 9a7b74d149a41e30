"""What an installed kit brings: built as a wheel, unpacked elsewhere, and used from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import requests
from harness import REPO, until

from labkit.lab import Lab
from labkit.workingcopy import NOTE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel has, as site-packages would have it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=REPO,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_has_all_that_the_course_needs_and_nothing_else(site: Path) -> None:
    def names(folder: Path, pattern: str) -> set[str]:
        found = {str(p.relative_to(folder)) for p in folder.rglob(pattern) if p.is_file()}
        return {name for name in found if ".ipynb_checkpoints" not in name}

    inside = site / "labkit" / "_course"
    assert names(inside / "notebooks", "*") == names(REPO / "notebooks", "*.ipynb")
    assert names(inside / "manifests", "*") == names(REPO / "manifests", "*")
    for pattern in ("*.js", "*.css", "*.html", "*.lock", "go.*", "*.json", "*.toml"):
        assert names(site / "labkit", pattern) == names(REPO / "labkit", pattern), pattern
    assert not [path for path in site.rglob("*") if path.name == ".ipynb_checkpoints"]


@pytest.fixture
def served(site: Path, lab: Lab, tmp_path: Path) -> Iterator[str]:
    """`labkit lab` of the unpacked wheel, over the running lab; what it has printed."""
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "labkit", "lab", "course", "--name", lab.name, "--no-browser"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site), "JUPYTER_CONFIG_DIR": str(tmp_path / "c")},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or "token=" in log.read_text(), "an address")
        assert process.poll() is None, log.read_text()
        yield log.read_text()
    finally:
        process.terminate()
        process.wait(20)


def test_it_opens_jupyterlab_with_a_copy_of_the_learners_own(
    served: str, site: Path, lab: Lab, tmp_path: Path
) -> None:
    assert "lessons are in course: they are yours to change" in served
    found = re.search(r"(http://127\.0\.0\.1:\d+)/\S*token=(\w+)", served)
    assert found
    answer = requests.get(
        f"{found[1]}/api/contents/00-start-here.ipynb?content=1",
        headers={"Authorization": f"token {found[2]}"},
        timeout=30,
    )
    shown = [cell["source"] for cell in answer.json()["content"]["cells"]]
    stored = nbformat.read(REPO / "notebooks" / "00-start-here.ipynb", as_version=4)
    assert shown == [cell.source for cell in stored.cells]
    assert (tmp_path / "course" / NOTE).is_file()
    told = subprocess.run(
        [sys.executable, "-m", "labkit", "update", "course"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "Everything is as this version of the kit has it.\n"
