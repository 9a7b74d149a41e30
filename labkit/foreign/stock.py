"""The course's app in a cluster that has no image of it: its files in a ConfigMap, run by a
stock Python image.

The manifests say ``localhost/gitops-secrets-app``, an image that no registry has and that
the embedded node takes from its table.  Elsewhere the cluster itself puts something else in
its place when a pod is made: a MutatingAdmissionPolicy, for pods of that very image in the
lab's own namespaces and for no other.  So manifests, lessons and what a learner types stay
the same text everywhere.

The app is stand-alone and needs nothing but Python's own library (see ``demo_app``).
Source: "Mutating Admission Policy" in Kubernetes' reference (v1.36).
"""

from __future__ import annotations

import time
from pathlib import Path

from labkit.errors import ApiError, WaitTimeout
from labkit.foreign.claim import LAB, Claim
from labkit.kube import Kube, Object

IMAGE = "localhost/gitops-secrets-app:1.0"
STOCK = "docker.io/library/python:3.13-slim"
FILES = "gitops-secrets-app"
"""The ConfigMap with the app's files."""
_PLACE = "/opt/demo_app"
_VOLUME = "gitops-secrets-app"
_MOST = 10  # containers of a pod that are looked at: lesson 06's lanes are as many
_API = "admissionregistration.k8s.io/v1"


def files(namespace: str) -> Object:
    """The app's own files, for pods of one namespace."""
    texts = _texts()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FILES, "namespace": namespace},
        "data": {_key(name): text for name, text in texts.items()},
    }


def policy(claim: Claim) -> tuple[Object, Object]:
    """The policy that puts the stock image in the app's place, and its binding."""
    name = f"{claim.namespace}-app"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    return (
        {
            "apiVersion": _API,
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name, "labels": claim.labels},
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {LAB: claim.lab}},
                    "resourceRules": [rule],
                },
                "matchConditions": [
                    {
                        "name": "the-courses-app",
                        "expression": f"object.spec.containers.exists(c, c.image == '{IMAGE}')",
                    }
                ],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _mutation()}}],
            },
        },
        {
            "apiVersion": _API,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": claim.labels},
            "spec": {"policyName": name},
        },
    )


def provide(kube: Kube, claim: Claim, namespace: str, *, timeout: float = 30.0) -> None:
    """Have the app's pods in ``namespace`` (which is there, and the lab's) run; safe to repeat.

    A new policy is not in force at once; a pod that came before would never start.  So this
    waits, at most ``timeout`` seconds.  Raises WaitTimeout.
    """
    for obj in (*policy(claim), files(namespace)):
        kube.apply(obj)
    deadline = time.monotonic() + timeout
    while (image := _tried(kube, namespace)) != STOCK:
        if time.monotonic() > deadline:
            raise WaitTimeout(
                "The cluster does not put a stock image in the place of the course's app",
                seen=f"a pod would run {image}",
                todo=f"See `kubectl describe mutatingadmissionpolicy {claim.namespace}-app`.",
            )
        time.sleep(0.2)


def _tried(kube: Kube, namespace: str) -> str:
    """What a pod of the app would run; nothing is made."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "try-"},
        "spec": {"containers": [{"name": "app", "image": IMAGE}]},
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        made = kube.request("POST", path, body=pod, query={"dryRun": "All"})
    except ApiError as error:  # the namespace's ServiceAccount is not there yet, say
        return error.seen
    return str(made["spec"]["containers"][0]["image"])


def _mutation() -> str:
    """In CEL: for each container of the app another image and command, and where to listen;
    the files as one more volume of the pod."""
    volume = (
        f"Object.spec.volumes{{name: '{_VOLUME}', configMap: Object.spec.volumes.configMap{{"
        f"name: '{FILES}', items: [{_items()}]}}}}"
    )
    parts = [f"[\n{_more('object.spec', '/spec', 'volumes', volume)}\n]"]
    return " + ".join([*parts, *map(_container, range(_MOST))])


def _container(number: int) -> str:
    owner, path = f"object.spec.containers[{number}]", f"/spec/containers/{number}"
    mount = (
        f"Object.spec.containers.volumeMounts{{name: '{_VOLUME}', mountPath: '{_PLACE}', "
        "readOnly: true}"
    )
    # Whatever listens on all addresses says so in one word with its port: nodes that stand in
    # for a network (this course's own) look for such words.
    port = f"(has({owner}.ports) ? string({owner}.ports[0].containerPort) : '8080')"
    listen = f"Object.spec.containers.env{{name: 'LISTEN', value: '0.0.0.0:' + {port}}}"
    changes = (
        _set(f"{path}/image", f"'{STOCK}'", "replace"),
        _set(f"{path}/command", f"['python3', '{_PLACE}']"),
        _more(owner, path, "env", listen),
        _more(owner, path, "volumeMounts", mount),
    )
    separator = ",\n"
    is_ours = f"size(object.spec.containers) > {number} && {owner}.image == '{IMAGE}'"
    return f"(({is_ours}) ? [\n{separator.join(changes)}\n] : [])"


def _items() -> str:
    return ", ".join(
        f"Object.spec.volumes.configMap.items{{key: '{_key(name)}', path: '{name}'}}"
        for name in sorted(_texts())
    )


def _set(path: str, value: str, op: str = "add") -> str:
    return f"  JSONPatch{{op: '{op}', path: '{path}', value: {value}}}"


def _more(owner: str, path: str, field: str, value: str) -> str:
    """One more entry of a list that may not be there."""
    return (
        f"  JSONPatch{{op: 'add', path: has({owner}.{field}) ? '{path}/{field}/-' : "
        f"'{path}/{field}', value: has({owner}.{field}) ? dyn({value}) : dyn([{value}])}}"
    )


def _texts() -> dict[str, str]:
    """The app's files by their names below its folder."""
    root = Path(__file__).parent.parent / "demo_app"
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix in {".py", ".html", ".css", ".js"}
    }


def _key(name: str) -> str:
    """A file's name as a ConfigMap's key, which may hold no slash."""
    return name.replace("/", "__")
