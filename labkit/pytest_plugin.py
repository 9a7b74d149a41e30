"""Fixtures for people who test manifests of their own: a real API server, Vault and ESO.

pytest finds this module by its entry point, in every project of an environment in which
labkit is installed.  So it imports nothing that pytest has not loaded before, has two
fixtures with names that a test would want, and does nothing until a test asks for one.  A
project's own fixture of the same name wins, as always.

What a lab is and can do is left to ``lab``, taking it down after a killed run to
``lifeline``.  How to use it: ``docs/testing-your-manifests.md``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from labkit.lab import Lab

_NAME = "test"
"""The name of a run's own lab; it is alone in its folder, so this need not be unique."""
_VARIABLE = "LABKIT_TEST_LAB"
# Not LABKIT_LAB: `eval "$(labkit env)"` sets that one, and a test run in a terminal where
# somebody learns must not work on the learner's lab unasked.


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option: which running lab to use, if any."""
    parser.getgroup("labkit").addoption(
        "--labkit-name",
        metavar="NAME",
        help="Test in the running lab NAME and leave it running (default: bring up a new lab "
        f"for this run and take it down afterwards). The environment: {_VARIABLE}.",
    )


def _asked_for(config: pytest.Config) -> str:
    return config.getoption("--labkit-name") or os.environ.get(_VARIABLE) or ""


@contextlib.contextmanager
def _in_a_line() -> Iterator[None]:
    """Tell a LabError as the paragraph that it is: labkit's insides would bury it."""
    from labkit.errors import LabError

    try:
        yield
    except LabError as error:
        raise pytest.fail.Exception(f"labkit: {error}", pytrace=False) from None


@pytest.fixture(scope="session")
def labkit_state(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of the run's lab, which LABKIT_STATE names while tests run.

    A new temporary one, so that nobody's labs are touched, with a path that is short enough
    for unix sockets. With --labkit-name: the folder in which that lab is.
    """
    from labkit import lifeline, paths

    if _asked_for(request.config):
        yield paths.state_root()
        return
    with (
        _in_a_line(),
        pytest.MonkeyPatch.context() as patch,
        lifeline.temporary() as folder,
    ):
        patch.setenv("LABKIT_STATE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, labkit_state: Path) -> Iterator[Lab]:
    """A real lab for the whole run: Kubernetes API, Vault, External Secrets Operator.
    lab.apply(PATH, namespace=…) applies manifests, lab.wait_for("externalsecret/NAME",
    namespace=…) waits for Ready or says what ESO says, lab.vault is an hvac client with all
    rights, lab.kube the official Kubernetes client's ApiClient, lab.kubeconfig a path.

    It is brought up when the first test asks for it, in a state folder of its own, and taken
    down after the last one; a pytest-xdist worker has its own. With --labkit-name NAME it is
    the running lab of that name, which is left running.
    """
    from labkit import lab as labs

    name = _asked_for(request.config)
    if name:
        with _in_a_line():
            running = labs.attach(name)
        yield running
        return
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with (
        _in_a_line(),
        # Silent but for programs that must be built first, which takes minutes.
        capture.global_and_fixture_disabled() if capture else contextlib.nullcontext(),
    ):
        running = labs.up(_NAME)
    yield running  # ``labkit_state`` takes it down


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """The name of a new, empty namespace of the lab, for this test alone. It is deleted after
    the test, with all that is in it, and not waited for: the next test has another.
    """
    name = f"t-{os.urandom(4).hex()}"
    with _in_a_line():
        lab.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    with _in_a_line():
        lab.api.delete("v1", "Namespace", name)
