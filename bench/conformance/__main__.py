"""``python -m bench.conformance``: upstream's conformance tests against a lab.

Exit 0 when what failed is exactly what ``known_misses.toml`` says, and the required groups
reach their goal with mount namespaces; 1 otherwise; 2 when the tests could not be run.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import sandbox
from bench.conformance import groups, misses, page, suite
from bench.conformance.suite import Result
from labkit import host, launch, programs
from labkit.errors import LabError, UsageError
from labkit.paths import LabPaths

_NAME = "conformance"
_LOGS = Path("artifacts") / "conformance"


def main(
    mode: Annotated[str, typer.Option(help="mounts, rewrite or both.")] = "both",
    focus: Annotated[str, typer.Option(help="Only tests whose name this pattern finds.")] = "",
    show: Annotated[bool, typer.Option("--list", help="Name the tests and run none.")] = False,
    shards: Annotated[int, typer.Option(help="How many tests run side by side.", min=1)] = 8,
) -> None:
    """Run Kubernetes' own conformance tests of what the node does."""
    sandbox.unwind_on_sigterm()
    try:
        is_good = _run(_modes(mode), focus, show=show, shards=shards)
    except LabError as error:
        print(f"conformance: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if not is_good:
        raise typer.Exit(1)


def _run(modes: tuple[str, ...], focus: str, *, show: bool, shards: int) -> bool:
    wanted = _pattern(focus)
    known = misses.read()
    found = programs.ensure((*launch.PROGRAMS, "e2e.test", "agnhost", "kubectl"))
    listed = [test for test in suite.list_tests(found["e2e.test"].path) if groups.is_meant(test)]
    tests = [test for test in groups.in_order(listed) if wanted.search(test)]
    if show:
        print("\n".join(tests))
        return True
    if not tests:
        raise UsageError("No test has such a name", seen=focus, todo="--list names them all.")
    runs = {mode: _run_in(mode, tests, known, found, shards) for mode in modes}
    console = Console()
    console.print(page.as_table(runs))
    told = [_tell(runs[mode], known, mode) for mode in modes]
    share = page.required_share(runs.get("mounts", ()))
    if share < groups.TARGET:
        console.print(f"The required groups reach {share:.0%}, and the goal is {groups.TARGET:.0%}")
    if tuple(runs) == groups.MODES and not focus:
        page.FILE.write_text(page.as_markdown(runs, known))
        console.print(f"The score is written to {page.FILE.name}.")
    return all(told) and share >= groups.TARGET


def _run_in(
    mode: str,
    tests: list[str],
    known: list[misses.Miss],
    found: dict[str, programs.Program],
    shards: int,
) -> list[Result]:
    """A lab in ``mode``, control plane and node only, and the tests on it."""
    untried = {miss.test for miss in known if miss.not_run and miss.holds_in(mode)}
    tried = [test for test in tests if test not in untried]
    before = os.environ.get("LABKIT_MODE")
    os.environ["LABKIT_MODE"] = mode
    try:
        with sandbox.state():
            _say(f"a lab in mode {mode}, {len(tests)} tests")
            record = launch.bring_up(_NAME, sync="watch", on_progress=_say)
            if record.mode != mode:
                raise LabError(f"The lab is in mode {record.mode}, not {mode}")
            results = suite.run(
                found["e2e.test"].path,
                groups.in_parts(tried, shards),
                kubeconfig=LabPaths.of(_NAME).kubeconfig,
                kubectl=found["kubectl"].path,
                logs=_LOGS / mode,
                say=lambda line: _say(f"{mode}: {line}"),
            )
            return results + [
                Result(test, passed=False, seconds=0, message="it was not run")
                for test in tests
                if test in untried
            ]
    finally:
        if before is None:
            del os.environ["LABKIT_MODE"]
        else:
            os.environ["LABKIT_MODE"] = before


def _tell(results: list[Result], known: list[misses.Miss], mode: str) -> bool:
    """Print what differs from the list of known misses; whether nothing does."""
    verdict = misses.judge(results, known, mode)
    for result in verdict.unexpected:
        print(f"{mode}: not on the list of misses: {result.test}")
        print(f"    {result.message[:500]}")
    for miss in verdict.passing:
        print(f"{mode}: on the list of misses, and passes: {miss.test}")
    if not verdict.is_good:
        print(f"{mode}: see {_LOGS / mode} and {misses.FILE.name}.")
    return verdict.is_good


def _modes(mode: str) -> tuple[str, ...]:
    if mode not in (*groups.MODES, "both"):
        raise UsageError("There is no such mode", seen=mode, todo="Choose mounts, rewrite or both.")
    if mode == "both":
        # Where the kernel allows no mount namespaces there is one mode to judge.
        return groups.MODES if host.can_mount_namespace() else ("rewrite",)
    if mode == "mounts" and not host.can_mount_namespace():
        raise UsageError("Mount namespaces cannot be made here", todo="Run with --mode rewrite.")
    return (mode,)


def _pattern(focus: str) -> re.Pattern[str]:
    try:
        return re.compile(focus)
    except re.error as error:
        raise UsageError("The focus is no pattern", seen=str(error)) from error


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")  # in one piece: several threads speak
    sys.stderr.flush()


if __name__ == "__main__":
    typer.run(main)
