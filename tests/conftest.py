"""What most tests share.

One real lab for the whole run and a fresh namespace for each test are the fixtures ``lab``
and ``namespace`` that labkit ships for everybody (``labkit/pytest_plugin.py``): it lives in
a temporary state folder of its own, the program cache is the shared one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.kube import Kube
from labkit.lab import Lab

# A shell starts what it puts in the background with SIGINT ignored, children inherit that,
# and the tests that press Ctrl-C would then press it in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LABKIT = (sys.executable, "-m", "labkit")


@pytest.fixture(scope="session")
def state(labkit_state: Path) -> Path:
    """The run's state folder, by the short name that the tests use."""
    return labkit_state


@pytest.fixture
def kube(lab: Lab) -> Kube:
    return lab.api


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
