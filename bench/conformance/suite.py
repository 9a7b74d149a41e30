"""Run upstream's ``e2e.test`` and read what it found.

The binary runs tests one after the other; several processes of it, each with a share of
the names, use the time in which tests merely wait.  Every test makes namespaces of its
own, and upstream's own runner has them side by side too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
        report = Path(folder) / "report.json"
        argv = (
            str(program),
            "--ginkgo.dry-run",
            "--ginkgo.silence-skips",
            f"--ginkgo.json-report={report}",
        )
        _run(argv, Path(folder) / "log", _LIST_LIMIT)
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

    Raises LabError when a process gives no report.
    """
    make_private_dir(logs)  # tests print what containers see: tokens, too

    def run_part(number: int) -> list[Result]:
        found = _run_part(
            program,
            parts[number],
            kubeconfig=kubeconfig,
            kubectl=kubectl,
            log=logs / f"part-{number}.log",
        )
        failed = [result for result in found if not result.passed]
        say(f"part {number + 1} of {len(parts)}: {len(found) - len(failed)} of {len(found)} passed")
        return found

    with ThreadPoolExecutor(max_workers=max(1, len(parts))) as pool:
        return [result for found in pool.map(run_part, range(len(parts))) for result in found]


def _run_part(
    program: Path, tests: Sequence[str], *, kubeconfig: Path, kubectl: Path, log: Path
) -> list[Result]:
    report = log.with_suffix(".json")
    report.unlink(missing_ok=True)
    names = "|".join(re.escape(test) for test in tests)
    argv = (
        str(program),
        "--provider=skeleton",
        f"--kubeconfig={kubeconfig}",
        f"--kubectl-path={kubectl}",
        f"--ginkgo.focus= ({names})$",  # before it stands the suite's title
        f"--ginkgo.json-report={report}",
        "--ginkgo.no-color",
        f"--ginkgo.timeout={_LIMIT:.0f}s",
        "--num-nodes=1",
        "--allowed-not-ready-nodes=0",
        "--disable-log-dump",
    )
    _run(argv, log, _LIMIT + 60)
    if not report.exists():
        raise LabError(
            "Upstream's tests did not run to their end", seen=_last_lines(log), todo=f"See {log}."
        )
    by_name = {_name(spec): spec for spec in _specs(report)}
    return [_result(test, by_name.get(test)) for test in tests]


def _run(argv: Sequence[str], log: Path, limit: float) -> None:
    """Run to the end.  The exit code is of no interest: the report says more."""
    with tempfile.TemporaryDirectory(prefix="lke") as scratch, log.open("wb") as output:
        # The program leaves files of its own behind in the temp folder.
        env = {**os.environ, "TMPDIR": scratch, "no_proxy": _LOCAL, "NO_PROXY": _LOCAL}
        try:
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                timeout=limit, check=False, env=env,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"{Path(argv[0]).name} took longer than {limit:.0f} s",
                seen=_last_lines(log),
                todo=f"See {log}.",
            ) from error


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
