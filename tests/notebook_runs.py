"""Run notebooks as CI does, keep what came of it, and write a page about all of it."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError

from labkit.course import Lesson

REPO = Path(__file__).parent.parent
NOTEBOOKS = REPO / "notebooks"
ARTIFACTS = REPO / "artifacts" / "notebooks"


@dataclass(frozen=True)
class Run:
    """One notebook, run once: ``how`` (a folder below ARTIFACTS), seconds, what went wrong."""

    lesson: Lesson
    how: str
    seconds: float
    problem: str = ""


@dataclass
class Runs:
    """All runs of a test session."""

    done: list[Run] = field(default_factory=list)

    @contextmanager
    def timed(self, lesson: Lesson, how: str) -> Iterator[None]:
        """Note how long the block took and how it ended."""
        begun = time.monotonic()
        problem = ""
        try:
            yield
        except BaseException as error:
            problem = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
            raise
        finally:
            self.done.append(Run(lesson, how, time.monotonic() - begun, problem))

    def papermill(self, lesson: Lesson, how: str, **parameters: object) -> nbformat.NotebookNode:
        """Run by papermill, whole, and keep the executed notebook."""
        out = ARTIFACTS / how / lesson.file_name
        out.parent.mkdir(parents=True, exist_ok=True)
        with self.timed(lesson, how):
            try:
                return papermill.execute_notebook(
                    NOTEBOOKS / lesson.file_name,
                    out,
                    parameters=parameters,
                    kernel_name="python3",
                    cwd=NOTEBOOKS,
                    progress_bar=False,
                )
            except PapermillExecutionError as error:
                raise AssertionError(f"{lesson.file_name}: {error.ename}: {error.evalue}") from None

    def write_page(self) -> None:
        """``artifacts/notebooks/index.html``: what ran, how long, how it ended."""
        if not self.done:
            return
        rows = "".join(
            f"<tr><td>{html.escape(run.lesson.label)}</td><td>{run.how}</td>"
            f"<td>{run.seconds:.1f}</td><td>{html.escape(run.problem) or 'passed'}</td></tr>"
            for run in self.done
        )
        sums = "".join(
            f"<li>{how}: {sum(run.seconds for run in self.done if run.how == how):.0f} s</li>"
            for how in dict.fromkeys(run.how for run in self.done)
        )
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        (ARTIFACTS / "index.html").write_text(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Notebooks</title>"
            "<h1>Notebooks, run</h1>"
            "<table><tr><th>lesson<th>how<th>seconds<th>outcome</tr>"
            f"{rows}</table><h2>Together</h2><ul>{sums}</ul></html>\n"
        )

    def text(self) -> str:
        """The same for a terminal."""
        hows = list(dict.fromkeys(run.how for run in self.done))
        lines = [f"{'lesson':32}" + "".join(f"{how:>14}" for how in hows)]
        for lesson in {run.lesson.number: run.lesson for run in self.done}.values():
            took = {run.how: run for run in self.done if run.lesson is lesson}
            cells = (f"{took[how].seconds:12.1f} s" if how in took else " " * 14 for how in hows)
            lines.append(f"{lesson.label:32}" + "".join(cells))
        sums = (sum(run.seconds for run in self.done if run.how == how) for how in hows)
        lines.append(f"{'together':32}" + "".join(f"{total:12.1f} s" for total in sums))
        return "\n".join(lines)


class Arguments(threading.Thread):
    """Collects the arguments of every process that is seen while it runs."""

    def __init__(self) -> None:
        super().__init__(name="arguments", daemon=True)
        self._over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        known: set[tuple[int, float]] = set()
        while not self._over.wait(0.1):
            for process in psutil.process_iter(["create_time"]):
                key = (process.pid, process.info["create_time"] or 0.0)
                if key not in known:
                    known.add(key)
                    try:
                        self.seen.add("\0".join(process.cmdline()))
                    except psutil.Error:
                        continue

    def stop(self) -> None:
        self._over.set()
        self.join()


def checks_in(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What each ``lesson.check("NAME")`` cell said, by the exercise's name."""
    said = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith('lesson.check("'):
            name = cell.source.split('"')[1]
            said[name] = "\n".join(
                output.get("data", {}).get("text/plain", "") for output in cell.outputs
            )
    return said
