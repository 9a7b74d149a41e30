"""Every notebook, run both ways: in order with solutions and other names, in reverse order
against what is stored, and each alone with nothing solved."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from notebook_runs import ARTIFACTS, NOTEBOOKS, REPO, Arguments, Runs, checks_in

from course.build import KEEP, VARIES, build, source_of
from labkit import app as demo
from labkit import eso, scan, vault, workloads
from labkit.course import LESSONS, Lesson
from labkit.lab import Lab
from labkit.scan import Leak, Needle, Searcher
from labkit.session import SOLVE

TAGS = {"parameters", VARIES, KEEP}
OTHERS = {
    lesson.number: {key: f"x{value}x" for key, value in lesson.names.items()} for lesson in LESSONS
}
FEWER = {6: {"rotations": 4}}  # where the number does not matter
each = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: f"{lesson.number:02}")
backwards = pytest.mark.parametrize(
    "lesson", LESSONS[::-1], ids=lambda lesson: f"{lesson.number:02}"
)


@pytest.fixture(scope="session")
def runs() -> Iterator[Runs]:
    found = Runs()
    yield found
    found.write_page()
    print(f"\n{found.text()}", file=sys.__stdout__)


@pytest.fixture
def kernel(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels started by this test attach to the session's lab."""
    monkeypatch.setenv("LABKIT_LAB", lab.name)
    monkeypatch.setenv("IPYTHONDIR", str(lab.paths.root / "ipython"))


# -- what is stored --------------------------------------------------------------------


def stored(lesson: Lesson) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / lesson.file_name, as_version=4)


@each
def test_it_is_what_its_source_says(lesson: Lesson) -> None:
    notebook, made = stored(lesson), build(lesson)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in made.cells], (
        f"{source_of(lesson).name} was changed, or the other: run `make notebooks`"
    )
    first = notebook.cells[next(n for n, c in enumerate(notebook.cells) if c.cell_type == "code")]
    assert first.metadata.tags == ["parameters"]
    named = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(first.source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    assert named.pop("solve") is False
    assert {key: named[key] for key in lesson.names} == dict(lesson.names)


@each
def test_what_is_stored_is_clean(lesson: Lesson) -> None:
    notebook = stored(lesson)
    nbformat.validate(notebook)
    count = 0
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"{cell.id}: metadata of somebody's editor"
        assert set(cell.metadata.get("tags", [])) <= TAGS
        if cell.cell_type != "code":
            continue
        count += 1
        assert cell.execution_count == count, f"{cell.id}: not one run from top to bottom"
        for output in cell.outputs:
            assert output.output_type != "error", f"{cell.id} stores an error"
            assert str(Path.home()) not in str(output), f"{cell.id} stores a path of this machine"
            assert "not yet" not in str(output), f"{cell.id} stores an unsolved checkpoint"


@each
def test_no_command_has_a_secret_in_its_arguments(lesson: Lesson) -> None:
    cells = [cell.source for cell in stored(lesson).cells if cell.cell_type == "code"]
    scripts = [lesson.begin] + [
        text
        for exercise in lesson.exercises
        for text in (exercise.script, exercise.undo, *(fault.script for fault in exercise.faults))
    ]
    for text in (*cells, *scripts):
        for argument in re.findall(r"\b(?:password|token|jwt)=(\S+)", text):
            is_shell = re.search(rf"\bbao\b[^\n]*={re.escape(argument)}", text)
            assert argument in {"-", "-'"} or not is_shell, argument


# -- run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arguments() -> Iterator[Arguments]:
    found = Arguments()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def secrets_seen() -> set[Needle]:
    """Every secret that was in the lab after one notebook or another."""
    return set()


def plant(lab: Lab, canary: str) -> None:
    """Send a canary the whole way that a password takes, as far as the lab has one."""
    values = vault.read(lab.vault) or workloads.first_values()
    vault.write(lab.vault, {**values, "password": canary})
    if lab.api.get(eso.API, "ExternalSecret", demo.EXTERNAL_SECRET, demo.NAMESPACE):
        eso.force_sync(lab.api, demo.EXTERNAL_SECRET, demo.NAMESPACE)


@each
@pytest.mark.usefixtures("kernel")
def test_in_order_with_solutions_and_other_names(
    lesson: Lesson, lab: Lab, runs: Runs, arguments: Arguments, secrets_seen: set[Needle]
) -> None:
    canary = Needle(f"the canary of lesson {lesson.number:02}", workloads.new_password())
    parameters = {**OTHERS[lesson.number], **FEWER.get(lesson.number, {})}
    done = runs.papermill(lesson, "in-order", solve=True, **parameters)
    said = checks_in(done)
    assert set(said) == {exercise.name for exercise in lesson.exercises}
    for name, text in said.items():
        assert text.splitlines()[0].endswith(": passed"), f"{name}: {text}"
    for before, after in zip(_compared(stored(lesson)), _compared(done), strict=True):
        assert bool(before.outputs) == bool(after.outputs), f"{before.id}: run `make notebooks`"
    secrets_seen |= {*scan.needles(lab.api, lab.vault)}
    plant(lab, canary.value)
    secrets_seen.add(canary)


def _compared(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Cells whose outputs are the same each time; papermill's own one left out."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and not {"injected-parameters", VARIES} & set(cell.metadata.get("tags", []))
    ]


def test_no_secret_of_any_of_them_is_anywhere(
    lab: Lab, arguments: Arguments, secrets_seen: set[Needle]
) -> None:
    assert len(secrets_seen) > len(LESSONS), "run the whole file"
    files = (lab.paths.vault_token, lab.paths.vault_unseal_key, lab.paths.proxy_url)
    wanted = [*secrets_seen, *(Needle(file.name, file.read_text().strip()) for file in files)]
    searcher = Searcher(wanted)
    found = (
        searcher.in_files(ARTIFACTS)
        + searcher.in_files(NOTEBOOKS)
        + searcher.in_files(lab.paths.root, skip=scan.KEPT_BY_DESIGN)
        + searcher.in_files(lab.paths.progress)
        + searcher.in_git(REPO)
        + searcher.in_processes()
    )
    leaks = [*found.leaks]
    for words in arguments.seen:
        leaks += [
            Leak(words.split("\0")[0], leak.what) for leak in searcher.in_bytes(words.encode(), "")
        ]
    assert sorted({leak.what for leak in leaks}) == [], leaks[:5]
    assert found.files > 10
    assert len(arguments.seen) > 50


@backwards
@pytest.mark.usefixtures("kernel")
def test_in_reverse_order_against_what_is_stored(
    lesson: Lesson, lab: Lab, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOLVE, "1")
    with runs.timed(lesson, "reverse"):
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(NOTEBOOKS)),
                *("--nbval", "--nbval-sanitize-with", str(REPO / "tests" / "nbval.cfg")),
                *("--override-ini", "addopts=", str(NOTEBOOKS / lesson.file_name)),
            ],
            capture_output=True,
            text=True,
            env=dict(os.environ),
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@each
@pytest.mark.usefixtures("kernel")
def test_alone_and_unsolved_every_checkpoint_says_not_yet(
    lesson: Lesson, lab: Lab, runs: Runs
) -> None:
    lab.reset()
    done = runs.papermill(lesson, "unsolved", **FEWER.get(lesson.number, {}))
    said = checks_in(done)
    assert set(said) == {exercise.name for exercise in lesson.exercises}
    for name, text in said.items():
        assert text.splitlines()[0].endswith(": not yet"), f"{name}: {text}"
        assert "Next: " in text
    for cell in done.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"{cell.source}: {output.evalue}"
