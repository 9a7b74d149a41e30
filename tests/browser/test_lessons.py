"""Lessons in JupyterLab, in a browser, as learners do them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from bench.jupyterlab import START, JupyterLab, Page
from labkit.lab import Lab

Open = Callable[..., Page]


@pytest.fixture(autouse=True)
def afterwards(lab: Lab) -> Iterator[None]:
    yield
    if lab.position.lesson is not None:
        lab.reset()


def test_an_exercise_is_done_with_wrong_answers_a_hint_and_the_solution(open_lab: Open) -> None:
    page = open_lab("01-vault.ipynb")
    page.begin()
    assert "fill in every ____ (lines 3, 4)" in page.run("%%your_turn policy").inner_text()
    wrong = 'bao policy write app-read - <<\'P\'\npath "secret/*" { capabilities = ["read"] }\nP'
    page.replace("%%your_turn policy", f"%%your_turn policy\n{wrong}")
    page.run("%%your_turn policy")
    shown = page.run('lesson.check("policy")')
    expect(shown).to_contain_text("it may read that too")
    shown.get_by_role("button", name="Hint").click()
    expect(shown).to_contain_text("stands for everything that begins so")
    shown.get_by_role("button", name="Solve it and go on").click()
    expect(shown).to_contain_text("passed", timeout=30_000)
    assert page.errors == []


def test_cells_out_of_order_and_a_restarted_kernel(open_lab: Open) -> None:
    page = open_lab("01-vault.ipynb")
    assert "Run the notebook's first cells" in page.run('lesson.check("policy")').inner_text()
    page.begin()
    page.restart_kernel()
    page.begin()
    expect(page.output(START)).to_contain_text("going on where you were")


def test_stored_notebooks_show_their_outputs_without_being_run(
    open_lab: Open, jupyter: JupyterLab
) -> None:
    page = open_lab("06-live-rotation.ipynb")
    shown = page.output("measured = lab.latencies")
    shown.scroll_into_view_if_needed()
    expect(shown.locator("img")).to_be_visible()
    expect(page.output('lesson.check("revoke")')).to_contain_text("passed")
    assert "Error displaying widget" not in page.panel.inner_text()
