"""Read a pod object: one frozen view with the questions that the node asks.

The object itself stays the dictionary that the API gave; this view names its parts
and fills in the API's defaults.  It decides nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Json = Mapping[str, Any]
"""An object of the API, or a part of one, as it came."""

DEFAULT_GRACE = 30.0


@dataclass(frozen=True)
class Pod:
    """A pod as the API tells it."""

    object: Json

    def __repr__(self) -> str:
        return f"<Pod {self.text}>"

    @property
    def metadata(self) -> Json:
        return self.object["metadata"]  # type: ignore[no-any-return]

    @property
    def spec(self) -> Json:
        return self.object["spec"]  # type: ignore[no-any-return]

    @property
    def status(self) -> Json:
        return self.object.get("status") or {}

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def namespace(self) -> str:
        return str(self.metadata["namespace"])

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def generation(self) -> int:
        return int(self.metadata.get("generation") or 0)

    @property
    def text(self) -> str:
        """``name_namespace(uid)``, as the kubelet writes a pod in its messages."""
        return f"{self.name}_{self.namespace}({self.uid})"

    @property
    def path(self) -> str:
        """The object's address in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @cached_property
    def containers(self) -> tuple[Json, ...]:
        return tuple(self.spec["containers"])

    @cached_property
    def init_containers(self) -> tuple[Json, ...]:
        return tuple(self.spec.get("initContainers") or ())

    @property
    def all_containers(self) -> Iterator[Json]:
        """Every container that the node runs, init containers first."""
        yield from self.init_containers
        yield from self.containers

    def container(self, name: str) -> Json:
        """The container called ``name``; KeyError when there is none."""
        for container in self.all_containers:
            if container["name"] == name:
                return container
        raise KeyError(name)

    @property
    def restart_policy(self) -> str:
        return str(self.spec.get("restartPolicy") or "Always")

    @property
    def volumes(self) -> tuple[Json, ...]:
        return tuple(self.spec.get("volumes") or ())

    @property
    def service_account(self) -> str:
        return str(self.spec.get("serviceAccountName") or "default")

    @property
    def hostname(self) -> str:
        return str(self.spec.get("hostname") or self.name)[:63]

    @property
    def deleting(self) -> bool:
        return bool(self.metadata.get("deletionTimestamp"))

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL, as the deletion or else the spec says."""
        asked = self.metadata.get("deletionGracePeriodSeconds") if self.deleting else None
        if asked is None:
            asked = self.spec.get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if asked is None else float(asked)

    @property
    def finished(self) -> bool:
        """Whether the API already has it as Succeeded or Failed, which never changes back."""
        return self.status.get("phase") in ("Succeeded", "Failed")


def is_sidecar(container: Json) -> bool:
    """Whether this init container keeps running beside the main ones."""
    return container.get("restartPolicy") == "Always"


def timestamp(at: float) -> str:
    """Unix seconds as the API writes a time (RFC 3339, whole seconds)."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(at: float) -> str:
    """Unix seconds as the API writes a MicroTime (leases)."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
