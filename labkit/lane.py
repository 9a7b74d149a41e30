"""One way from Vault to an app, made to be measured: its key, its ExternalSecret, its app.

It says what can be done with a lane and seen of it; ``lanes`` makes lanes and takes them
away, ``rounds`` decides when a secret is rotated.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

import hvac

from labkit import eso, vault
from labkit.app import App, Page
from labkit.kube import Kube, Object
from labkit.trail import Rotation, volumes_of

NAMESPACE = "latency"
POD = "lanes"
FOLDER = "latency"  # of the lanes' keys, below the KV mount


@dataclass(frozen=True)
class Look:
    """A lane at one moment.  Fingerprints are the app's own: equal for equal values, and
    good for nothing outside its process."""

    pod_uid: str
    started_at: str
    restarts: int
    app: tuple[int, float]
    version: int
    env: str | None
    subpath: str | None


@dataclass(frozen=True, order=True)
class Sync:
    """Up to where ESO has come with an ExternalSecret: the generation of its spec, and when
    it read last (unix seconds, whole ones; 0.0 for never)."""

    generation: int
    at: float


@dataclass(frozen=True)
class Lane:
    """One way: ``app`` is its app, ``page`` the stand-in that acknowledges what it shows."""

    kube: Kube
    client: hvac.Client
    name: str
    app: App
    page: Page
    pod: Object

    @property
    def key(self) -> str:
        """Its key below the KV mount."""
        return f"{FOLDER}/{self.name}"

    def write(self, *, started: float) -> Rotation:
        """Write a new password to Vault; what to look for from ``started`` on."""
        return Rotation(
            key=self.key,
            version=vault.write(self.client, new_values(), key=self.key),
            namespace=NAMESPACE,
            secret=self.name,
            pod_uid=self.pod["metadata"]["uid"],
            volumes=volumes_of(self.pod, self.name),
            started=started,
        )

    def refresh_every(self, interval: str) -> Sync:
        """Set the ExternalSecret's refreshInterval; what is true once ESO has read because
        of that, which it does at once."""
        body = {"spec": {"refreshInterval": interval}}
        found = self.kube.patch(eso.API, "ExternalSecret", self.name, body, NAMESPACE)
        return Sync(int(found["metadata"]["generation"]), 0.0)

    def synced(self) -> Sync:
        """What ESO has read for this lane so far."""
        found = self.kube.get(eso.API, "ExternalSecret", self.name, NAMESPACE)
        status = (found or {}).get("status") or {}
        generation = str(status.get("syncedResourceVersion") or "0").partition("-")[0]
        stamp = status.get("refreshTime")
        return Sync(int(generation), datetime.fromisoformat(stamp).timestamp() if stamp else 0.0)

    def look(self) -> Look:
        """The lane as the cluster and its app have it now."""
        pod = self.kube.get("v1", "Pod", POD, NAMESPACE) or {"metadata": {"uid": ""}}
        statuses = (pod.get("status") or {}).get("containerStatuses") or []
        status: Object = next((each for each in statuses if each["name"] == self.name), {})
        running = (status.get("state") or {}).get("running") or {}
        shown = self.app.credentials()
        marks = {each["kind"]: each["fingerprint"] for each in shown["other_sources"]}
        return Look(
            pod_uid=pod["metadata"]["uid"],
            started_at=str(running.get("startedAt", "")),
            restarts=int(status.get("restartCount", 0)),
            app=(shown["pid"], shown["started_at"]),
            version=shown["version"],
            env=marks.get("env"),
            subpath=marks.get("subpath"),
        )


def new_values() -> dict[str, str]:
    """Values with a new random password."""
    return {
        "url": "jdbc:mysql://mysql.latency:3306/shop",
        "username": "lane_user",
        "password": secrets.token_urlsafe(12),
    }
