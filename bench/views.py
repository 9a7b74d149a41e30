"""Views in a real JupyterLab and a real Chromium: how soon a rotation is seen, and what
looking costs when nothing happens.

The page itself says when a version was painted (``rendered_at`` of its acknowledgement);
what the view adds is the time from the application's having read the file until then.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jupytext  # type: ignore[import-untyped]
import psutil
from playwright.sync_api import sync_playwright

from bench import chromium
from bench.jupyterlab import Page, served
from bench.results import Measure
from bench.sandbox import Say, until
from labkit.errors import LabError
from labkit.lab import Lab

_NOTEBOOK = "bench.ipynb"
_CELLS = (
    "import os, labkit\nlab = labkit.start(progress=lambda _: None)\nprint('pid', os.getpid())",
    "from labkit import views\nviews.page(lab)",
    "views.journey(lab)",
    "views.cluster(lab)",
    "views.volume(lab)",
    "views.access(lab)",
    "views.control(lab)",
)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_SETTLING = 5.0  # seconds, after the views were opened


def measure(lab: Lab, rotations: int, idle: float, say: Say) -> list[Measure]:
    """``rotations`` forced ones seen in the page's view, and the kernel's processor time
    over ``idle`` seconds with all views open and nothing happening.

    Raises LabError when there is no Chromium.
    """
    path = chromium.find()
    if path is None:
        raise LabError("There is no Chromium", todo="Install one: `python -m bench.chromium`.")
    with tempfile.TemporaryDirectory(prefix="lkv") as folder, sync_playwright() as playwright:
        home = Path(folder)
        with served(home, lab.name) as jupyter:
            text = "\n\n".join(f"# %%\n{source}" for source in _CELLS)
            notebook = jupytext.reads(text, fmt="py:percent")
            notebook.metadata["kernelspec"] = _KERNEL
            jupytext.write(notebook, jupyter.folder / _NOTEBOOK)
            browser = playwright.chromium.launch(executable_path=path, args=[*chromium.FLAGS])
            page = jupyter.open(browser, _NOTEBOOK, theme="JupyterLab Light", width=1280)
            page.run_all()
            pid = int(page.output("print('pid'").inner_text().split()[-1])
            page.cell("views.page(lab)").scroll_into_view_if_needed()
            found = _rotations(lab, page, rotations, say)
            cpu = _idle(pid, idle, page, say)
            browser.close()
    return [*found, cpu]


def _rotations(lab: Lab, page: Page, count: int, say: Say) -> list[Measure]:
    page.frame("application's page").locator("#version").wait_for(timeout=30_000)
    pixels, share = [], []
    for turn in range(count + 1):
        walked = lab.journey(timeout=60, client="bench")
        version = lab.app.credentials()["version"]
        seen: list[float] = []

        def painted(version: int = version, seen: list[float] = seen) -> bool:
            page.tab.wait_for_timeout(20)  # lets the browser's messages through
            seen += [
                event["rendered_at"]
                for event in lab.app.history()
                if event["event"] == "ack"
                and event["version"] == version
                and event["client"] != "bench"
                and event.get("rendered_at")
            ]
            return bool(seen)

        until(painted, what="the page in the view shows the new version", limit=20)
        hops = {hop.name: hop.at for hop in walked.hops}
        written, reloaded = hops["vault-write"], hops["app-reloaded"]
        if turn and written and reloaded:  # the first one warms up
            pixels.append(min(seen) - written)
            share.append(min(seen) - reloaded)
    say(f"Vault to pixel: {len(pixels)} rotations, slowest {max(pixels):.3f} s")
    return [
        Measure("pixel", "Vault write → pixel in JupyterLab, forced sync", "s", tuple(pixels)),
        Measure("pixel-share", "of it the view's: file read → pixel", "s", tuple(share)),
    ]


def _idle(pid: int, seconds: float, page: Page, say: Say) -> Measure:
    page.tab.wait_for_timeout(_SETTLING * 1000)
    kernel = psutil.Process(pid)
    before, begun = kernel.cpu_times(), time.monotonic()
    page.tab.wait_for_timeout(seconds * 1000)
    after, took = kernel.cpu_times(), time.monotonic() - begun
    share = 100 * (after.user + after.system - before.user - before.system) / took
    say(f"kernel with all views open and nothing happening: {share:.2f} % of a core")
    return Measure("views-cpu", "kernel CPU, all views open, idle", "%", (share,))
