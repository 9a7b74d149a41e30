"""A real JupyterLab over the session's lab, and a real Chromium in front of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from notebook_runs import REPO
from playwright.sync_api import Browser, sync_playwright

from bench import chromium
from bench.jupyterlab import JupyterLab, Page, served
from labkit.lab import Lab

SCREENSHOTS = REPO / "artifacts" / "screenshots"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, for this folder's tests alone: its driver keeps an event loop running, and
    other tests want one of their own.

    Without a browser these tests are skipped, but never where CI says that it is needed.
    """
    path = chromium.find()
    if path is None:
        why = "there is no Chromium here: python -m bench.chromium"
        if os.environ.get("LABKIT_NEED_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*chromium.FLAGS])
        yield running
        running.close()


@pytest.fixture(scope="package")
def jupyter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """JupyterLab as ``make lab`` serves it, with a copy of the notebooks."""
    with served(tmp_path_factory.mktemp("jupyter"), lab.name) as running:
        yield running


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
