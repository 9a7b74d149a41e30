"""The tree of what Applications deploy, and Argo CD's own commands, tell the same."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from argocd.world import APPLICATIONS, World, until
from labkit import apptree, appwork, argocd, vault, views
from labkit.apptree import Overview
from labkit.errors import LabError
from labkit.kube import namespaces
from labkit.paths import manifest
from labkit.treetext import Tree
from labkit.views.apptree import AppTree

NAME, SPACE = "grove", "grove"
PLANTED, LIVE = "planted-in-git-1", "changed-by-hand-22"
EXTERNAL = "grove/external.yaml"
OBJECTS = f"""
apiVersion: v1
kind: Secret
metadata: {{name: in-git}}
stringData: {{password: {PLANTED}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: blue}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  replicas: 1
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: web, image: docker.io/library/busybox:1.37, command: [sleep, "9999"]}}]
"""
APPLICATION = {
    "apiVersion": argocd.API,
    "kind": "Application",
    "metadata": {"name": NAME, "namespace": argocd.NAMESPACE},
    "spec": {
        "project": "default",
        "source": {
            "repoURL": "http://git.git:3000/platform.git",
            "path": NAME,
            "targetRevision": "main",
        },
        # It heals nothing by itself: drift stays to be seen.
        "destination": {"server": "https://kubernetes.default.svc", "namespace": SPACE},
    },
}


@pytest.fixture
def grove(world: World) -> Iterator[World]:
    """One more Application, healthy, that is synced only when somebody asks."""
    external = (manifest("07-gitops") / "shop" / "my-db-credentials.yaml").read_text()
    # Without its wave: a sync would fail at what is degraded, and go no further.
    external = external.replace('  annotations:\n    argocd.argoproj.io/sync-wave: "-1"\n', "")
    world.write("grove/objects.yaml", OBJECTS)
    world.write(EXTERNAL, external.replace("namespace: demo", f"namespace: {SPACE}"))
    world.push("A grove")
    world.must("kubectl", "create", "namespace", SPACE)
    world.must("kubectl", "apply", "-f", "-", text=yaml.safe_dump(APPLICATION))
    sync(world)
    world.wait_green((NAME,))
    yield world
    world.kube.delete(argocd.API, "Application", NAME, argocd.NAMESPACE)
    namespaces.remove(world.kube, SPACE)


def sync(world: World) -> None:
    """Once the Application is compared with the newest commit."""
    argocd.refresh(world.kube, NAME)
    world.wait(NAME, lambda seen: seen.revision == world.head, "compared with the newest commit")
    appwork.sync(world.lab, NAME)
    until(lambda: "operation" not in world.object_of(NAME), "the operation has begun")
    world.wait(NAME, lambda seen: seen.phase == "Succeeded", "synced")


def look(world: World) -> Overview:
    return apptree.look(world.kube)


def as_argocd_says(world: World, name: str) -> tuple[Any, ...]:
    """Sync, health and resources in ``argocd app get``'s own words."""
    status = world.json_of("argocd", "app", "get", name, "-o", "json")["status"]
    resources = {
        (each.get("group", ""), each["kind"], each.get("namespace", ""), each["name"]): (
            each.get("status", ""),
            (each.get("health") or {}).get("status", ""),
        )
        for each in status["resources"]
    }
    return status["sync"]["status"], status["health"]["status"], resources


def as_kubectl_says(world: World) -> dict[str, tuple[str, str]]:
    told = world.must("kubectl", "get", "applications", "-A", "--no-headers").splitlines()
    return {name: (sync, health) for _, name, sync, health in map(str.split, told)}


def as_the_tree_says(tree: Tree) -> tuple[Any, ...]:
    resources = {
        (node.group, node.kind, node.namespace, node.name): (node.sync, node.health)
        for node in tree.nodes
    }
    return tree.app.sync, tree.app.health, resources


def assert_agreement(world: World, name: str) -> Tree:
    until(
        lambda: as_the_tree_says(look(world)[name]) == as_argocd_says(world, name),
        "the tree and `argocd app get` agree",
    )
    found = look(world)
    apps = {tree.name: (tree.app.sync, tree.app.health) for tree in found.trees}
    assert apps == as_kubectl_says(world)
    return found[name]


def names_in(tree: Tree) -> set[str]:
    return {f"{node.kind}/{node.name}" for node in tree.walk()}


def former_versions(world: World) -> set[str]:
    """ReplicaSets that a Deployment has left behind."""
    return {
        f"ReplicaSet/{found['metadata']['name']}"
        for found in world.kube.list("apps/v1", "ReplicaSet")
        if not found["spec"]["replicas"]
    }


