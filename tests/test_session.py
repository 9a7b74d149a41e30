"""A lesson as learners live it: out of order, twice, interrupted, broken, in two browsers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from harness import until
from nbclient import NotebookClient

from labkit import course, eso, session, vault
from labkit import lab as labs
from labkit.errors import LabError, UsageError
from labkit.kernel import said, token_lines
from labkit.lab import Lab
from labkit.progress import Book, load
from labkit.session import Session


@pytest.fixture
def here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """``labkit.lesson`` finds the session's lab; afterwards the lab is whole again."""
    monkeypatch.setenv("LABKIT_LAB", lab.name)
    yield lab
    if lab.position.lesson is not None:
        lab.reset()


def begin(number: int, **names: str) -> Session:
    said: list[str] = []
    found = session.lesson(number, progress=said.append, **names)
    assert said, "it says what it did"
    return found


def messages(number: int) -> list[str]:
    said: list[str] = []
    session.lesson(number, progress=said.append)
    return said


# -- where one is ----------------------------------------------------------------------


def test_a_restarted_kernel_goes_on_where_the_learner_was(here: Lab) -> None:
    begin(1).solve("policy")
    assert "going on where you were" in messages(1)[0]
    again = begin(1)
    assert again.check("policy").passed
    again.restart()
    assert not again.check("policy").passed


def test_up_in_the_middle_of_a_lesson_does_no_exercise(here: Lab) -> None:
    lesson = begin(1)
    labs.up(here.name)
    assert here.api.get(eso.API, "ClusterSecretStore", "vault-backend") is None
    assert not lesson.check("policy").passed
    assert here.status()["ready"]
    assert here.status()["lesson"] == 1


def test_any_lesson_is_reached_from_any_other_and_twice(here: Lab) -> None:
    for number in (8, 3, 6, 2, 5, 0, 4, 1, 1):
        found = course.find(number)
        lesson = begin(number)
        assert here.position.lesson == number
        assert here.is_in_order()
        if number % 2:
            lesson.restart()
        for exercise in found.exercises:
            assert not exercise.check(lesson.scene, patience=0).passed


def test_another_notebook_that_moved_the_lab_is_noticed(here: Lab) -> None:
    first = begin(1)
    begin(0)
    with pytest.raises(LabError, match=r"lesson 00.*labkit lesson 1"):
        first.check("policy")


