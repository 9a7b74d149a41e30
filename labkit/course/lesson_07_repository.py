"""What lesson 07's checkpoints look at: the repository as the server has it, and Argo CD's word.

The learner's clone may hold anything; what counts is what was pushed.  So each look makes a
clone of its own, with ordinary git and the learner's own credential.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit import app, argocd, git, gitrepo, vault
from labkit.argocd import Application
from labkit.checks import Finding, Scene, met, not_yet
from labkit.course.lesson_04_looks import quoted_values, secret_data
from labkit.errors import LabError
from labkit.kube import has_ready_pod
from labkit.play import environment

ROOT = "platform"
SHOP = "shop"
SHOP_FILE = "apps/shop.yaml"
TEMPLATE_FILE = "shop/my-db-credentials.yaml"
OWN_URL = gitrepo.url(gitrepo.PLATFORM)

LOGIN = """\
export BAO_TOKEN="$(
    kubectl -n vault create token vault-admin --audience=vault |
        bao write -field=token auth/kubernetes/login role=admin jwt=-
)"
"""
"""Sign in to the Vault from Git, which has no root token: Kubernetes says who may."""
NOT_DEPLOYED = "Bring the platform up first: that is the exercise before, lesson.solve('bring-up')."


@dataclass(frozen=True)
class Repository:
    """A clone of ``main`` as the server has it now."""

    folder: Path
    env: dict[str, str]

    def git(self, *words: str) -> str:
        """What git prints; raises LabError with git's words."""
        return git.text(git.output(*words, folder=self.folder, env=self.env)).strip()

    def text(self, path: str) -> str | None:
        """A file's content; None where there is none."""
        file = self.folder / path
        return file.read_text() if file.is_file() else None

    def yaml(self, path: str) -> dict[str, Any]:
        """A file with one object; empty where there is none, or where it is no YAML."""
        try:
            found = yaml.safe_load(self.text(path) or "")
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def head(self) -> str:
        """The commit that main is at; "" while the repository is empty."""
        words = ("rev-parse", "--quiet", "--verify", "HEAD")
        return git.text(git.attempt(*words, folder=self.folder, env=self.env).stdout).strip()

    @property
    def subjects(self) -> list[str]:
        """First lines of the messages of all commits of main, the newest first."""
        return self.git("log", "--format=%s").splitlines() if self.head else []

    @property
    def applications(self) -> list[str]:
        """The names of the Applications that it declares."""
        files = sorted((self.folder / "apps").glob("*.yaml"))
        found = [self.yaml(f"apps/{file.name}") for file in files]
        return [str(each["metadata"]["name"]) for each in found if each.get("metadata")]


@contextmanager
def cloned(scene: Scene) -> Iterator[Repository]:
    """The repository for the time of a look.  Raises LabError when there is no server."""
    env = environment(scene.lab)
    with tempfile.TemporaryDirectory(prefix="labkit-look-") as place:
        folder = Path(place) / "platform"
        if git.attempt("clone", "--quiet", OWN_URL, str(folder), env=env).returncode:
            raise LabError(
                "The repository could not be cloned",
                todo="lesson.restart() brings the Git server back.",
            )
        yield Repository(folder, env)


# -- Argo CD --------------------------------------------------------------------------


def application(scene: Scene, name: str) -> dict[str, Any] | None:
    """An Application object; None where there is none, or no Argo CD."""
    return scene.kube.get(argocd.API, "Application", name, argocd.NAMESPACE)


def is_of_platform(obj: dict[str, Any]) -> bool:
    """Whether an Application reads the learner's repository."""
    return ((obj.get("spec") or {}).get("source") or {}).get("repoURL") == OWN_URL


def behind(scene: Scene, repository: Repository, names: list[str]) -> list[Application]:
    """Those of ``names`` that are not green, or not at the head of main."""
    found = []
    for name in names:
        obj = application(scene, name)
        if obj is None:
            found.append(Application(name, "Missing", "Missing", "", "", ""))
            continue
        seen = argocd.read(obj)
        if not seen.is_green or (is_of_platform(obj) and seen.revision != repository.head):
            found.append(seen)
    return found


# -- the page -------------------------------------------------------------------------


def page_follows(scene: Scene, expected: str, *, next: str, hint: str) -> Finding:
    """Whether the page shows the password that is in Vault now."""
    if not application(scene, SHOP):
        return not_yet(expected, "there is no shop", next=NOT_DEPLOYED, blocks=True)
    wanted = (vault.read(scene.vault) or {}).get("password", "")
    try:
        shown = scene.lab.app.shows("db_password")
    except LabError:
        shown = None
        observed, leads = "the page does not answer", _leads_anywhere(scene)
    else:
        observed, leads = "the page shows another password than the one in Vault", True
    if wanted and shown == wanted:
        return met(expected)
    data = secret_data(scene, app.SECRET, app.NAMESPACE) or {}
    written = quoted_values(data.get("credentials", "")).get("db_password")
    return not_yet(
        expected,
        observed,
        next=next,
        hint=hint if written != wanted or shown is None else "",
        settling=leads,
    )


def _leads_anywhere(scene: Scene) -> bool:
    """Whether the shop's Service has a pod, or may soon have one: none of them is ready yet."""
    slices = scene.kube.list("discovery.k8s.io/v1", "EndpointSlice", app.NAMESPACE)
    deployment = scene.kube.get("apps/v1", "Deployment", app.DEPLOYMENT, app.NAMESPACE)
    return not has_ready_pod(deployment) or any(each.get("endpoints") for each in slices)
