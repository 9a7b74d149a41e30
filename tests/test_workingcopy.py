"""A learner's copy of the course: whatever they did to it survives whatever we bring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import workingcopy
from labkit.errors import LabError, UsageError
from labkit.serving import told

OLD = {"00-a.ipynb": "a", "01-b.ipynb": "b", "02-c.ipynb": "c"}


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "kit"
    bring(folder, **OLD)
    return folder


@pytest.fixture
def folder(tmp_path: Path, origin: Path) -> Path:
    folder = tmp_path / "mine"
    assert workingcopy.make(folder, origin=origin).made == list(OLD)
    return folder


def bring(origin: Path, **files: str) -> None:
    origin.mkdir(exist_ok=True)
    for name, content in files.items():
        (origin / name).write_text(content)
        (origin / name).chmod(0o444)  # as some installers leave it


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*")) if path.is_file()}


def test_the_course_of_this_kit_is_copied_once_and_is_the_learners(tmp_path: Path) -> None:
    made = workingcopy.make(tmp_path / "a" / "b").made
    assert made[0] == "00-start-here.ipynb"
    copied = tmp_path / "a" / "b" / made[0]
    assert copied.read_bytes() == (workingcopy.source() / made[0]).read_bytes()
    copied.write_text("mine")
    again = workingcopy.make(tmp_path / "a" / "b")
    assert (again.made, again.news, copied.read_text()) == ([], [], "mine")


def test_an_update_replaces_what_nobody_touched_and_lies_beside_what_somebody_did(
    folder: Path, origin: Path
) -> None:
    (folder / "01-b.ipynb").write_text("b, and my notes")
    (folder / "notes.ipynb").write_text("only mine")
    for name in OLD:
        (origin / name).chmod(0o644)
    bring(origin, **{"00-a.ipynb": "a2", "01-b.ipynb": "b2", "03-d.ipynb": "d"})
    assert workingcopy.make(folder, origin=origin).news == ["00-a.ipynb", "01-b.ipynb"]
    changes = workingcopy.update(folder, origin=origin)
    assert told(changes).splitlines() == [
        "updated:  00-a.ipynb",
        "beside:   01-b.new.ipynb (yours stays in 01-b.ipynb)",
    ]
    assert content(folder) == {
        "00-a.ipynb": "a2",
        "01-b.ipynb": "b, and my notes",
        "01-b.new.ipynb": "b2",
        "02-c.ipynb": "c",
        "03-d.ipynb": "d",  # `make` had brought it
        "notes.ipynb": "only mine",
    }
    assert told(workingcopy.update(folder, origin=origin)).startswith("Everything is as")


def test_a_new_version_that_somebody_works_on_is_theirs_too(folder: Path, origin: Path) -> None:
    def update(text: str) -> None:
        (origin / "00-a.ipynb").chmod(0o644)
        bring(origin, **{"00-a.ipynb": text})
        workingcopy.update(folder, origin=origin)

    (folder / "00-a.ipynb").write_text("mine")
    update("a2")
    update("a3")
    assert content(folder)["00-a.new.ipynb"] == "a3", "nobody had touched it"
    (folder / "00-a.new.ipynb").write_text("mine as well")
    update("a4")
    found = content(folder)
    assert (found["00-a.ipynb"], found["00-a.new.ipynb"]) == ("mine", "mine as well")
    assert found["00-a.new2.ipynb"] == "a4"


def test_somebody_elses_files_of_the_same_names_are_left_alone(
    tmp_path: Path, origin: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "00-a.ipynb").write_text("another course")
    changes = workingcopy.make(folder, origin=origin)
    assert changes.news == ["00-a.ipynb"]
    assert workingcopy.update(folder, origin=origin).beside == [("00-a.ipynb", "00-a.new.ipynb")]
    assert content(folder)["00-a.ipynb"] == "another course"


def test_what_was_deleted_comes_back(folder: Path, origin: Path) -> None:
    (folder / "00-a.ipynb").unlink()
    assert workingcopy.make(folder, origin=origin).made == ["00-a.ipynb"]


def test_folders_that_cannot_be_one(tmp_path: Path, folder: Path, origin: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"needs a folder.*is a file"):
        workingcopy.make(tmp_path / "file", origin=origin)
    with pytest.raises(UsageError, match=r"no copy of the course.*labkit lab FOLDER"):
        workingcopy.update(tmp_path, origin=origin)
    with pytest.raises(LabError, match=r"cannot be used"):
        workingcopy.make(Path("/proc/nothing/here"), origin=origin)
    (folder / workingcopy.NOTE).write_text("{")
    with pytest.raises(LabError, match=r"cannot be read.*your notebooks stay"):
        workingcopy.update(folder, origin=origin)
    (folder / workingcopy.NOTE).write_text(json.dumps({}))
    assert workingcopy.update(folder, origin=origin).made == []
