"""The demo application as the course meets it: over HTTP, through its Service.

The application itself is ``demo_app``; it imports nothing of labkit and labkit reads
nothing of its insides, only what its page reads too.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from labkit.errors import ApiError, ClusterError, WaitTimeout
from labkit.kube import Kube, Object

NAMESPACE = "demo"
SERVICE = "gitops-secrets-service"
PORT = "http"
DEPLOYMENT = "gitops-secrets-deploy"
LABELS = "app=gitops-secrets-app"
EXTERNAL_SECRET = "my-db-credentials"
SECRET = "mysql-credentials"


@dataclass(frozen=True)
class App:
    """The running application; ``url`` is its page's address on this machine, or ""
    where the Service can only be reached through the API server."""

    kube: Kube
    url: str

    def __repr__(self) -> str:
        return f"App({self.url or 'through the API server'!r})"

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
        path = Kube.service_path(NAMESPACE, SERVICE, PORT) + "/api/events"
        for line in self.kube.stream(path, idle=idle):
            text = line.decode().strip()
            if text.startswith("event:"):
                name = text[6:].strip()
            elif text.startswith("data:"):
                yield name, json.loads(text[5:])

    @contextmanager
    def page(self, client: str) -> Iterator[threading.Event]:
        """Be a page for a while: follow the events, acknowledge each new version.

        Yields an event that is set once the stream is open.  This stands in for a
        browser where there is none, and says so in its name (``client``).
        """
        is_open = threading.Event()
        is_over = threading.Event()

        def follow() -> None:
            while not is_over.is_set():
                try:
                    for name, _ in self.events(idle=20):
                        is_open.set()
                        if is_over.is_set():
                            return
                        if name in {"reloaded", "loaded"}:
                            shown = self.credentials()["version"]
                            self.acknowledge(shown, client=client)
                except ClusterError:
                    is_over.wait(0.2)  # the app or the API server is restarting

        reader = threading.Thread(target=follow, name=f"page:{client}", daemon=True)
        reader.start()
        try:
            yield is_open
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
                    todo=f"See `kubectl -n {NAMESPACE} describe pods -l {LABELS}`.",
                )
            time.sleep(0.03)

    def pod(self) -> Object | None:
        """The app's newest pod that is not being deleted, if there is one."""
        pods = [
            pod
            for pod in self.kube.list("v1", "Pod", NAMESPACE, labels=LABELS)
            if "deletionTimestamp" not in pod["metadata"]
        ]
        return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

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
        return self.kube.service(method, NAMESPACE, SERVICE, PORT, path, body=body)


def restarts(pod: Object) -> int:
    """How often the pod's containers were restarted, together."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(entry.get("restartCount", 0)) for entry in statuses)


def address(kube: Kube) -> str:
    """The page's address by NodePort on this machine's loopback, or ""."""
    try:
        service = kube.get("v1", "Service", SERVICE, NAMESPACE)
    except ApiError:
        return ""
    ports = ((service or {}).get("spec") or {}).get("ports") or []
    node_port = next((port.get("nodePort") for port in ports if port.get("nodePort")), None)
    return f"http://127.0.0.1:{node_port}" if node_port else ""
