"""The course at the command line: lessons, checkpoints, hints, progress, and the scan.

Each is a thin layer over what notebooks use, so that a terminal and a browser on one lab
say the same.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from labkit import course, scan, staging
from labkit import lab as labs
from labkit.checks import Scene
from labkit.course.script import check_names
from labkit.coursemap import CourseMap
from labkit.errors import LabError, UsageError
from labkit.options import DEFAULT, Json, Name, note, option_for
from labkit.paths import LabPaths, write_private
from labkit.position import read as position_of
from labkit.progress import Book
from labkit.session import Session

Exercise = Annotated[str, typer.Argument(help="The exercise's name; `labkit lesson` lists them.")]
_HERE = Path()
Number = Annotated[int | None, typer.Argument(help="Which lesson; none is the current one.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for name, command in (
        ("lesson", begin_lesson),
        ("check", check),
        ("hint", hint),
        ("solution", show_solution),
        ("solve", solve),
        ("undo", undo),
        ("quiz", quiz),
        ("progress", show_progress),
        ("scan", run_scan),
    ):
        app.command(name)(command)


def begin_lesson(
    number: Annotated[
        int | None, typer.Argument(help="Which lesson; none shows the course.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of your own: key=value.", show_default=False),
    ] = None,
    name: Name = DEFAULT,
) -> None:
    """Begin a lesson (over): whatever you made in the lab is removed. No number: the course."""
    if number is None:
        typer.echo(_map(name))
        return
    lesson = course.find(number)
    chosen = check_names(lesson.names, dict(map(_pair, names or [])))
    lab = labs.attach(name)
    staging.begin(lab, lesson, chosen, progress=note)
    typer.echo(f"Lesson {lesson.label} begins. There is: {lesson.begins_with}.")
    if lesson.missing:
        typer.echo(f"Not there yet: {lesson.missing}.")
    typer.echo(f"Its notebook: {lesson.file_name}; its checkpoints: labkit check{option_for(name)}")


def check(number: Number = None, name: Name = DEFAULT, as_json: Json = False) -> None:
    """Look at the lab: which of the lesson's exercises are done? Says what to do next."""
    session = _session(name, number)
    reports = {each.name: session.check(each.name) for each in session.lesson.exercises}
    if as_json:
        exercises = [{"name": key, **report.to_json()} for key, report in reports.items()]
        found = {"lesson": session.lesson.number, "exercises": exercises}
        typer.echo(json.dumps(found, indent=2))
    elif reports:
        typer.echo("\n".join(_for_terminal(str(report)) for report in reports.values()))
    else:
        typer.echo(f"Lesson {session.lesson.label} has no checkpoints.")
    if not all(report.passed for report in reports.values()):
        raise typer.Exit(1)


def hint(exercise: Exercise, name: Name = DEFAULT) -> None:
    """One more hint each time; the first is chosen by what the lab shows."""
    session = _session(name)
    seen = Book(LabPaths.of(name).progress).read().of(session.lesson.number, exercise).hints
    for line in session.hints(exercise, seen + 1):
        typer.echo(_for_terminal(line))


def show_solution(exercise: Exercise, name: Name = DEFAULT) -> None:
    """The commands that do an exercise."""
    typer.echo(_session(name).solution(exercise).text.rstrip())


def solve(exercise: Exercise, name: Name = DEFAULT) -> None:
    """Play an exercise's solution, to go on."""
    report = _session(name).solve(exercise)
    typer.echo(_for_terminal(str(report)))
    if not report.passed:
        raise typer.Exit(1)


def undo(exercise: Exercise, name: Name = DEFAULT) -> None:
    """Take an exercise back, to do it again."""
    typer.echo(f"{_session(name).undo(exercise)}")


def quiz(number: Number = None, name: Name = DEFAULT) -> None:
    """A lesson's questions with every answer explained."""
    chosen = position_of(LabPaths.of(name).position).lesson if number is None else number
    if chosen is None:
        raise UsageError("Which lesson's quiz?", todo="Name it: `labkit quiz 1`.")
    typer.echo(course.find(chosen).quiz.answers())


def show_progress(
    name: Name = DEFAULT,
    as_json: Json = False,
    export: Annotated[
        Path | None, typer.Option(help="Write it to this file.", show_default=False)
    ] = None,
) -> None:
    """What you have passed. It is kept on this machine alone and outlives the lab."""
    progress = Book(LabPaths.of(name).progress).read()
    text = json.dumps(progress.to_json(), indent=2)
    if export is not None:
        try:
            write_private(export, text + "\n")
        except OSError as error:
            raise UsageError(
                f"{export} cannot be written", seen=str(error), todo="Name another file."
            ) from error
        typer.echo(f"Your progress is in {export}.")
    else:
        typer.echo(text if as_json else _map(name))


def run_scan(
    path: Annotated[
        Path, typer.Argument(help="A folder (with its Git history) or a file.")
    ] = _HERE,
    name: Name = DEFAULT,
    with_lab: Annotated[
        bool, typer.Option("--lab", help="Also the lab's own logs, state and processes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Is any secret of the lab in these files or anywhere in their Git history?"""
    lab = labs.attach(name)
    keys = (lab.paths.vault_token, lab.paths.vault_unseal_key)
    wanted = scan.needles(lab.api, lab.vault, keys)
    searcher = scan.Searcher(wanted)
    found = searcher.in_files(path) + searcher.in_git(path if path.is_dir() else path.parent)
    if with_lab:
        found += searcher.in_files(lab.paths.root, skip=scan.KEPT_BY_DESIGN)
        found += searcher.in_git(lab.paths.platform)
        found += searcher.in_processes()
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        for leak in found.leaks:
            typer.echo(str(leak))
        places = f"{found.files} files and {found.objects} Git objects" + (
            f" and {found.processes} processes" if with_lab else ""
        )
        if found.leaks:
            many = f"{len(found.leaks)} place{'s' if len(found.leaks) > 1 else ''}"
            typer.echo(f"A secret of the lab stands in {many}; {len(wanted)} looked for, {places}.")
        else:
            typer.echo(f"None of the lab's {len(wanted)} secrets is in {places}.")
    if found.leaks:
        raise typer.Exit(1)


# -- together -------------------------------------------------------------------------


def _session(name: str, number: int | None = None) -> Session:
    """The lesson that the lab is in; raises LabError when it is in another, or in none."""
    lab = labs.attach(name)
    here = lab.position
    wanted = here.lesson if number is None else course.find(number).number
    if wanted is None:
        raise LabError(
            "The lab is in no lesson",
            todo=f"Begin one: `labkit lesson 1{option_for(name)}`; `labkit lesson` lists them.",
        )
    if here.lesson != wanted:
        where = "no lesson" if here.lesson is None else f"lesson {here.lesson:02}"
        raise LabError(
            f"The lab is not in lesson {wanted:02}",
            seen=f"it is in {where}",
            todo=f"Begin it: `labkit lesson {wanted}{option_for(name)}`.",
        )
    return Session(course.find(wanted), Scene(lab, here.names))


def _map(name: str) -> str:
    paths = LabPaths.of(name)
    here = position_of(paths.position).lesson
    return str(CourseMap(course.LESSONS, Book(paths.progress).read(), here))


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"{text!r} names nothing", todo="Write key=value, such as policy=mine.")
    return key, value


def _for_terminal(text: str) -> str:
    """What a notebook would call, as the command that does the same."""
    return re.sub(r"lesson\.(hint|solution|solve|undo)\('([\w-]+)'\)", r"`labkit \1 \2`", text)
