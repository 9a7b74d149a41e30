"""The view of Applications in JupyterLab: seen in both themes, and its buttons at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from argocd.world import LESSON, World
from playwright.sync_api import expect

from bench.jupyterlab import Page
from labkit import argocd, gitrepo
from labkit.lab import Lab

from .test_views import BEGIN, THEMES, _look, notebook  # noqa: F401

CELL = "views.apptree(lab)"
MANIFEST = """
apiVersion: v1
kind: Secret
metadata: {name: in-git}
stringData: {password: planted-in-git-1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: docker.io/library/busybox:1.37, command: [sleep, "9999"]}]
"""


def application(name: str, path: str, namespace: str, *, automated: bool) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": argocd.API,
            "kind": "Application",
            "metadata": {"name": name, "namespace": argocd.NAMESPACE},
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": gitrepo.url(gitrepo.PLATFORM),
                    "path": path,
                    "targetRevision": "main",
                },
                "destination": {
                    "server": "https://kubernetes.default.svc",
                    "namespace": namespace,
                },
                **({"syncPolicy": {"automated": {}}} if automated else {}),
            },
        }
    )


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[World]:
    """Argo CD, and an Application that deploys another one, which nobody has synced yet."""
    lab.move_to(LESSON)
    made = World(lab)
    made.must(
        "git", "clone", "--quiet", gitrepo.url(gitrepo.PLATFORM), str(made.clone),
        folder=lab.paths.root,
    )  # fmt: skip
    made.write("apps/web.yaml", application("web", "web", "web", automated=False))
    made.write("web/web.yaml", MANIFEST)
    made.push("A web server")
    made.must("kubectl", "create", "namespace", "web")
    root = application("root", "apps", argocd.NAMESPACE, automated=True)
    made.must("kubectl", "apply", "-f", "-", text=root)
    made.wait("web", lambda seen: seen.sync == "OutOfSync", "OutOfSync")
    yield made
    lab.reset()


@pytest.mark.parametrize("theme", THEMES)
def test_applications_are_synced_and_their_differences_shown(
    open_lab: Callable[..., Page],
    world: World,
    notebook: Callable[..., str],  # noqa: F811
    screenshots: Path,
    theme: str,
) -> None:
    page = open_lab(notebook("apptree.ipynb", BEGIN, CELL), theme=theme, width=1024)
    for cell in (BEGIN.splitlines()[0], CELL):
        page.run(cell)
    view = page.output(CELL)
    card = view.get_by_role("region", name="Application web")
    card.scroll_into_view_if_needed()
    sync = card.get_by_role("button", name="Sync web")
    sync.focus()
    page.tab.keyboard.press("Enter")
    expect(card).to_contain_text("$ argocd app sync web ✓")
    expect(card.locator(".lk-head")).to_contain_text("✓ Synced", timeout=60_000)
    expect(card.locator(".lk-head")).to_contain_text("✓ Healthy", timeout=60_000)
    expect(view.get_by_role("status")).to_contain_text("Application web: Synced")
    expect(card.get_by_role("button", name="Diff web")).to_be_hidden()

    world.must("kubectl", "-n", "web", "scale", "deployment", "web", "--replicas", "2")
    diff = card.get_by_role("button", name="Diff web")
    expect(card.locator(".lk-head")).to_contain_text("≠ OutOfSync", timeout=60_000)
    expect(view.get_by_role("status")).to_contain_text("Application web: OutOfSync")
    diff.click()
    shown = card.get_by_role("region", name="Difference of web")
    expect(shown).to_be_focused(timeout=30_000)
    expect(shown).to_contain_text("replicas: 2")
    shade = theme.rpartition(" ")[2].lower()
    _look(page, view, screenshots / f"view-apptree-deployed-{shade}.png")
    page.tab.keyboard.press("Escape")
    expect(shown).to_be_hidden()
    expect(diff).to_be_focused()
    assert page.errors == []
