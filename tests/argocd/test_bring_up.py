"""From one commit on an empty lab to the secret on the page, and a rotation with no commit."""

from __future__ import annotations

import json

from argocd.world import APPLICATIONS, World
from labkit import argocd


def test_one_commit_brings_everything_up_with_no_retry(built: World) -> None:
    built.bring_up()
    assert built.must("git", "rev-list", "--count", "--all").strip() == "1"
    assert built.lab.app.credentials()["values"]["db_user"] == "demo_user"
    objects = [built.object_of(name) for name in APPLICATIONS]
    for obj in objects:
        operation = obj["status"]["operationState"]
        assert operation["phase"] == "Succeeded", obj["metadata"]["name"]
        assert not operation.get("retryCount")
        assert "conditions" not in obj["status"]
        results = operation["syncResult"].get("resources") or ()
        assert {each["status"] for each in results} <= {"Synced", "Pruned"}, results
        assert not {each.get("hookPhase") for each in results} & {"Failed", "Error"}
        assert len(obj["status"]["history"]) == 1, "one commit, one deployment"
    # The operator met Vault when it was open, the webhook when it was there.
    warned = [
        f"{event['involvedObject']['kind']} {event['reason']}: {event['message']}"
        for event in built.kube.list("v1", "Event")
        if event.get("type") == "Warning"
        and event["involvedObject"]["kind"]
        in ("ClusterSecretStore", "SecretStore", "ExternalSecret", "Application")
    ]
    assert warned == []
    assert all(
        not status["restartCount"]
        for pod in built.kube.list("v1", "Pod")
        for status in pod["status"].get("containerStatuses") or ()
    )


def test_everybody_says_the_same_of_the_applications(world: World) -> None:
    ours = {name: (each.sync, each.health) for name, each in world.apps().items()}
    assert ours == dict.fromkeys(APPLICATIONS, ("Synced", "Healthy"))
    printed = world.must("kubectl", "get", "applications", "-A", "--no-headers").splitlines()
    assert {line.split()[1]: tuple(line.split()[2:]) for line in printed} == ours
    listed = world.json_of("argocd", "app", "list", "-o", "json")
    assert {each["metadata"]["name"]: _says(each) for each in listed} == ours
    for name in APPLICATIONS:
        got = world.json_of("argocd", "app", "get", name, "-o", "json")
        assert _says(got) == ours[name]
        assert str(argocd.read(got)) == f"{name} Synced, Healthy"


def _says(obj: dict[str, dict[str, dict[str, str]]]) -> tuple[str, str]:
    return obj["status"]["sync"]["status"], obj["status"]["health"]["status"]


def test_a_rotation_takes_no_commit_no_sync_and_no_restart(world: World) -> None:
    def state() -> str:
        histories = {
            name: (world.apps()[name].revision, world.object_of(name)["status"]["history"])
            for name in APPLICATIONS
        }
        commits = world.must("git", "ls-remote", "origin"), world.must("git", "rev-list", "--all")
        return json.dumps([histories, commits], sort_keys=True)

    before, pod, shown = state(), world.lab.app.pod(), world.lab.app.credentials()["version"]
    journey = world.lab.journey(timeout=60)
    assert journey.pod_restarts == 0
    after = world.lab.app.pod()
    assert pod
    assert after
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert world.lab.app.credentials()["version"] == shown + 1
    world.wait_green()
    assert state() == before
