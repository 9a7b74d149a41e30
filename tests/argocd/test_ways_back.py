"""From lesson 07 to any other place in the course and back, in whatever state it is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from argocd.world import LESSON, World, until
from labkit import argocd, course, eso, gitrepo, vault
from labkit.position import Position

FIRST = Position(1, course.find(1).stage)
NOWHERE = Position()


def labkit(world: World, *words: str) -> str:
    """The command line, as a user would; what it printed."""
    done = subprocess.run(
        (sys.executable, "-m", "labkit", *words, "--name", world.lab.name),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def begun(world: World) -> None:
    """Half of it is there: Argo CD is at work on ESO and Vault."""
    world.lab.move_to(LESSON)
    world.begin()
    deployed = (("Deployment", "external-secrets-webhook", eso.NAMESPACE),
                ("StatefulSet", "vault", vault.NAMESPACE))  # fmt: skip
    until(
        lambda: all(world.kube.get("apps/v1", *each) for each in deployed),
        "ESO and Vault are being deployed",
    )


def without_argo_cd(world: World) -> None:
    """Its namespace was deleted, its Applications stuck in it: nobody removes finalizers."""
    begun(world)
    world.kube.delete("v1", "Namespace", argocd.NAMESPACE)


def without_half(world: World) -> None:
    """Vault's namespace is on its way out, and every change of ESO's objects is refused, as
    nobody answers for its webhook."""
    begun(world)
    world.must("kubectl", "-n", eso.NAMESPACE, "delete", "deployment", "external-secrets-webhook")
    world.kube.delete("v1", "Namespace", vault.NAMESPACE)


def assert_at(world: World, place: Position) -> None:
    assert world.lab.position == place
    assert world.lab.is_in_order()
    status = world.lab.status()
    assert status["ready"] is True
    assert status["lesson"] == place.lesson
    assert status.get("problem") is None
    said = labkit(world, "env")
    assert ("PLATFORM=" in said) is place.argocd
    has_argocd = world.kube.get("v1", "Namespace", argocd.NAMESPACE) is not None
    assert has_argocd is place.argocd
    if place == NOWHERE:
        assert world.lab.journey(timeout=60).pod_restarts == 0
    if place.has("vault"):
        assert world.lab.vault.is_authenticated()


def test_from_a_green_platform_to_the_first_lesson_and_back(built: World) -> None:
    built.heal()
    assert_at(built, LESSON)
    labkit(built, "up")  # changes nothing
    assert built.is_whole()
    built.lab.move_to(FIRST)
    assert_at(built, FIRST)
    assert not built.clone.exists()
    built.lab.move_to(LESSON)
    assert_at(built, LESSON)
    assert built.must("git", "ls-remote", gitrepo.url(gitrepo.PLATFORM)) == ""


@pytest.mark.parametrize(("state", "place"), [(without_argo_cd, FIRST), (without_half, NOWHERE)])
def test_from_a_platform_in_pieces(
    built: World, state: Callable[[World], None], place: Position
) -> None:
    state(built)
    assert built.lab.status()["name"] == built.lab.name, "it can be asked"
    labkit(built, "env")
    built.lab.move_to(place)
    assert_at(built, place)


def test_argo_cd_beside_a_running_platform(built: World) -> None:
    built.lab.move_to(NOWHERE)
    pods = {pod["metadata"]["uid"] for pod in built.kube.list("v1", "Pod", "demo")}
    labkit(built, "up", "--argocd")
    beside = Position(argocd=True)
    assert_at(built, beside)
    assert {pod["metadata"]["uid"] for pod in built.kube.list("v1", "Pod", "demo")} == pods
    assert argocd.is_ready(built.kube)
    assert built.must("git", "ls-remote", gitrepo.url(gitrepo.PLATFORM), folder=None) == ""
    assert built.json_of("argocd", "app", "list", "-o", "json") == []
    labkit(built, "reset")
    assert_at(built, beside)
    assert json.loads(labkit(built, "status", "--json"))["ready"] is True
    built.lab.move_to(NOWHERE)
    assert_at(built, NOWHERE)
