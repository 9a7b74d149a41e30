"""A real JupyterLab over the session's lab, and a real Chromium in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from get_chromium import find
from harness import until
from jupyterlab_page import JupyterLab, Page
from notebook_runs import REPO
from playwright.sync_api import Browser, sync_playwright

from labkit.lab import Lab

SCREENSHOTS = REPO / "artifacts" / "screenshots"
_FLAGS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium.  Without one these tests are skipped, but never where CI says it is needed."""
    path = find()
    if path is None:
        why = "there is no Chromium here: python tests/browser/get_chromium.py"
        if os.environ.get("LABKIT_NEED_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    # As root, in a container, Chromium cannot make the namespaces of its own sandbox.
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def jupyter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """JupyterLab as ``make lab`` serves it, with a copy of the notebooks."""
    home = tmp_path_factory.mktemp("jupyter")
    notebooks = home / "notebooks"
    shutil.copytree(REPO / "notebooks", notebooks)
    log = (home / "jupyter.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable,
            *("-m", "jupyter", "lab", f"--config={REPO / 'jupyter_server_config.py'}"),
            *(f"--ServerApp.root_dir={notebooks}", "--ServerApp.port=0", "--no-browser"),
        ],
        cwd=home,
        env={
            **os.environ,
            "LABKIT_LAB": lab.name,
            "LABKIT_SOLVE": "",
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "IPYTHONDIR": str(home / "ipython"),
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = re.compile(r"(http://127\.0\.0\.1:\d+)/\S*token=(\w+)")

    def said() -> re.Match[str] | None:
        assert server.poll() is None, (home / "jupyter.log").read_text()
        return address.search((home / "jupyter.log").read_text())

    until(said, "JupyterLab says its address")
    found = said()
    assert found
    yield JupyterLab(found[1], found[2], notebooks)
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(20)


@pytest.fixture
def open_lab(
    browser: Browser, jupyter: JupyterLab, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Page]]:
    """Open a notebook in a tab of its own; a screenshot is kept when the test ends."""
    opened: list[Page] = []

    def open_one(notebook: str, *, theme: str = "JupyterLab Light", width: int = 1280) -> Page:
        page = jupyter.open(browser, notebook, theme=theme, width=width)
        opened.append(page)
        return page

    yield open_one
    for number, page in enumerate(opened):
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        page.screenshot(SCREENSHOTS / f"{name}-{number}.png")
        page.close()
    jupyter.end_kernels()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
