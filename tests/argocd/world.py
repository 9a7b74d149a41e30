"""A whole platform deployed by Argo CD from Git, and a learner who works on it.

The learner has ordinary programs (git, kubectl, argocd) in the lab's environment, and a
clone of the repository.  ``heal`` puts everything back, so that the tests can share it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import harness
import psutil

from labkit import app, argocd, gitrepo, play
from labkit import lab as labs
from labkit.argocd import Application
from labkit.kube import Kube, Object
from labkit.lab import Lab
from labkit.paths import manifest
from labkit.position import Position

LESSON = Position(7, "bare", argocd=True)
"""What lesson 07 begins with: a cluster with Argo CD and an empty Git repository."""
APPLICATIONS = ("external-secrets", "external-secrets-crds", "platform", "shop", "store", "vault")
PATIENCE = 240.0  # seconds: twenty are the chart's own, and a machine may be busy


class World:
    """One lab, its platform and the learner's clone of the repository."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.first = ""  # the commit that everything was deployed from

    @property
    def kube(self) -> Kube:
        return self.lab.api

    @property
    def clone(self) -> Path:
        return self.lab.paths.platform

    @property
    def env(self) -> dict[str, str]:
        return play.environment(self.lab)

    # -- programs ---------------------------------------------------------------------

    def run(
        self, *words: str, folder: Path | None = None, text: str | None = None
    ) -> tuple[int, str]:
        """A program in the learner's terminal: its exit code and all that it said."""
        done = subprocess.run(
            words,
            cwd=folder or (self.clone if self.clone.exists() else None),
            env=self.env,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    def must(self, *words: str, folder: Path | None = None, text: str | None = None) -> str:
        code, said = self.run(*words, folder=folder, text=text)
        assert code == 0, f"{words}: {said}"
        return said

    def json_of(self, *words: str) -> Any:
        """What a program prints on its standard output, read as JSON."""
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # -- the repository ---------------------------------------------------------------

    def write(self, path: str, content: str) -> None:
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change text that must be there in a file of the clone."""
        text = (self.clone / path).read_text()
        assert old in text, (path, old)
        self.write(path, text.replace(old, new))

    def commit(self, message: str) -> str:
        self.must("git", "add", "--all")
        self.must("git", "commit", "--quiet", "--message", message)
        return self.head

    def push(self, message: str) -> str:
        """Commit whatever was changed and push it; the commit."""
        made = self.commit(message)
        self.must("git", "push", "--quiet")
        return made

    @property
    def head(self) -> str:
        return self.must("git", "rev-parse", "HEAD").strip()

    # -- Argo CD ----------------------------------------------------------------------

    def apps(self) -> dict[str, Application]:
        return {each.name: each for each in argocd.applications(self.kube)}

    def object_of(self, name: str) -> Object:
        found = self.kube.get(argocd.API, "Application", name, argocd.NAMESPACE)
        assert found is not None
        return found

    def operation(self, name: str) -> Object:
        """How the Application's last operation went; nothing of it while one begins."""
        found: Object = self.object_of(name).get("status", {}).get("operationState") or {}
        return found

    def results(self, name: str) -> list[Object]:
        """What became of each resource in it."""
        return list((self.operation(name).get("syncResult") or {}).get("resources") or ())

    def wait(
        self, name: str, until: Callable[[Application], bool], awaited: str = "as awaited"
    ) -> Application:
        (found,) = argocd.wait(self.kube, [name], until=until, awaited=awaited, timeout=PATIENCE)
        return found

    def wait_green(self, names: tuple[str, ...] = APPLICATIONS) -> None:
        argocd.wait(self.kube, names, timeout=PATIENCE)

    def wait_at(self, name: str, revision: str) -> None:
        """Until an Application is green, and of this commit."""
        self.wait(
            name,
            lambda seen: seen.is_green and seen.revision == revision,
            f"green at {revision[:8]}",
        )

    # -- all of it --------------------------------------------------------------------

    def bring_up(self) -> None:
        """1. A cluster with Argo CD and an empty repository; 2. one commit; 3. one apply."""
        self.lab.move_to(LESSON)  # 1
        self.begin()
        self.wait_green()
        app.App(self.kube, "").wait_answering(timeout=PATIENCE)

    def begin(self) -> None:
        """Steps 2 and 3, and no waiting."""
        shutil.rmtree(self.clone, ignore_errors=True)
        self.must(
            "git", "clone", "--quiet", gitrepo.url(gitrepo.PLATFORM), str(self.clone),
            folder=self.lab.paths.root,
        )  # fmt: skip
        shutil.copytree(manifest("07-gitops"), self.clone, dirs_exist_ok=True)
        self.first = self.push("The whole platform")
        self.must("kubectl", "apply", "-f", str(manifest("argocd-root/platform.yaml")))

    def is_whole(self) -> bool:
        """Whether everything is there, green, and of the first commit."""
        if not self.first or not self.lab.is_in_order() or not self.clone.exists():
            return False
        apps = self.apps()
        return tuple(apps) == APPLICATIONS and all(
            each.is_green and each.revision in (self.first, self._pinned) for each in apps.values()
        )

    @property
    def _pinned(self) -> str:
        """The commit of ESO's repository, which no test changes."""
        return self.apps()["external-secrets"].revision

    def heal(self) -> None:
        """Back to what the first commit had, all green; safe to repeat.

        It takes another commit: Argo CD does not try again what it has once tried in vain.
        """
        if self.is_whole():
            return
        if self.lab.position == LESSON:
            labs.up(self.lab.name)
        if self.first and self.clone.exists() and tuple(self.apps()) == APPLICATIONS:
            self.must("git", "reset", "--quiet", "--hard", self.first)
            self.must("git", "clean", "--quiet", "-fd")
            self.must("git", "commit", "--quiet", "--allow-empty", "--message", "As it was")
            self.must("git", "push", "--quiet", "--force", "origin", "HEAD:main")
            self.first = self.head
            for name in APPLICATIONS:
                argocd.refresh(self.kube, name)
            for name in ("platform", "vault", "store", "shop"):
                self.wait_at(name, self.first)
            self.wait_green()
        else:
            self.bring_up()

    # -- what a fault must not touch --------------------------------------------------

    @contextmanager
    def keeps_serving(self) -> Iterator[None]:
        """The page is asked all the time, by the same pod, and never shows anything else
        than now."""
        url = f"{self.lab.app.url}/api/credentials"
        before, pod = _page(url), self.lab.app.pod()
        assert before["values"]
        assert pod
        is_over = threading.Event()
        wrong: list[str] = []
        asked = 0

        def ask() -> None:
            nonlocal asked
            while not is_over.wait(0.05):
                try:
                    now = _page(url)
                except (OSError, ValueError) as error:
                    wrong.append(repr(error))
                else:
                    asked += 1
                    if (now["values"], now["version"]) != (before["values"], before["version"]):
                        wrong.append(f"version {now['version']} after {before['version']}")

        asking = threading.Thread(target=ask, name="page", daemon=True)
        asking.start()
        try:
            yield
        finally:
            is_over.set()
            asking.join(15)
        assert not wrong, wrong[:3]
        assert asked
        after = self.lab.app.pod()
        assert after
        assert after["metadata"]["uid"] == pod["metadata"]["uid"]
        assert app.restarts(after) == app.restarts(pod)

    # -- programs of this lab ---------------------------------------------------------

    def process(self, is_it: Callable[[list[str]], bool]) -> psutil.Process:
        """The one process of this lab whose arguments are so."""
        supervisor = self.lab.record.supervisor
        assert supervisor
        found = [
            process
            for process in psutil.Process(supervisor.pid).children(recursive=True)
            if is_it(_arguments(process))
        ]
        assert len(found) == 1, found
        return found[0]


def _page(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - it is http
        found: dict[str, Any] = json.loads(answer.read())
    return found


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def pod_of(kube: Kube, namespace: str, labels: Mapping[str, str]) -> Object:
    """The one pod with these labels that is not on its way out."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    (pod,) = (
        pod
        for pod in kube.list("v1", "Pod", namespace, labels=selector)
        if "deletionTimestamp" not in pod["metadata"]
    )
    return pod


until = partial(harness.until, timeout=PATIENCE)
