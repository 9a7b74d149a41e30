"""From a write to where it shows: Vault to the app's page, a Secret to a pod's file."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from bench.results import Measure
from bench.sandbox import Say, until
from labkit import app, eso
from labkit.errors import LabError
from labkit.journey import Journey
from labkit.kube import Object, is_condition
from labkit.lab import Lab

_REFRESH = 5.0


def measure_page(lab: Lab, forced: int, refreshed: int, say: Say) -> list[Measure]:
    """Vault write to page: ``forced`` journeys with a sync asked for at once, and
    ``refreshed`` ones at a refreshInterval of 5 s, spread evenly over that interval."""
    lab.journey(timeout=60)  # the first warms connections up
    quick = [_page(lab.journey(timeout=60)) for _ in range(forced)]
    say(f"Vault to page, forced: {len(quick)} journeys, slowest {max(quick):.3f} s")
    slow = []
    with _refresh_interval(lab, f"{_REFRESH:g}s"):
        for turn in range(refreshed):
            # One journey ends just after a refresh; without a pause, the next would always
            # begin there, and measure the whole interval each time.
            time.sleep(_REFRESH * turn / refreshed)
            slow.append(_page(lab.journey(forced=False, timeout=60)))
            say(f"Vault to page, refresh {turn + 1} of {refreshed}: {slow[-1]:.3f} s")
    return [
        Measure("page-forced", "Vault write → page, forced sync", "s", tuple(quick)),
        Measure("page-5s", "Vault write → page, refreshInterval 5 s", "s", tuple(slow)),
    ]


def _page(journey: Journey) -> float:
    if journey.seconds is None or journey.pod_restarts:
        raise LabError("A rotation did not reach the page in the same pod", seen=str(journey))
    return journey.seconds


@contextlib.contextmanager
def _refresh_interval(lab: Lab, interval: str) -> Iterator[None]:
    found = lab.api.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)
    if found is None:
        raise LabError("The lab has no ExternalSecret", todo="Run `labkit reset`.")
    before = found["spec"]["refreshInterval"]

    def set_to(value: str) -> None:
        body = {"spec": {"refreshInterval": value}}
        lab.api.patch(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, body, app.NAMESPACE)

    set_to(interval)
    try:
        yield
    finally:
        set_to(before)


def measure_file(lab: Lab, count: int, say: Say) -> list[Measure]:
    """A Secret's patch being sent, to the node's rename that shows the new value.

    The end is what the node's journal says of that very resourceVersion; the beginning is
    before the API server has even stored it, so this is an upper bound.
    """
    with _namespace(lab) as namespace:
        lab.apply(_MOUNTED, namespace=namespace)
        pod = lab.wait_for("pod/reader", "Ready", namespace=namespace, timeout=60)
        assert pod is not None  # noqa: S101 - is_condition is never true of None
        journal = _Journal(lab.paths.journal, pod["metadata"]["uid"])
        took = []
        for turn in range(count):
            value = base64.b64encode(f"value {turn}".encode()).decode()
            sent = time.time()
            answer = lab.api.patch("v1", "Secret", "read", {"data": {"key": value}}, namespace)
            took.append(journal.swapped_at(answer["metadata"]["resourceVersion"]) - sent)
    say(f"Secret to file: {len(took)} changes, slowest {max(took) * 1000:.0f} ms")
    title = f"Secret change → file in the pod, sync mode {lab.sync}"
    return [Measure("file", title, "s", tuple(took))]


_MOUNTED = """
apiVersion: v1
kind: Secret
metadata: {name: read}
stringData: {key: first}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: pause
      image: registry.k8s.io/pause:3.10
      volumeMounts: [{name: read, mountPath: /read}]
  volumes: [{name: read, secret: {secretName: read}}]
"""


class _Journal:
    """The node's journal from now on, as far as one pod is concerned."""

    def __init__(self, path: Path, uid: str) -> None:
        self._path = path
        self._uid = uid
        self._offset = path.stat().st_size
        self._swaps: dict[str, float] = {}

    def swapped_at(self, version: str) -> float:
        """When the volume showed this resourceVersion, in unix seconds."""
        until(
            lambda: version in self._read(), what="the node's rename", limit=150, pause=0.005
        )  # the kubelet's way takes up to 90 s
        return self._swaps[version]

    def _read(self) -> dict[str, float]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half written
                self._offset += len(line)
                entry: Object = json.loads(line)
                if entry["event"] == "volume-swapped" and entry["uid"] == self._uid:
                    self._swaps[str(entry["source"]["resourceVersion"])] = entry["at"]
        return self._swaps


def measure_many(lab: Lab, size: int, count: int, say: Say) -> list[Measure]:
    """``size`` ExternalSecrets in a new namespace: first create sent, to all synced."""
    took = []
    for turn in range(count):
        with _namespace(lab) as namespace:
            took.append(_sync_all(lab, namespace, size))
            say(f"{size} ExternalSecrets, {turn + 1} of {count}: {took[-1]:.2f} s; cleaning")
            path = eso.EXTERNAL_SECRET.path(namespace)
            lab.api.request("DELETE", path)  # while ESO runs: the finalizers are its own
            until(
                lambda path=path: not lab.api.request("GET", path)["items"],  # type: ignore[misc]
                what="ExternalSecrets deleted",
                limit=120,
                pause=0.2,
            )
    return [
        Measure(f"many-{size}", f"{size} ExternalSecrets created → all synced", "s", tuple(took))
    ]


def _sync_all(lab: Lab, namespace: str, size: int) -> float:
    path = eso.EXTERNAL_SECRET.path(namespace)
    since = lab.api.request("GET", path)["metadata"]["resourceVersion"]
    began = time.monotonic()
    for number in range(size):
        lab.api.request("POST", path, body=_external_secret(f"es-{number:04}"))
    synced: set[str] = set()
    for _, seen in lab.api.watch(path, since=since, idle=60):
        if is_condition(seen, "Ready"):
            synced.add(seen["metadata"]["name"])
        if len(synced) == size:
            return time.monotonic() - began
    raise LabError(f"{len(synced)} of {size} ExternalSecrets were synced, and then no more")


def _external_secret(name: str) -> Object:
    return {
        "apiVersion": eso.API,
        "kind": "ExternalSecret",
        "metadata": {"name": name},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault-backend"},
            "target": {"name": name},
            "data": [
                {
                    "secretKey": "password",
                    "remoteRef": {"key": "mysql_credentials", "property": "password"},
                }
            ],
        },
    }


@contextlib.contextmanager
def _namespace(lab: Lab) -> Iterator[str]:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    lab.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        lab.api.delete("v1", "Namespace", name)
        until(
            lambda: lab.api.get("v1", "Namespace", name) is None,
            what=f"namespace {name} gone",
            limit=120,
            pause=0.1,
        )
