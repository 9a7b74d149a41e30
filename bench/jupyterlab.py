"""JupyterLab as ``make lab`` serves it, and a browser in front of it: open, run, wait, look.

Tests and benches drive it as people do.  What is looked for is theirs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from playwright.sync_api import Browser, FrameLocator, Locator
from playwright.sync_api import Page as Tab

_REPO = Path(__file__).parent.parent
START = "lesson = labkit.lesson"
"""A piece of the cell that begins a lesson."""
_PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
_THEMES = "@jupyterlab/apputils-extension:themes"


@dataclass(frozen=True)
class JupyterLab:
    """A running server: its base URL, its token, and the folder that it serves."""

    base: str
    token: str
    folder: Path

    def open(self, browser: Browser, notebook: str, *, theme: str, width: int) -> Page:
        """A notebook in a new browser context (another person's cookies and tabs)."""
        self.set_theme(theme)
        # A frame's colours are to be those of the theme around it, not an emulated preference.
        context = browser.new_context(
            viewport={"width": width, "height": 1200}, color_scheme="null"
        )
        tab = context.new_page()
        name = notebook.removesuffix(".ipynb")
        tab.goto(f"{self.base}/lab/workspaces/{name}/tree/{notebook}?token={self.token}&reset")
        page = Page(tab)
        page.wait_idle()
        return page

    def set_theme(self, theme: str) -> None:
        """For whoever opens JupyterLab next."""
        self.request("PUT", f"/lab/api/settings/{_THEMES}", {"raw": json.dumps({"theme": theme})})

    def end_kernels(self) -> None:
        """End every kernel, so that the next one to open a notebook begins anew."""
        for session in json.loads(self.request("GET", "/api/sessions")):
            self.request("DELETE", f"/api/sessions/{session['id']}")

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """A call of the server's REST API with its token."""
        answer = requests.request(
            method,
            self.base + path,
            json=body,
            headers={"Authorization": f"token {self.token}"},
            timeout=30,
        )
        answer.raise_for_status()
        return answer.content


@contextmanager
def served(home: Path, lab: str, **env: str) -> Iterator[JupyterLab]:
    """Serve a copy of the notebooks over the lab of that name; all of it is kept in ``home``."""
    notebooks = home / "notebooks"
    shutil.copytree(_REPO / "notebooks", notebooks)
    log = home / "jupyter.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [
                sys.executable,
                *("-m", "jupyter", "lab", f"--config={_REPO / 'labkit/_jupyter/serve.py'}"),
                *(f"--ServerApp.root_dir={notebooks}", "--ServerApp.port=0", "--no-browser"),
            ],
            cwd=home,
            env={
                **os.environ,
                "LABKIT_LAB": lab,
                "LABKIT_SOLVE": "",
                "JUPYTER_CONFIG_DIR": str(home / "config"),
                "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
                "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
                "IPYTHONDIR": str(home / "ipython"),
                **env,
            },
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = re.compile(r"(http://127\.0\.0\.1:\d+)/\S*token=(\w+)")
        _until(lambda: server.poll() is not None or address.search(log.read_text()), 60)
        found = address.search(log.read_text())
        if found is None:
            raise RuntimeError(f"JupyterLab does not start:\n{log.read_text()[-2000:]}")
        yield JupyterLab(found[1], found[2], notebooks)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def _until(is_met: Callable[[], object], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not is_met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s")
        time.sleep(0.05)


class Page:
    """One tab with one notebook in front."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.errors: list[str] = []
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def panel(self) -> Locator:
        return self.tab.locator(_PANEL)

    def cell(self, text: str) -> Locator:
        """The code cell whose source has ``text`` in it."""
        return self.panel.locator(".jp-CodeCell").filter(has_text=text).first

    def output(self, text: str) -> Locator:
        """The output of that cell."""
        return self.cell(text).locator(".jp-Cell-outputArea")

    def frame(self, title: str) -> FrameLocator:
        """What is shown in the frame of that title."""
        return self.tab.frame_locator(f'iframe[title*="{title}"]')

    def wait_idle(self, *, timeout: float = 180) -> None:
        """Until the kernel is there and has nothing to do."""
        self.tab.locator(f"{_PANEL} .jp-Cell").first.wait_for(timeout=60_000)
        calm = 0

        def is_calm() -> bool:
            nonlocal calm
            state = self.tab.evaluate(
                f"() => document.querySelector('{_PANEL} .jp-Notebook-ExecutionIndicator')"
                "?.dataset.status"
            )
            calm = calm + 1 if state == "idle" else 0
            self.tab.wait_for_timeout(100)
            return calm >= 4

        _until(is_calm, timeout)

    def run(self, text: str, *, timeout: float = 180) -> Locator:
        """Run one cell and wait; its output."""
        cell = self.cell(text)
        cell.scroll_into_view_if_needed()
        cell.locator(".jp-InputPrompt").first.click()
        self.tab.keyboard.press("Escape")
        self.tab.keyboard.press("Control+Enter")
        self.tab.wait_for_timeout(200)
        self.wait_idle(timeout=timeout)
        return self.output(text)

    def begin(self) -> None:
        """Run the notebook's first cells, which begin its lesson."""
        self.run("solve = False")
        self.run(START)

    def run_all(self, *, timeout: float = 240) -> None:
        # On a busy machine a moment may pass before the first of them begins.
        self.tab.locator(f"{_PANEL} .jp-InputPrompt").first.scroll_into_view_if_needed()
        begun = "els => els.some(el => /\\[(\\*|[0-9]+)\\]/.test(el.textContent))"
        self.menu("Run", "Run All Cells")
        prompts = self.tab.locator(f"{_PANEL} .jp-CodeCell .jp-InputPrompt")
        _until(lambda: bool(prompts.evaluate_all(begun)), 60)
        self.wait_idle(timeout=timeout)

    def restart_kernel(self) -> None:
        self.menu("Kernel", "Restart Kernel…")
        self.tab.locator(".jp-Dialog button.jp-mod-accept").click()
        self.tab.wait_for_timeout(1000)
        self.wait_idle()

    def menu(self, menu: str, entry: str) -> None:
        self.tab.locator(".lm-MenuBar-item").filter(has_text=menu).first.click()
        self.tab.locator(".lm-Menu-item").filter(has_text=entry).first.click()

    def replace(self, text: str, by: str) -> None:
        """Type something else into the cell that has ``text``."""
        cell = self.cell(text)
        cell.scroll_into_view_if_needed()
        cell.locator(".cm-content").click()
        self.tab.keyboard.press("Control+A")
        self.tab.keyboard.insert_text(by)

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=str(file))

    def close(self) -> None:
        self.tab.context.close()