def test_two_notebooks_that_move_the_lab_at_once_leave_it_whole(here: Lab) -> None:
    failed: list[BaseException] = []

    def move(number: int) -> None:
        try:
            session.lesson(number, progress=lambda _: None)
        except BaseException as error:
            failed.append(error)

    both = [threading.Thread(target=move, args=(number,)) for number in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not failed
    assert here.position.is_set
    number = here.position.lesson
    assert number is not None
    assert not any(
        exercise.check(begin(number).scene, patience=0).passed
        for exercise in course.find(number).exercises
    )


def test_an_interrupted_beginning_is_begun_again(here: Lab) -> None:
    begin(0)
    kernel = multiprocessing.get_context("fork").Process(
        target=session.lesson, args=(1,), kwargs={"progress": lambda _: None}
    )
    kernel.start()
    until(lambda: here.position.lesson == 1, "the lab is on its way")
    os.kill(kernel.pid or 0, signal.SIGKILL)
    kernel.join()
    assert not here.position.is_set
    assert "begins" in messages(1)[-1]
    assert here.position.is_set


# -- what breaks -----------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["demo", "vault", "external-secrets"])
def test_a_deleted_namespace_is_told_and_mended(here: Lab, namespace: str) -> None:
    lesson = begin(1)
    here.api.delete("v1", "Namespace", namespace)
    lesson.restart()
    assert lesson.solve("policy").passed


def test_a_vault_that_was_killed_says_what_to_do(here: Lab) -> None:
    lesson = begin(1)
    lesson.solve("policy")
    before = here.api.get("v1", "Pod", vault.POD, vault.NAMESPACE)
    here.api.delete("v1", "Pod", vault.POD, vault.NAMESPACE)
    until(
        lambda: (
            (pod := here.api.get("v1", "Pod", vault.POD, vault.NAMESPACE))
            and before
            and pod["metadata"]["uid"] != before["metadata"]["uid"]
            and (pod.get("status") or {}).get("phase") == "Running"
        ),
        "Vault's new pod runs",
    )
    report = lesson.check("policy")
    assert not report.passed
    assert report.first_unmet
    assert "labkit up" in report.first_unmet.next
    said: list[str] = []
    labs.up(here.name, progress=said.append)
    assert any("had lost everything" in line for line in said)
    with pytest.raises(LabError, match="what it began with is gone"):
        lesson.check("policy")
    assert "begins" in messages(1)[-1]
    assert begin(1).solve("policy").passed


# -- the learner's cells ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("bao kv ____ -mount=secret", "fill in every ____ (line 2)"),
        ("# nothing\n\n", "Nothing to run yet"),
        ("kubectl apply -f - <<'Y'\nkind: [\nY", "ended with code 1"),
        ("bao status > /dev/null\nfalse", "ended with code 1"),
        ("export T=hvs.CAESIJ0123456789abcdefghij", "line 2 holds a token"),
        ("jwt=eyJhbGciOiJSUzI1NiIs.eyJhdWQiOlsiaHR0.abc", "line 2 holds a token"),
    ],
)
def test_a_wrong_cell_gets_a_sentence(
    here: Lab, capsys: pytest.CaptureFixture[str], cell: str, says: str
) -> None:
    begin(1).your_turn("policy", cell)
    printed = capsys.readouterr().out
    assert says in printed
    assert "Traceback" not in printed


