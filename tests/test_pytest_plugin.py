"""The fixtures as others get them: the example project, run by a pytest of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import REPO, Home, home, until

from labkit import vault
from labkit.lab import Lab

EXAMPLE = REPO / "examples" / "test-your-manifests"
MODULES_BEFORE_A_TEST_ASKS = {"labkit", "labkit.errors", "labkit.pytest_plugin"}

Pytest = Callable[..., subprocess.CompletedProcess[str]]

RUN = """
import sys, time
from pathlib import Path
from labkit import launch, lifeline

with lifeline.held(Path(sys.argv[1])):
    launch.bring_up("test")
    print("up", flush=True)
    time.sleep(600)
"""
"""What a test run is to its lab, without pytest around it."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example as somebody's own repository: nothing of this one is around it."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "project"))


@pytest.fixture
def run_pytest(project: Path) -> Pytest:
    """Run pytest in the project: ``run_pytest("-k", "some", LABKIT_TEST_LAB="x")``."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
            cwd=project,
            env={**os.environ, "PYTEST_ADDOPTS": "", **env},  # whoever tests us has their own
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def vault_as_it_was(lab: Lab) -> Iterator[None]:
    """The example leaves what it made in Vault to the end of its lab; this lab goes on."""
    yield
    lab.vault.auth.kubernetes.delete_role("orders")
    lab.vault.sys.delete_policy("orders")
    lab.vault.secrets.kv.v2.delete_metadata_and_all_versions("team/orders", vault.MOUNT)


@pytest.mark.usefixtures("vault_as_it_was")
def test_the_example_passes_and_leaves_the_lab_running(lab: Lab, run_pytest: Pytest) -> None:
    done = run_pytest("--labkit-name", lab.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert lab.status()["ready"]


@pytest.mark.usefixtures("vault_as_it_was")
def test_a_broken_manifest_fails_with_esos_own_words(
    lab: Lab, run_pytest: Pytest, project: Path
) -> None:
    manifest, test = project / "manifests" / "orders.yaml", project / "test_orders.py"
    manifest.write_text(manifest.read_text().replace("property: password", "property: passwrd"))
    test.write_text(test.read_text().replace("timeout=20", "timeout=5"))
    done = run_pytest("-k", "follows", LABKIT_TEST_LAB=lab.name)
    assert done.returncode == 1, done.stdout + done.stderr
    told = next(line for line in done.stdout.splitlines() if line.startswith("E "))
    assert "WaitTimeout: ExternalSecret orders was not Ready=True within 5 s. Seen: " in told
    assert 'cannot find secret data for key: "passwrd"' in told
    assert "labkit/" not in done.stdout, "labkit's insides are not what was tested"


def one_line_errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is told of each error, which must be a line: no traceback, no other exception."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.partition("= ERRORS =")[2].splitlines()[1:-1]
    assert [line.startswith("____") for line in lines] == [True, False], done.stdout
    return lines[1::2]


def test_a_lab_that_is_not_there_is_a_line_and_a_projects_own_fixture_wins(
    run_pytest: Pytest, project: Path
) -> None:
    (project / "test_own.py").write_text(
        "import pytest\n\n\n"
        "@pytest.fixture\ndef lab():\n    return 'a room with benches'\n\n\n"
        "def test_own(lab):\n    assert lab == 'a room with benches'\n"
    )
    done = run_pytest("--labkit-name", "nobody", "-rN", "-k", "follows or own")
    assert one_line_errors(done) == [
        "labkit: No lab called nobody is running. Start it: `labkit up --name nobody`."
    ]
    assert "1 passed" in done.stdout


def test_a_lab_that_cannot_be_brought_up_is_a_line(run_pytest: Pytest) -> None:
    done = run_pytest("-rN", "-k", "follows", LABKIT_ETCD="/nowhere/etcd")
    (told,) = one_line_errors(done)
    assert told.startswith("labkit: LABKIT_ETCD names no program that can be run.")


def test_a_project_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, pytest; before = {*sys.modules}; import labkit.pytest_plugin; "
        "print(*sorted({*sys.modules} - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == MODULES_BEFORE_A_TEST_ASKS


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as found:
        yield found


def test_a_run_that_is_killed_leaves_no_lab(place: Home) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(place.state)],
        env=place.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    place.commands.append(run)
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    run.kill()
    until(lambda: not place.state.exists() and place.is_empty(), "its lab is down")
