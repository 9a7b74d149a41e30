"""Lesson 05's first exercise: the application, deployed so that its page shows the secret."""

from __future__ import annotations

from labkit import app, vault, workloads
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import is_behind, slip
from labkit.course.lesson_05_looks import (
    FIELDS,
    deployment,
    finds_its_file,
    missing_secrets,
    newest_pod,
)
from labkit.course.model import Exercise, Fault
from labkit.course.script import applied
from labkit.errors import ClusterError
from labkit.kube import Object

_READY = "/health/ready"


@expects("the application is deployed")
def is_deployed(scene: Scene) -> Finding:
    expected = f"the Deployment {app.DEPLOYMENT} has a pod"
    found = deployment(scene, app.DEPLOYMENT)
    if found is None:
        return not_yet(
            expected,
            f"the namespace {app.NAMESPACE} has no such Deployment",
            next="Fill in the blanks and run the cell.",
            blocks=True,
        )
    if not found["spec"].get("replicas"):
        return not_yet(
            expected,
            "it is to have 0 replicas",
            next=f"`kubectl -n {app.NAMESPACE} scale deployment {app.DEPLOYMENT} --replicas=1`.",
            hint="spec.replicas says how many pods there are to be: none, at present.",
            blocks=True,
        )
    if newest_pod(scene, app.DEPLOYMENT):
        return met(expected)
    return not_yet(
        expected, "there is no pod yet", next="Wait a moment.", settling=True, blocks=True
    )


@expects("the Secret that it mounts is there")
def has_secret(scene: Scene) -> Finding:
    expected = f"its pod mounts the Secret {app.SECRET}"
    missing = missing_secrets(scene, newest_pod(scene, app.DEPLOYMENT) or _NOTHING)
    if not missing:
        return met(expected)
    return not_yet(
        expected,
        f"it waits for a Secret {missing[0]}, and there is none",
        next=f"`kubectl -n {app.NAMESPACE} get secrets` shows which there are.",
        hint="Read `kubectl -n demo describe pods -l app=gitops-secrets-app`: FailedMount. A pod "
        "does not start before its Secrets are there. It mounts the Secret that ESO wrote "
        f"({app.SECRET}), not the ExternalSecret ({app.EXTERNAL_SECRET}).",
        blocks=True,
    )


@expects("it has read its file")
def has_read(scene: Scene) -> Finding:
    return finds_its_file(scene, app.DEPLOYMENT)


@expects("it is asked the right question")
def asks_ready(scene: Scene) -> Finding:
    expected = f"Kubernetes asks {_READY} whether the pod may get requests"
    pod = newest_pod(scene, app.DEPLOYMENT) or _NOTHING
    probe = pod["spec"]["containers"][0].get("readinessProbe") or {}
    path = (probe.get("httpGet") or {}).get("path")
    if path == _READY:
        return met(expected)
    return not_yet(
        expected,
        f"it asks {path}" if path else "it asks nothing",
        next="Look at the readinessProbe.",
        hint=f"/health/live only says that the process runs. {_READY} says no until the file has "
        "been read, and so no request meets a page without values.",
    )


@expects("the page shows what Vault holds")
def page_shows(scene: Scene) -> Finding:
    expected = f"the page behind {app.SERVICE} shows what Vault holds, from the file"
    held = vault.read(scene.vault) or {}
    page = scene.lab.app
    try:
        shown = page.credentials()
        kinds = {each["kind"] for each in shown["sources"].values()}
        wrong = [name for name, field in FIELDS.items() if page.shows(name) != held.get(field)]
    except ClusterError:
        return _no_page(scene, expected)
    if not wrong and kinds == {"file"}:
        return met(expected)
    if shown["stale"]:
        return not_yet(
            expected,
            f"it keeps the old values, since it cannot use the new file: {shown['error']}",
            next="Look in Vault for what does not belong in a value: a quote, or a line's end.",
        )
    return not_yet(
        expected,
        f"{wrong[0] if wrong else 'a value'} is something else",
        next="Wait for ESO's next look at Vault (15 seconds), or ask it to look now.",
        settling=is_behind(scene, app.EXTERNAL_SECRET, app.NAMESPACE, vault.KEY),
    )


def _no_page(scene: Scene, expected: str) -> Finding:
    service = scene.kube.get("v1", "Service", app.SERVICE, app.NAMESPACE)
    wanted = ((service or {}).get("spec") or {}).get("selector") or {}
    pod = newest_pod(scene, app.DEPLOYMENT) or _NOTHING
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if service and wanted.items() <= labels.items():
        return not_yet(expected, "the pod is not ready yet", next="Wait a moment.", settling=True)
    return not_yet(
        expected,
        "the Service leads to no pod" if service else "there is no such Service",
        next=f"Compare `kubectl -n {app.NAMESPACE} get pods --show-labels` with the Service's "
        "selector.",
        hint="A Service finds its pods by their labels: its selector and the labels in the "
        "Deployment's template have to be the same, app: gitops-secrets-app.",
    )


_NOTHING: Object = {"spec": {"containers": [{}], "volumes": []}}

_SCRIPT = applied(workloads.APPLICATION_FILE)

DEPLOY = Exercise(
    name="deploy",
    title="The application reads a file",
    script=_SCRIPT,
    undo=f"kubectl -n {app.NAMESPACE} delete deployment/{app.DEPLOYMENT} service/{app.SERVICE} "
    "--ignore-not-found\n",
    blanks=(
        f"path: ⟦{_READY}⟧",
        "mountPath: ⟦/secrets⟧",
        f"secretName: ⟦{app.SECRET}⟧",
    ),
    expectations=(is_deployed, has_secret, has_read, asks_ready, page_shows),
    hints=(
        "The application opens /secrets/credentials. The Secret is the one that ESO wrote: "
        f"`kubectl -n {app.NAMESPACE} get secrets`.",
        f"The three blanks are {_READY}, /secrets and {app.SECRET}.",
    ),
    faults=(
        Fault(
            "no replicas",
            f"kubectl -n {app.NAMESPACE} scale deployment {app.DEPLOYMENT} --replicas=0",
            is_deployed,
            "spec.replicas",
        ),
        Fault(
            "the ExternalSecret's name",
            slip(_SCRIPT, f"secretName: {app.SECRET}", f"secretName: {app.EXTERNAL_SECRET}"),
            has_secret,
            "FailedMount",
        ),
        Fault(
            "mounted somewhere else",
            slip(_SCRIPT, "mountPath: /secrets", "mountPath: /secret"),
            has_read,
            "mountPath",
        ),
        Fault("ready too early", slip(_SCRIPT, _READY, "/health/live"), asks_ready, "no until"),
        Fault(
            "the Service looks for another label",
            f"kubectl -n {app.NAMESPACE} patch service {app.SERVICE} "
            '-p \'{"spec":{"selector":{"app":"gitops-secret-app"}}}\'',
            page_shows,
            "selector",
        ),
    ),
)
