"""Faults on the way from Git to the cluster: said by Argo CD, survived by the app, mended.

Argo CD backs off by design, for minutes in the end: where that is so, a test asks it to look
again, as a learner may (``argocd app get --refresh``).
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from argocd.world import APPLICATIONS, World, until
from labkit import argocd, gitrepo
from labkit import lab as labs
from labkit.kube import Object

REPLICAS = "  replicas: 1\n"
NOTE = '  annotations: {note: "%s"}\n'
"""A harmless change of the Deployment: another word in an annotation."""


def note(world: World, word: str) -> None:
    """Write a word into the Deployment's annotations in Git."""
    text = (world.clone / "shop/shop.yaml").read_text()
    lines = [line for line in text.splitlines(keepends=True) if "note:" not in line]
    where = next(i for i, line in enumerate(lines) if line.startswith("  namespace:"))
    lines.insert(where + 1, NOTE % word)
    world.write("shop/shop.yaml", "".join(lines))


def noted(world: World) -> str:
    """The word that the cluster has."""
    found = world.kube.get("apps/v1", "Deployment", "gitops-secrets-deploy", "demo")
    assert found
    return str(found["metadata"].get("annotations", {}).get("note", ""))


def revert(world: World) -> None:
    world.must("git", "revert", "--no-edit", "HEAD")
    world.must("git", "push", "--quiet")


# -- what was pushed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "words"),
    [
        ("shop/shop.yaml", "  name: gitops-secrets-deploy\n", "  name: [\n", "shop", "yaml"),
        ("apps/shop.yaml", "path: shop", "path: nowhere", "shop", "app path does not exist"),
        (
            "apps/external-secrets.yaml", "replicaCount: 1\n        concurrent",
            "replicaCount: one\n        concurrent", "external-secrets", "replicaCount",
        ),
        (
            "apps/external-secrets.yaml", "targetRevision: v0.20.4",
            "targetRevision: v0.20.44", "external-secrets", "v0.20.44",
        ),
    ],
    ids=["broken YAML", "no such path", "a Helm value of the wrong type", "no such tag"],
)  # fmt: skip
def test_a_bad_push_is_named_and_nothing_is_taken_away(
    world: World, file: str, old: str, new: str, name: str, words: str
) -> None:
    with world.keeps_serving():
        world.replace(file, old, new)
        world.push("A mistake")
        seen = world.wait(name, lambda seen: seen.sync == "Unknown", "unknown to Argo CD")
        assert words in seen.message
        assert seen.health == "Healthy", "what runs is as it was"
        revert(world)
        world.wait_green()
        world.wait_at("platform", world.head)


def test_a_misspelt_helm_value_is_no_mistake_to_helm(world: World) -> None:
    """The chart's schema allows more than it names: a typo renders what the default says, and
    the pull request is the place to see it.  ``argocd app diff`` shows what it takes away."""
    with world.keeps_serving():
        world.replace("apps/external-secrets.yaml", "concurrent: 8", "concurrrent: 8")
        made = world.push("A typo")
        world.wait_at("platform", made)
        world.wait_green()
        deployment = world.kube.get("apps/v1", "Deployment", "external-secrets", "external-secrets")
        assert deployment
        args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert "--concurrent=1" in args
        assert "--concurrent=8" not in args
        revert(world)
        world.wait_at("platform", world.head)
        world.wait_green()


def test_a_force_push_that_removes_the_synced_commit_is_followed(world: World) -> None:
    with world.keeps_serving():
        note(world, "lost")
        lost = world.push("Lost soon")
        world.wait_at("shop", lost)
        assert noted(world) == "lost"
        world.must("git", "reset", "--quiet", "--hard", "HEAD~")
        note(world, "instead")
        made = world.commit("Instead")
        code, said = world.run("git", "push")
        assert code
        assert "rejected" in said
        world.must("git", "push", "--quiet", "--force")
        world.wait_at("shop", made)
        assert noted(world) == "instead"
    world.wait_green()


def test_a_huge_file_is_refused_and_touches_nothing(world: World) -> None:
    before = {name: each["status"]["sync"] for name, each in _objects(world).items()}
    with world.keeps_serving():
        (world.clone / "huge").write_bytes(random.randbytes(8 * 1024 * 1024))
        world.commit("A huge file")
        code, said = world.run("git", "push")
        assert code
        assert "pack exceeds maximum allowed size" in said
        remote = world.must("git", "ls-remote", "origin", "refs/heads/main").split()[0]
        assert remote == world.first
        world.wait_green()
        assert {name: each["status"]["sync"] for name, each in _objects(world).items()} == before
        world.must("git", "reset", "--quiet", "--hard", "HEAD~")
        note(world, "small")
        world.wait_at("shop", world.push("Small"))


def _objects(world: World) -> dict[str, Object]:
    return {name: world.object_of(name) for name in APPLICATIONS}


# -- what was lost --------------------------------------------------------------------