def test_an_interrupted_cell_ends_what_it_started(
    here: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mark = tmp_path / "pid"

    def interrupt() -> None:
        until(lambda: mark.exists() and mark.read_text().strip(), "the cell runs")
        os.kill(os.getpid(), signal.SIGINT)

    lesson = begin(1)
    threading.Thread(target=interrupt).start()
    lesson.your_turn("policy", f"echo $$ > {mark}\nsleep 600")
    assert "Interrupted" in capsys.readouterr().out
    until(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists(), "the script is gone")


def test_unknown_names_are_told(here: Lab) -> None:
    lesson = begin(1)
    with pytest.raises(UsageError, match="It has: rollback, policy"):
        lesson.check("polcy")
    with pytest.raises(UsageError, match="It lets you name: key, policy, other"):
        begin(1, polcy="x")
    with pytest.raises(UsageError, match="lower-case"):
        begin(1, policy="My Policy; rm")
    with pytest.raises(UsageError, match="same name"):
        begin(1, policy="mysql_credentials")


def test_hints_climb_and_follow_what_the_cluster_shows(here: Lab) -> None:
    lesson = begin(1)
    first = lesson.hint("policy")
    assert "Hint 1 of" in first
    assert "Hint 2 of" in lesson.hint("policy")
    fault = next(
        fault
        for fault in lesson.lesson.exercise("policy").faults
        if fault.name.startswith("data/ is left out")
    )
    lesson.your_turn("policy", fault.script)
    other = lesson.hint("policy")
    assert "Hint 1 of" in other
    assert "data/" in other
    assert other != first
    while "No more hints" not in (last := lesson.hint("policy")):
        pass
    assert "solution" in last
    lesson.solve("policy")
    assert "is done" in lesson.hint("policy")


# -- in a kernel -----------------------------------------------------------------------


def run_cells(*sources: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    NotebookClient(notebook, allow_errors=True, timeout=120).execute()
    return notebook.cells


def shown(cell: nbformat.NotebookNode) -> str:
    return "\n".join(
        output.get("text", "")
        or "\n".join(output.get("traceback", []))
        or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def test_a_kernel_explains_what_learners_meet(here: Lab) -> None:
    cells = run_cells(
        'lesson.check("policy")',
        "%%your_turn policy\nls",
        "import labkit\nlab = labkit.start()\nlesson = labkit.lesson(1)",
        'lesson.check("policy")',
        "%%your_turn nope\nls",
        'token = "hvs.CAESIJ0123456789abcdefghij"',
        "raise KeyboardInterrupt",
        "1 / 0",
    )
    texts = [shown(cell) for cell in cells]
    assert "Run the notebook's first cells" in texts[0]
    assert "Run the notebook's first cells" in texts[1]
    assert "A policy that reads one path only: not yet" in texts[3]
    assert "no exercise called 'nope'" in texts[4]
    assert "Careful: line 1" in texts[5]
    assert "Nothing is broken" in texts[6]
    for text in texts[:7]:
        assert "Traceback" not in text
    assert "ZeroDivisionError" in texts[7]
    assert "Traceback" in texts[7]


def test_errors_of_libraries_become_sentences() -> None:
    import hvac
    import requests

    assert "Vault said: permission denied." in str(
        said(hvac.exceptions.Forbidden("permission denied"))
    )
    assert "labkit up" in str(said(requests.ConnectionError("x")))
    assert said(ValueError("x")) is None
    assert token_lines("a\nhvs.CAESIJ0123456789abcdefghij") == [2]
    assert token_lines("bao.read something.else") == []


# -- progress --------------------------------------------------------------------------


def _pass_many(file: Path, name: str, wait: float) -> None:
    time.sleep(max(0.0, wait - time.time()))
    for number in range(25):
        Book(file).checked(1, f"{name}-{number}", passed=number % 2 == 0)


def test_two_browsers_lose_no_progress(tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    context = multiprocessing.get_context("fork")
    both = [
        context.Process(target=_pass_many, args=(file, name, time.time() + 0.2)) for name in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    found = Book(file).read()
    assert len(found.entries) == 50
    assert sum(entry.passed for entry in found.entries.values()) == 26
    assert file.stat().st_mode & 0o777 == 0o600


def test_progress_outlives_the_lab_and_a_broken_file(
    here: Lab, labkit: Callable[..., object], tmp_path: Path
) -> None:
    lesson = begin(1)
    book = Book(here.paths.progress)
    book.clear()
    lesson.check("policy")
    lesson.solve("policy")
    lesson.check("policy")
    entry = book.read().of(1, "policy")
    assert (entry.attempts, entry.solved, entry.passed) == (2, True, True)
    here.reset()
    assert book.read().of(1, "policy").passed
    out = tmp_path / "mine.json"
    assert labkit("progress", "--name", here.name, "--export", str(out)).returncode == 0  # type: ignore[attr-defined]
    assert load(out).of(1, "policy").passed
    here.paths.progress.write_text('{"half')
    assert book.read().entries == {}
    assert here.paths.progress.with_name(here.paths.progress.name + ".broken").exists()
    here.paths.progress.write_text(json.dumps({"version": 99, "checkpoints": {}}))
    with pytest.raises(LabError, match="newer labkit"):
        book.read()
    book.clear()


def test_solving_works_after_a_wrong_answer_that_stands_in_the_way(here: Lab) -> None:
    lesson = begin(0)
    wrong = next(
        fault
        for fault in lesson.lesson.exercise("rename").faults
        if fault.name == "put in place of patch"
    )
    lesson.your_turn("rename", wrong.script)
    assert not lesson.check("rename").passed
    assert lesson.solve("rename").passed


def test_a_broken_exercise_does_not_hold_up_the_next_kernel(here: Lab) -> None:
    lesson = begin(0)
    here.api.delete("v1", "Namespace", "demo")
    labs.up(here.name)  # as a notebook's first cell does
    assert any("missing or broken" in line for line in messages(0))
    assert not here.status()["ready"]
    assert "labkit lesson 0" in here.status()["problem"]
    lesson.restart()
    assert lesson.solve("rename").passed
