"""Run upstream's ``e2e.test`` and read what it found.

The binary runs tests one after the other; several processes of it, each with a share of
the names, use the time in which tests merely wait.  Every test makes namespaces of its
own, and upstream's own runner has them side by side too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.paths import make_private_dir

_LIMIT = 45 * 60.0
_LIST_LIMIT = 180.0
_LOCAL = "127.0.0.1,localhost"
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+(?=@)|eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""In an address, such as the proxy's in a container's environment, and tokens."""


@dataclass(frozen=True)
class Result:
    """One test: whether it passed, how long it took, and how it failed (one line)."""

    test: str
    passed: bool
    seconds: float
    message: str = ""


def list_tests(program: Path) -> list[str]:
    """The full names of all tests in the binary.  Raises LabError when it cannot say."""
    with tempfile.TemporaryDirectory(prefix="lke") as folder:
        report, log = Path(folder) / "report.json", Path(folder) / "log"
        argv = (str(program), "--ginkgo.dry-run", f"--ginkgo.json-report={report}")
        with _started(argv, log) as process:
            try:
                process.wait(_LIST_LIMIT)
            except subprocess.TimeoutExpired as error:
                raise LabError("e2e.test did not list its tests", seen=_last_lines(log)) from error
        return [_name(spec) for spec in _specs(report)]


def run(
    program: Path,
    parts: Sequence[Sequence[str]],
    *,
    kubeconfig: Path,
    kubectl: Path,
    logs: Path,
    say: Callable[[str], None],
) -> list[Result]:
    """Run each part's tests in a process of its own; its output goes to a file in ``logs``.

    Raises LabError when a process gives no report.  Nothing is left running in any case.
    """
    make_private_dir(logs)  # tests print what containers see: tokens, too
    found: list[Result] = []
    with contextlib.ExitStack() as stack:
        waiting = {}
        for number, tests in enumerate(parts):
            log = logs / f"part-{number}.log"
            argv = _argv(program, tests, kubeconfig=kubeconfig, kubectl=kubectl, log=log)
            waiting[number] = stack.enter_context(_started(argv, log))
        deadline = time.monotonic() + _LIMIT + 60
        while waiting:
            time.sleep(0.5)
            if time.monotonic() > deadline:
                raise LabError(
                    f"Upstream's tests took longer than {_LIMIT:.0f} s", todo=f"See {logs}."
                )
            for number in [n for n, process in waiting.items() if process.poll() is not None]:
                del waiting[number]
                results = _read(parts[number], logs / f"part-{number}.log")
                passed = sum(result.passed for result in results)
                say(f"part {number + 1} of {len(parts)}: {passed} of {len(results)} passed")
                found += results
    return found


def _argv(
    program: Path, tests: Sequence[str], *, kubeconfig: Path, kubectl: Path, log: Path
) -> tuple[str, ...]:
    names = "|".join(re.escape(test) for test in tests)
    return (
        str(program),
        "--provider=skeleton",
        f"--kubeconfig={kubeconfig}",
        f"--kubectl-path={kubectl}",
        f"--ginkgo.focus= ({names})$",  # before it stands the suite's title
        f"--ginkgo.json-report={log.with_suffix('.json')}",
        "--ginkgo.no-color",
        f"--ginkgo.timeout={_LIMIT:.0f}s",
        "--num-nodes=1",
        "--allowed-not-ready-nodes=0",
        "--disable-log-dump",
    )


def _read(tests: Sequence[str], log: Path) -> list[Result]:
    """What a process found about its ``tests``.  Its exit code says less than its report."""
    report = log.with_suffix(".json")
    if not report.exists():
        raise LabError(
            "Upstream's tests did not run to their end", seen=_last_lines(log), todo=f"See {log}."
        )
    by_name = {_name(spec): spec for spec in _specs(report)}
    return [_result(test, by_name.get(test)) for test in tests]


@contextlib.contextmanager
def _started(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program running with its output in ``log``; killed if it runs when the block ends."""
    log.with_suffix(".json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="lke") as scratch, log.open("wb") as output:
        # The program leaves files of its own behind in the temp folder.
        env = {**os.environ, "TMPDIR": scratch, "no_proxy": _LOCAL, "NO_PROXY": _LOCAL}
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])


def _specs(report: Path) -> list[dict[str, Any]]:
    """The specs of a report.  Source: ginkgo's types.Report and types.SpecReport."""
    try:
        suites = json.loads(report.read_text())
    except (OSError, ValueError) as error:
        raise LabError("Upstream's tests left no report that can be read") from error
    return [
        spec
        for suite in suites
        for spec in suite["SpecReports"] or ()
        if spec["LeafNodeType"] == "It"
    ]


def _name(spec: dict[str, Any]) -> str:
    return " ".join([*(spec["ContainerHierarchyTexts"] or ()), spec["LeafNodeText"]])


def _result(test: str, spec: dict[str, Any] | None) -> Result:
    if spec is None:
        return Result(test, passed=False, seconds=0.0, message="it was not run")
    failure = spec.get("Failure") or {}
    message = _CREDENTIALS.sub("…", " ".join(str(failure.get("Message", "")).split()))
    if not message and spec["State"] != "passed":
        message = str(spec["State"])
    seconds = spec["RunTime"] / 1e9  # a Go duration
    return Result(test, passed=spec["State"] == "passed", seconds=seconds, message=message)
