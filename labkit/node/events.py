"""Tell what happened to an object through the Events of the API.

Repeats of the same event raise its count instead of making a new one, and are sent at
most every few seconds, as the kubelet's aggregation does in a larger way.  Sending never
delays a pod: events wait in a short queue and are dropped when it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from labkit.errors import ApiError, ClusterError
from labkit.node.api import Api
from labkit.node.pod import Json, Pod, timestamp

log = logging.getLogger(__name__)

_REMEMBERED = 256
_QUEUED = 500
_REPEAT_AFTER = 5.0  # seconds between two updates of the same event's count


@dataclass
class _Told:
    name: str
    first: float
    count: int = 1
    sent: float = 0.0
    queued: bool = field(default=True)


_Key = tuple[str, str, str, str, str]


class EventRecorder:
    """Events of one component (``kubelet``, ``default-scheduler``) on one node."""

    def __init__(self, api: Api, *, component: str, host: str = "") -> None:
        self._api = api
        self._source = {"component": component, **({"host": host} if host else {})}
        self._component = component
        self._instance = host or component
        self._told: OrderedDict[_Key, _Told] = OrderedDict()
        self._queue: asyncio.Queue[tuple[_Key, Json]] = asyncio.Queue(_QUEUED)

    def pod(
        self,
        pod: Pod,
        reason: str,
        message: str,
        *,
        container: str | None = None,
        warning: bool = False,
    ) -> None:
        """Record an event of a pod, or of one of its containers."""
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        }
        if container is not None:
            init = any(each["name"] == container for each in pod.init_containers)
            field_name = "initContainers" if init else "containers"
            reference["fieldPath"] = f"spec.{field_name}{{{container}}}"
        self.record(reference, reason, message, warning=warning)

    def record(self, reference: Json, reason: str, message: str, *, warning: bool = False) -> None:
        """Record an event of any object.  Returns at once."""
        kind = "Warning" if warning else "Normal"
        key = (reference["uid"], reference.get("fieldPath", ""), kind, reason, message)
        now = time.time()
        told = self._told.get(key)
        if told is not None:
            self._told.move_to_end(key)
            told.count += 1
            if told.queued or now - told.sent < _REPEAT_AFTER:
                return
            told.queued = True
        else:
            # The name is the kubelet's form: the object's, and the time in hexadecimal.
            self._told[key] = _Told(f"{reference['name']}.{time.time_ns():x}", now)
            while len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait((key, reference))

    async def run(self) -> None:
        """Send what was recorded, until cancelled."""
        while True:
            key, reference = await self._queue.get()
            told = self._told.get(key)
            if told is None:
                continue
            told.queued = False
            try:
                await self._send(key, reference, told)
            except ApiError as error:
                # A namespace that is being deleted takes no more events: nothing is lost.
                if not (error.status in (403, 404) and "terminat" in error.seen):
                    log.info("%s", error)
            except ClusterError as error:
                log.info("%s", error)

    async def _send(self, key: _Key, reference: Json, told: _Told) -> None:
        _, _, kind, reason, message = key
        now = time.time()
        # An object without a namespace (a node) has its events in "default".
        namespace = reference.get("namespace") or "default"
        path = f"/api/v1/namespaces/{namespace}/events"
        first_time = told.sent == 0.0
        told.sent = now
        if not first_time:
            with contextlib.suppress(ApiError):
                await self._api.patch(
                    f"{path}/{told.name}", {"count": told.count, "lastTimestamp": timestamp(now)}
                )
            return
        await self._api.create(
            path,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": told.name, "namespace": namespace},
                "involvedObject": dict(reference),
                "reason": reason,
                "message": message[:1024],
                "type": kind,
                "count": told.count,
                "source": self._source,
                "reportingComponent": self._component,
                "reportingInstance": self._instance,
                "firstTimestamp": timestamp(told.first),
                "lastTimestamp": timestamp(now),
            },
        )
