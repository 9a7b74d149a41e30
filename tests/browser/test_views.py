"""Views in JupyterLab, in a browser: they show what happens, to those who may see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from bench.jupyterlab import JupyterLab, Page
from labkit.app import restarts
from labkit.lab import Lab

Open = Callable[..., Page]
NAMES = ("page", "journey", "control", "access", "cluster", "volume", "apptree")
THEMES = ("JupyterLab Light", "JupyterLab Dark")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
BEGIN = "import labkit\nfrom labkit import views\nlab = labkit.start(progress=lambda _: None)"


@pytest.fixture(autouse=True)
def afterwards(lab: Lab) -> Iterator[None]:
    yield
    if lab.position.lesson is not None:
        lab.reset()


@pytest.fixture
def notebook(jupyter: JupyterLab) -> Callable[..., str]:
    """Write a notebook with these cells into the served folder; its name."""

    def write(name: str, *cells: str) -> str:
        text = "\n\n".join(f"# %%\n{cell}" for cell in cells)
        made = jupytext.reads(text, fmt="py:percent")
        made.metadata["kernelspec"] = KERNEL
        jupytext.write(made, jupyter.folder / name)
        return name

    return write


@pytest.fixture
def short_lesson(jupyter: JupyterLab) -> str:
    """Lesson 06 with few rotations to measure."""
    file = jupyter.folder / "06-live-rotation.ipynb"
    file.write_text(file.read_text().replace("rotations = 20", "rotations = 2"))
    return file.name


def acknowledged(lab: Lab, version: int) -> set[str]:
    """Who has said that this version is on their screen."""
    return {
        event["client"]
        for event in lab.app.history()
        if event["event"] == "ack" and event["version"] == version
    }


def rotate(lab: Lab) -> int:
    """Rotate the password; the version that the app then has."""
    lab.journey(timeout=60, client="test")
    return int(lab.app.credentials()["version"])


def test_lesson_06_is_one_thing(open_lab: Open, lab: Lab, short_lesson: str) -> None:
    """Run all, rotate in Vault: page and timeline change, nothing is loaded or started anew."""
    page = open_lab(short_lesson)
    page.run_all()
    page.tab.evaluate("() => { window.stillHere = true }")
    pod = lab.app.pod()
    process = lab.app.credentials()["started_at"]
    page.output("views.page(lab)").scroll_into_view_if_needed()
    shown = page.frame("application's page").locator("#version")
    expect(shown).to_contain_text("Version", timeout=30_000)
    version = rotate(lab)
    expect(shown).to_have_text(f"Version {version}", timeout=15_000)
    clients = acknowledged(lab, version)
    assert clients - {"test"}, "the page in the view says that it shows the version"
    timeline = page.output("views.journey(lab)")
    timeline.scroll_into_view_if_needed()
    expect(timeline).to_contain_text("is on the page after", timeout=15_000)
    assert page.tab.evaluate("() => window.stillHere") is True
    now = lab.app.pod()
    assert pod
    assert now
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert restarts(now) == restarts(pod)
    assert lab.app.credentials()["started_at"] == process
    assert page.errors == []


def test_views_come_back_after_a_kernel_restart_and_in_two_tabs(
    open_lab: Open, lab: Lab, notebook: Callable[..., str]
) -> None:
    lab.reset()
    name = notebook("two.ipynb", BEGIN, "views.page(lab)", "views.journey(lab)")
    first, second = open_lab(name), open_lab(name)
    first.run_all()
    first.restart_kernel()
    first.run_all()
    second.run_all()
    version = rotate(lab)
    for page in (first, second):
        page.output("views.page(lab)").scroll_into_view_if_needed()
        shown = page.frame("application's page").locator("#version")
        expect(shown).to_have_text(f"Version {version}", timeout=20_000)
        expect(page.output("views.journey(lab)")).to_contain_text(
            "on the page after", timeout=20_000
        )
        assert page.errors == []


@pytest.mark.parametrize("path", ["app/", "app/api/credentials?reveal=1"])
def test_the_door_refuses_a_visitor_without_the_token(
    jupyter: JupyterLab, lab: Lab, path: str
) -> None:
    address = f"{jupyter.base}/labkit/labs/{lab.name}/{path}"
    refused = requests.get(address, timeout=10, allow_redirects=False)
    assert refused.status_code in (302, 403)
    assert "db_password" not in refused.text
    wrong = requests.get(address, headers={"Authorization": "token nonsense"}, timeout=10)
    assert wrong.status_code == 403 or "login" in wrong.url
    let_in = requests.get(address, headers={"Authorization": f"token {jupyter.token}"}, timeout=10)
    assert let_in.status_code == 200


@pytest.mark.parametrize("theme", THEMES)
def test_every_view_in_both_themes_is_accessible(
    open_lab: Open, lab: Lab, notebook: Callable[..., str], screenshots: Path, theme: str
) -> None:
    lab.reset()
    rotate(lab)
    cells = [f"views.{name}(lab)" for name in NAMES]
    lesson = ["lesson = labkit.lesson(1)", 'lesson.check("policy")', "lesson.quiz()"]
    page = open_lab(
        notebook("views.ipynb", BEGIN, *cells, *lesson, "lesson.progress()"),
        theme=theme,
        width=1024,
    )
    for cell in (BEGIN.splitlines()[0], *cells):
        page.run(cell)
    rotate(lab)
    shade = theme.split()[-1].lower()
    for name in NAMES:
        _look(page, page.output(f"views.{name}(lab)"), screenshots / f"view-{name}-{shade}.png")
    for cell in (*lesson, "lesson.progress()"):
        page.run(cell)
    for name, cell in (("checkpoint", lesson[1]), ("quiz", lesson[2])):
        _look(page, page.output(cell), screenshots / f"view-{name}-{shade}.png")
    _look(page, page.output("lesson.progress()"), screenshots / f"view-progress-{shade}.png")
    assert page.errors == []


def _look(page: Page, output: object, file: Path) -> None:
    """Take a picture, and ask axe-core about this view alone."""
    view = output.locator(".lk").first  # type: ignore[attr-defined]
    view.scroll_into_view_if_needed()
    page.tab.wait_for_timeout(400)
    view.screenshot(path=str(file))
    view.evaluate("node => node.setAttribute('data-axe', '')")
    found = Axe().run(page.tab, context="[data-axe]")
    view.evaluate("node => node.removeAttribute('data-axe')")
    serious = [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in found.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == [], f"{file.stem}: {json.dumps(serious, indent=1)}"