def test_a_git_server_that_is_gone_is_named_and_clones_have_everything(world: World) -> None:
    """Its repositories live as long as its pod.  The learner's comes back from the learner's
    clone, the mirror of ESO's with `labkit up`."""
    git = ("apps/v1", "Deployment", gitrepo.SERVER)

    def scale(replicas: int) -> None:
        world.kube.patch(*git, {"spec": {"replicas": replicas}}, gitrepo.NAMESPACE)

    with world.keeps_serving():
        scale(0)
        until(lambda: not world.kube.list("v1", "Pod", gitrepo.NAMESPACE), "the server is gone")
        argocd.refresh(world.kube, "shop", hard=True)
        seen = world.wait("shop", lambda seen: seen.sync == "Unknown", "unknown to Argo CD")
        assert (
            gitrepo.url(gitrepo.PLATFORM) in seen.message or "failed to list refs" in seen.message
        )
        assert seen.health == "Healthy"
    assert world.lab.journey(timeout=60).pod_restarts == 0, "a rotation needs no Git"
    with world.keeps_serving():
        scale(1)
        until(lambda: world.run("git", "ls-remote", "origin") == (0, ""), "an empty repository")
        restore(world)


def test_a_git_pod_that_is_deleted_costs_a_push(world: World) -> None:
    with world.keeps_serving():
        pod = world.kube.list("v1", "Pod", gitrepo.NAMESPACE)[0]["metadata"]["name"]
        world.kube.delete("v1", "Pod", pod, gitrepo.NAMESPACE)
        until(
            lambda: world.kube.get("v1", "Pod", pod, gitrepo.NAMESPACE) is None, "the pod is gone"
        )
        restore(world)


def restore(world: World) -> None:
    """Both repositories, as a learner would; then a commit arrives as ever."""
    labs.up(world.lab.name)
    code, said = world.run("git", "push", "origin", "main")
    assert code == 0, said
    tags = world.must("git", "ls-remote", "--tags", gitrepo.url(gitrepo.EXTERNAL_SECRETS))
    assert gitrepo.TAG in tags
    note(world, "after")
    made = world.push("After the fault")
    for name in APPLICATIONS:
        argocd.refresh(world.kube, name)
    world.wait_at("shop", made)
    world.wait_green()
    assert noted(world) == "after"


# -- what was killed ------------------------------------------------------------------

SLOW_HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  generateName: slow-
  namespace: demo
  annotations:
    argocd.argoproj.io/hook: PreSync
    argocd.argoproj.io/hook-delete-policy: HookSucceeded
spec:
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
        - name: slow
          image: docker.io/library/busybox:1.37
          command: [sleep, "3"]
"""


@pytest.mark.parametrize(
    "program", ["argocd-repo-server", "valkey-server", "argocd-application-controller"]
)
def test_a_program_of_argo_cd_killed_in_mid_sync_loses_nothing(world: World, program: str) -> None:
    with world.keeps_serving():
        world.write("shop/slow.yaml", SLOW_HOOK)
        note(world, program)
        made = world.push("A slow sync")
        until(
            lambda: (
                world.operation("shop").get("phase") == "Running"
                and any(each["hookType"] for each in world.results("shop") if each.get("hookType"))
            ),
            "in mid-sync",
        )
        victim = world.process(
            # Valkey puts its address behind its name.
            lambda argv: bool(argv and argv[0]) and Path(argv[0].split()[0]).name == program
        )
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: _restarts(world, program), "it was restarted")
        until(lambda: argocd.is_ready(world.kube), "Argo CD is whole")
        argocd.refresh(world.kube, "shop")
        world.wait_at("shop", made)
        assert noted(world) == program
        revert(world)
        world.wait_at("shop", world.head)
        world.wait_green()


def _restarts(world: World, program: str) -> int:
    word = {"valkey-server": "argocd-redis"}.get(program, program)
    return sum(
        status["restartCount"]
        for pod in world.kube.list("v1", "Pod", argocd.NAMESPACE)
        if pod["metadata"]["name"].startswith(word)
        for status in pod["status"].get("containerStatuses") or ()
    )


def test_a_killed_api_server_is_waited_for(world: World) -> None:
    def server() -> Object:
        programs: list[Object] = world.lab.status()["programs"]
        return next(each for each in programs if each["name"] == "kube-apiserver")

    victim = server()
    with world.keeps_serving():
        note(world, "api")
        made = world.push("As the API server dies")
        os.kill(victim["pid"], signal.SIGKILL)
        until(
            lambda: (
                server()["restarts"] == victim["restarts"] + 1 and server()["state"] == "running"
            ),
            "the API server is back",
        )
        until(lambda: world.run("kubectl", "get", "--raw", "/readyz")[0] == 0, "it is ready")
        argocd.refresh(world.kube, "shop")
        world.wait_at("shop", made)
        assert noted(world) == "api"
        world.wait_green()
    assert world.lab.journey(timeout=60).pod_restarts == 0
