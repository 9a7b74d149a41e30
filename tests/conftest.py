"""One real lab for the whole run, and a fresh namespace for each test.

The lab lives in a temporary state folder of its own, so a developer's labs are never
touched; the program cache is the shared one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import lab as labs
from labkit.kube import Kube
from labkit.lab import Lab

# A shell starts what it puts in the background with SIGINT ignored, children inherit that,
# and the tests that press Ctrl-C would then press it in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LABKIT = (sys.executable, "-m", "labkit")
REPO = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def state() -> Iterator[Path]:
    """A state folder for this run, short enough for the unix sockets in it."""
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        before = os.environ.get("LABKIT_STATE")
        os.environ["LABKIT_STATE"] = folder
        yield Path(folder)
        if before is None:
            del os.environ["LABKIT_STATE"]
        else:
            os.environ["LABKIT_STATE"] = before


@pytest.fixture(scope="session")
def lab(state: Path) -> Iterator[Lab]:
    """The session's lab, brought up once."""
    running = labs.up("test", progress=print)
    yield running
    running.stop()


@pytest.fixture
def kube(lab: Lab) -> Kube:
    return lab.api


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of this test's own, removed (not waited for) afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    lab.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    lab.api.delete("v1", "Namespace", name)


@pytest.fixture
def labkit(state: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user would: ``labkit("status", "--json")``."""

    def run(
        *words: str, env: dict[str, str] | None = None, timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LABKIT, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
        )

    return run
