"""Make the notebooks from their sources: ``make notebooks``.

A lesson's source is ``NN-name.md``: Markdown with code cells in fences (jupytext's
``md`` format; two empty lines begin a new text cell).  Three kinds of lines are filled
in, so that they cannot drift from what they speak of:

* ``{{minutes}}`` is how long the lesson takes: its run is measured, its reading counted;
* a cell ``%%your_turn NAME`` gets what the exercise leaves to the learner;
* ``{{links}}`` is where to go on: the next lesson.

How long each lesson takes, and what of it is left at each exercise, is written where the
package reads it (``labkit.course.minutes``).

Then every notebook is run with its solutions and stored with its outputs, clean.  What is
stored is what tests compare with, and what people read who run nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

from labkit import course
from labkit import lab as labs
from labkit.course import Lesson, minutes
from labkit.session import SOLVE

SOURCES = Path(__file__).parent
NOTEBOOKS = SOURCES.parent / "notebooks"
DURATIONS = SOURCES / "durations.json"
VARIES = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
KEEP = "keep-output"  # varies, and is stored all the same: a plot, say
_WORDS_A_MINUTE = 180  # technical prose
_SECONDS_A_CELL = 12  # to run it and look at what came
_MINUTES_AN_EXERCISE = 3
_MINUTES_A_QUIZ = 1.5


def source_of(lesson: Lesson) -> Path:
    """The lesson's Markdown."""
    return SOURCES / Path(lesson.file_name).with_suffix(".md")


def build(lesson: Lesson) -> nbformat.NotebookNode:
    """The lesson's notebook from its source, with no outputs."""
    notebook = jupytext.read(source_of(lesson), fmt="md")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    minutes = minutes_for(lesson, notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{lesson.number:02}-{number:02}"
        tags = list(cell.metadata.get("tags", []))
        cell.source = cell.source.replace("{{minutes}}", str(minutes)).replace(
            "{{links}}", _links(lesson)
        )
        if found := re.match(r"%%your_turn (\S+)", cell.source):
            exercise = lesson.exercise(found.group(1))
            cell.source = f"%%your_turn {exercise.name}\n{exercise.starter}".rstrip("\n")
            tags = sorted({*tags, VARIES})
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    _check(lesson, notebook)
    return notebook


def _check(lesson: Lesson, notebook: nbformat.NotebookNode) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for exercise in lesson.exercises:
        for needed in (f"%%your_turn {exercise.name}\n", f'lesson.check("{exercise.name}")'):
            if needed not in text + "\n":
                raise SystemExit(f"{source_of(lesson).name} has no cell with {needed.strip()}")
    if "lesson.quiz()" not in text:
        raise SystemExit(f"{source_of(lesson).name} has no lesson.quiz()")


def _links(lesson: Lesson) -> str:
    following = [each for each in course.LESSONS if each.number > lesson.number]
    if not following:
        return "* You have done every lesson that there is. `labkit progress` shows them."
    after = following[0]
    return f"* Next: [{after.label}]({after.file_name})."


def minutes_for(lesson: Lesson, notebook: nbformat.NotebookNode) -> int:
    """Minutes that a newcomer needs, to the next five."""
    total = _needed(lesson, notebook, notebook.cells)
    return max(5, 5 * -int(-total // 5))


def _needed(lesson: Lesson, notebook: nbformat.NotebookNode, cells: list[Any]) -> float:
    """Minutes that these cells of it need: reading, doing, and the machine."""
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    share = len(code) / max(1, sum(cell.cell_type == "code" for cell in notebook.cells))
    return (
        words / _WORDS_A_MINUTE
        + len(code) * _SECONDS_A_CELL / 60
        + sum(source.startswith("%%your_turn ") for source in code) * _MINUTES_AN_EXERCISE
        + ("lesson.quiz()" in code) * _MINUTES_A_QUIZ
        + share * durations().get(lesson.file_name, 0.0) / 60
    )


def times(lesson: Lesson) -> dict[str, Any]:
    """What ``labkit.course.minutes`` keeps of a lesson: all of it, and from each exercise on."""
    notebook = build(lesson)
    sources = [cell.source for cell in notebook.cells]

    def left(at: int) -> int:
        return max(1, round(_needed(lesson, notebook, notebook.cells[at:])))

    return {
        "lesson": minutes_for(lesson, notebook),
        "exercises": {
            exercise.name: {
                "before": left(
                    next(
                        place
                        for place, source in enumerate(sources)
                        if source.startswith(f"%%your_turn {exercise.name}\n")
                    )
                ),
                "after": left(sources.index(f'lesson.check("{exercise.name}")') + 1),
            }
            for exercise in lesson.exercises
        },
    }


def durations() -> dict[str, float]:
    """Seconds that each notebook's cells took when it was last stored, by file name."""
    try:
        found: dict[str, float] = json.loads(DURATIONS.read_text())
    except FileNotFoundError:
        return {}
    return found


def clean(notebook: nbformat.NotebookNode) -> None:
    """Keep of a run only what is the same next time, or is told to be kept.

    A widget lives in its kernel: what is stored of it is its text and its HTML.
    """
    notebook.metadata.pop("widgets", None)
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        if VARIES in (tags or []) and KEEP not in (tags or []):
            cell.outputs = []
        for output in cell.outputs:
            if output.output_type in ("execute_result", "display_data"):
                output.metadata = {}
                output.data.pop(WIDGET, None)
            if output.output_type == "execute_result":
                output.execution_count = count


def run(notebook: nbformat.NotebookNode) -> float:
    """Run it where learners do; seconds that its cells took together."""
    begun = time.monotonic()
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    return time.monotonic() - begun


def main() -> None:
    """Build, run and store the lessons named by number (default: all)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("lesson", nargs="*", type=int)
    parser.add_argument("--texts", action="store_true", help="only the texts; outputs stay")
    wanted: Any = parser.parse_args()
    numbers = wanted.lesson or [lesson.number for lesson in course.LESSONS]
    if not wanted.texts:
        lab = labs.up(labs.default_name(), progress=print)
        os.environ["LABKIT_LAB"] = lab.name
        os.environ[SOLVE] = "1"
    for lesson in map(course.find, numbers):
        if wanted.texts:
            notebook = nbformat.read(NOTEBOOKS / lesson.file_name, as_version=4)
        else:
            lab.reset()
            notebook = build(lesson)
            took = {**durations(), lesson.file_name: round(run(notebook), 1)}
            DURATIONS.write_text(json.dumps(dict(sorted(took.items())), indent=1) + "\n")
            clean(notebook)
        _set_texts(lesson, notebook)
        nbformat.write(notebook, NOTEBOOKS / lesson.file_name)
        minutes.write({**minutes.read(), f"{lesson.number:02}": times(lesson)})
        print(f"{lesson.file_name}: stored, {durations().get(lesson.file_name, 0.0):.1f} s")


def _set_texts(lesson: Lesson, notebook: nbformat.NotebookNode) -> None:
    """Take over the source's texts, with the time that was measured last."""
    fresh = build(lesson)
    if _code(fresh) != _code(notebook):
        raise SystemExit(f"{lesson.file_name} has other cells than its source: run it, please")
    for cell, made in zip(notebook.cells, fresh.cells, strict=True):
        cell.source = made.source


def _code(notebook: nbformat.NotebookNode) -> list[str]:
    return [
        cell.cell_type + (cell.source if cell.cell_type == "code" else "")
        for cell in notebook.cells
    ]


if __name__ == "__main__":
    main()
