"""JupyterLab in a browser, driven as people drive it: open, run, wait, look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import requests
from harness import until
from playwright.sync_api import Browser, FrameLocator, Locator
from playwright.sync_api import Page as Tab

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
        context = browser.new_context(viewport={"width": width, "height": 1000})
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

        until(is_calm, "the kernel is idle", timeout=timeout)

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
        self.menu("Run", "Run All Cells")
        self.tab.wait_for_timeout(500)
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
