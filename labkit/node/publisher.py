"""Tell the API a pod's status: changes gathered for a moment, sent until they are taken.

What the status is comes from ``status``; when it changed is the pod worker's business.
The worker never waits for the API, but for a pod's last status, before the pod is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from labkit.errors import ApiError, ClusterError
from labkit.node.api import STRATEGIC_PATCH, Api
from labkit.node.pod import Json, Pod

log = logging.getLogger(__name__)

_GATHER = 0.01  # seconds; changes within this time are told together


class Publisher:
    """The status of one pod on its way to the API."""

    def __init__(self, api: Api, pod: Pod) -> None:
        self._api = api
        self._pod = pod
        self.status: Json = {}
        """What was last asked to be told; {} before that."""
        self._told: Json | None = None
        self._news = asyncio.Event()
        self._done = asyncio.Event()

    def tell(self, status: Json) -> None:
        """Have ``status`` told, if it is another one.  Returns at once."""
        if status != self.status:
            self.status = status
            self._done.clear()
            self._news.set()

    async def wait_told(self) -> None:
        """Wait until the API has the last status, or has no such pod any more."""
        await self._done.wait()

    async def run(self) -> None:
        """Send what is to be told, until cancelled."""
        pause = 0.1
        while True:
            await self._news.wait()
            await asyncio.sleep(_GATHER)
            self._news.clear()
            if self.status != self._told:
                failed = await self._send()
                if failed is not None:
                    self._news.set()
                    pause = min(pause * 2, failed)
                    await asyncio.sleep(pause)
                    continue
                pause = 0.1
            if not self._news.is_set():
                self._done.set()

    async def _send(self) -> float | None:
        """Send it once.  None when it need not be sent again, else the longest pause."""
        status: dict[str, Any] = dict(self.status)
        body = {"metadata": {"uid": self._pod.uid}, "status": status}
        try:
            await self._api.patch(f"{self._pod.path}/status", body, content_type=STRATEGIC_PATCH)
        except ApiError as error:
            if error.status in (404, 409):  # gone, or another pod of that name: the watch tells
                return None
            log.warning("the status of %s was refused: %s", self._pod.text, error)
            return 10.0
        except ClusterError as error:
            log.info("%s", error)
            return 2.0
        self._told = status
        return None
