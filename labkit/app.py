"""The demo application as the course meets it: over HTTP, through its Service.

The application itself is ``demo_app``; it imports nothing of labkit and labkit reads
nothing of its insides, only what its page reads too.  Where an app stands is told by the
fields of ``App``; the course's own names are their defaults.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from labkit.errors import ApiError, ClusterError, WaitTimeout
from labkit.kube import Kube, Object, is_condition

NAMESPACE = "demo"
SERVICE = "gitops-secrets-service"
PORT = "http"
DEPLOYMENT = "gitops-secrets-deploy"
LABELS = "app=gitops-secrets-app"
EXTERNAL_SECRET = "my-db-credentials"
SECRET = "mysql-credentials"


@dataclass(frozen=True)
class App:
    """A running application; ``url`` is its page's address on this machine, or "" where
    the Service can only be reached through the API server.

    ``service`` and ``port`` name its Service and that one's port, ``labels`` select its
    pods.  With a ``pod_name`` (and ``pod_port``, a containerPort) every call goes to that
    one pod instead: see ``on``.
    """

    kube: Kube
    url: str
    namespace: str = NAMESPACE
    service: str = SERVICE
    port: str = PORT
    labels: str = LABELS
    pod_name: str = ""
    pod_port: int = 0

    def __repr__(self) -> str:
        return f"App({self.url or 'through the API server'!r})"

    def on(self, pod: Object) -> App:
        """The same application as this one pod has it.

        A Service sends each call to any of its pods, and each pod counts its versions for
        itself.  Raises ClusterError when the Service has no port that leads to this pod.
        """
        found = self.kube.get("v1", "Service", self.service, self.namespace)
        ports = ((found or {}).get("spec") or {}).get("ports") or []
        wanted: int | str | None = next(
            (entry.get("targetPort", entry["port"]) for entry in ports if self._is_port(entry)),
            None,
        )
        declared = {
            entry.get("name"): entry["containerPort"]
            for container in pod["spec"]["containers"]
            for entry in container.get("ports") or []
        }
        number = wanted if isinstance(wanted, int) else declared.get(wanted)
        name = pod["metadata"]["name"]
        if number is None:
            raise ClusterError(
                f"The Service {self.service} does not lead to the pod {name}",
                seen=f"port {self.port} of the Service: "
                + (f"targetPort {wanted}" if wanted else "there is none"),
                todo=f"See `kubectl -n {self.namespace} describe service {self.service}`.",
            )
        return replace(self, pod_name=name, pod_port=number)

    def _is_port(self, entry: Object) -> bool:
        return self.port in (entry.get("name"), str(entry["port"]))

    def credentials(self) -> dict[str, Any]:
        """What the page shows: values (password masked), their sources, the version."""
        return cast("dict[str, Any]", json.loads(self._call("GET", "/api/credentials")))

    def shows(self, key: str) -> str | None:
        """One value as the page shows it after its Reveal button was pressed."""
        answer = json.loads(self._call("GET", "/api/credentials?reveal=1"))
        value = answer["values"].get(key)
        return str(value) if value is not None else None

    def history(self) -> list[dict[str, Any]]:
        """The app's own last events, oldest first: started, loaded, reloaded, ack, …"""
        answer = json.loads(self._call("GET", "/api/history"))
        events = answer["events"] if isinstance(answer, dict) else answer
        return cast("list[dict[str, Any]]", events)

    def acknowledge(self, version: int, *, client: str) -> None:
        """Say, as a page does, that this version is now shown."""
        self._call(
            "POST",
            "/api/ack",
            body={"version": version, "client": client, "rendered_at": time.time()},
        )

    def events(self, *, idle: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """The page's event stream (server-sent events): (event, data) as they come."""
        name = ""
        for line in self.kube.stream(self._base + "/api/events", idle=idle):
            text = line.decode().strip()
            if text.startswith("event:"):
                name = text[6:].strip()
            elif text.startswith("data:"):
                yield name, json.loads(text[5:])

    @contextmanager
    def page(self, client: str) -> Iterator[Page]:
        """Be a page for a while: follow the events, acknowledge each new version.

        This stands in for a browser where there is none, and says so in its name
        (``client``).
        """
        page = Page()
        is_over = threading.Event()

        def follow() -> None:
            while not is_over.is_set():
                try:
                    for name, _ in self.events(idle=20):
                        page.opened.set()
                        if is_over.is_set():
                            return
                        if name in {"reloaded", "loaded"}:
                            shown = self.credentials()["version"]
                            self.acknowledge(shown, client=client)
                            page.show(shown)
                except ClusterError:
                    is_over.wait(0.2)  # the app or the API server is restarting

        reader = threading.Thread(target=follow, name=f"page:{client}", daemon=True)
        reader.start()
        try:
            yield page
        finally:
            is_over.set()

    def wait_answering(self, *, timeout: float) -> dict[str, Any]:
        """Wait until the page has values to show; what it shows then.

        ``timeout`` is in seconds.  Raises WaitTimeout with the pod's own state.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                shown = self.credentials()
                if shown.get("version"):
                    return shown
                seen = str(shown.get("error") or "it has read no credentials yet")
            except ClusterError as error:
                seen = error.seen
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"The app's page was not ready within {timeout:g} s",
                    seen=f"{seen}; {self.pod_state()}",
                    todo=f"See `kubectl -n {self.namespace} describe pods -l {self.labels}`.",
                )
            time.sleep(0.03)

    def wait_showing(
        self, is_met: Callable[[dict[str, Any]], bool], *, timeout: float = 15.0
    ) -> dict[str, Any]:
        """Look at the page until ``is_met`` says so of what it shows; that, then.

        ``timeout`` is in seconds.  Raises WaitTimeout.
        """
        deadline = time.monotonic() + timeout
        while not is_met(shown := self.credentials()):
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"The page did not come to show what was awaited within {timeout:g} s",
                    seen=str(shown.get("error") or f"version {shown.get('version')}"),
                )
            time.sleep(0.05)
        return shown

    def pod(self) -> Object | None:
        """The app's newest pod, if there is one: a ready one before others, and none that
        is being deleted."""
        pods = [
            pod
            for pod in self.kube.list("v1", "Pod", self.namespace, labels=self.labels)
            if "deletionTimestamp" not in pod["metadata"]
        ]
        return max(
            pods,
            key=lambda pod: (is_condition(pod, "Ready"), str(pod["metadata"]["creationTimestamp"])),
            default=None,
        )

    def pod_state(self) -> str:
        """One line on the app's pod: its phase and why a container is not running."""
        pod = self.pod()
        if pod is None:
            return "no pod"
        status = pod.get("status") or {}
        waiting = [
            f"{state['reason']}: {state.get('message', '')}".strip(": ")
            for entry in status.get("containerStatuses") or []
            if (state := (entry.get("state") or {}).get("waiting"))
        ]
        return "; ".join([f"pod {status.get('phase', 'Unknown')}", *waiting])

    def _call(self, method: str, path: str, *, body: object = None) -> bytes:
        return self.kube.raw(method, self._base + path, body=body)

    @property
    def _base(self) -> str:
        """The API server's way to the app: by its Service, or to the one pod."""
        if self.pod_name:
            name = f"{self.pod_name}:{self.pod_port}"
            return f"/api/v1/namespaces/{self.namespace}/pods/{name}/proxy"
        return Kube.service_path(self.namespace, self.service, self.port)


class Page:
    """What a stand-in for a page has done so far: whether it is ``opened``, and which
    version it has acknowledged last (0 for none)."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.shown = 0
        self._news = threading.Condition()

    def show(self, version: int) -> None:
        """This version is acknowledged."""
        with self._news:
            self.shown = version
            self._news.notify_all()

    def wait_shown(self, version: int, *, timeout: float) -> bool:
        """Wait until this version or a later one is acknowledged; False after ``timeout``
        seconds without it."""
        with self._news:
            return self._news.wait_for(lambda: self.shown >= version, timeout)


def restarts(pod: Object) -> int:
    """How often the pod's containers were restarted, together."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(entry.get("restartCount", 0)) for entry in statuses)


def address(
    kube: Kube, *, namespace: str = NAMESPACE, service: str = SERVICE, door: Path | None = None
) -> str:
    """The page's address on this machine's loopback, or "" where there is none.

    It is the Service's NodePort; or what the file ``door`` says, if there is one, where the
    nodes are other machines.
    """
    try:
        found = kube.get("v1", "Service", service, namespace)
    except ApiError:
        return ""
    ports = ((found or {}).get("spec") or {}).get("ports") or []
    node_port = next((port.get("nodePort") for port in ports if port.get("nodePort")), None)
    if not node_port:
        return ""
    if door is not None:
        with suppress(FileNotFoundError):
            return door.read_text().strip()
    return f"http://127.0.0.1:{node_port}"