def test_a_platform_that_is_green(world: World) -> None:
    for name in APPLICATIONS:
        tree = assert_agreement(world, name)
        drawn = world.must("argocd", "app", "get", name, "-o", "tree")
        theirs = set(re.findall(r"([A-Z][a-z]\w+/\S+)", drawn))
        # Former versions and what the API server makes of a Service are left out.
        theirs -= former_versions(world)
        assert names_in(tree) == {
            each for each in theirs if not each.startswith(("ControllerRevision/", "Endpoint"))
        }
    found = look(world)
    assert [tree.name for tree in found.trees] == [
        "platform", "external-secrets-crds", "external-secrets", "vault", "store", "shop",
    ]  # fmt: skip
    secret = next(node for node in found["shop"].walk() if node.kind == "Secret")
    assert (secret.name, secret.is_tracked, secret.sync) == ("mysql-credentials", False, "")
    text = str(found)
    assert text == str(look(world)), "the same each time"
    assert re.search(r"│  └─ mysql-credentials +Secret +not tracked", text)
    assert re.search(r"├─ shop|└─ shop", text)


def test_no_value_of_a_secret_is_read(grove: World) -> None:
    values = vault.read(grove.lab.vault)
    assert values
    told = repr(look(grove)) + str(look(grove)._repr_mimebundle_())
    for value in (PLANTED, *values.values()):
        assert value not in told
        assert base64.b64encode(value.encode()).decode() not in told


@pytest.fixture
def view(grove: World) -> Iterator[AppTree]:
    made = views.apptree(grove.lab)
    until(lambda: card(made), "the view knows the Application")
    yield made
    made.close()


def card(view: AppTree) -> dict[str, Any]:
    return next((app for app in view.state["apps"] if app["name"] == NAME), {})


def press(view: AppTree, what: str) -> list[dict[str, Any]]:
    """A button of the Application; what the view then tells the browser."""
    told: list[dict[str, Any]] = []
    view.send = told.append  # type: ignore[method-assign, assignment]
    view.ask(what, NAME).join(90)
    return told


def test_drift_by_hand_is_seen_shown_and_mended(grove: World, view: AppTree) -> None:
    """kubectl keeps a Secret's values in an annotation, too: it is among what differs."""
    secret = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "in-git", "namespace": SPACE},
            "stringData": {"password": LIVE},
        }
    )
    grove.must("kubectl", "apply", "-f", "-", text=secret)
    grove.must("kubectl", "-n", SPACE, "scale", "deployment", "web", "--replicas", "2")
    grove.wait(NAME, lambda seen: seen.sync == "OutOfSync", "OutOfSync")
    until(lambda: card(view)["differs"], "the view shows it")
    tree = assert_agreement(grove, NAME)
    assert {node.name for node in tree.nodes if node.sync == "OutOfSync"} == {"in-git", "web"}

    (told,) = press(view, "diff")
    assert told["text"] == str(appwork.diff(grove.lab, NAME))
    assert re.search(r"<\s+replicas: 2", told["text"])
    assert re.search(r">\s+replicas: 1", told["text"])
    assert re.search(r"<\s+password: \++$", told["text"], re.MULTILINE)
    everything = json.dumps(told) + json.dumps(view.state) + str(view) + view.as_html()
    for value in (PLANTED, LIVE):
        assert value not in everything
        assert base64.b64encode(value.encode()).decode() not in everything
    assert card(view)["told"]["line"] == f"argocd app diff {NAME}"

    press(view, "sync")
    assert card(view)["told"]["ok"] is True
    grove.wait_green((NAME,))
    until(lambda: (card(view)["sync"], card(view)["health"]) == ("Synced", "Healthy"), "mended")
    assert appwork.diff(grove.lab, NAME).text == ""


def test_what_is_degraded_and_what_is_no_longer_in_git(grove: World, view: AppTree) -> None:
    grove.replace(EXTERNAL, "key: mysql_credentials", "key: nowhere")
    grove.replace("grove/objects.yaml", "metadata: {name: settings}", "metadata: {name: others}")
    grove.push("A key that is not there; another name")
    sync(grove)
    grove.wait(NAME, lambda seen: seen.health == "Degraded", "Degraded")
    tree = assert_agreement(grove, NAME)
    nodes = {node.name: node for node in tree.nodes}
    assert nodes["my-db-credentials"].health == "Degraded"
    assert "could not" in nodes["my-db-credentials"].note
    assert nodes["settings"].note == "no longer in Git, to be pruned"
    until(lambda: card(view)["health"] == "Degraded", "the view shows it")
    assert "my-db-credentials" in card(view)["message"]
    assert card(view)["message"] in str(view)


def test_what_cannot_be_asked(grove: World) -> None:
    for ask in (appwork.diff, appwork.sync, appwork.refresh):
        with pytest.raises(LabError, match="There is no Application nowhere"):
            ask(grove.lab, "nowhere")
