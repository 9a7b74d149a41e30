"""What there is of a lab at this moment, asked for from an event loop.

The answers come from blocking calls, which are made in a thread; callers who ask at the
same time share one, and an answer is good for a second or so.  Addresses are looked up and
never kept longer: a NodePort changes whenever the lab is reset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from labkit.errors import LabError

T = TypeVar("T")


class Shared(Generic[T]):
    """The answer of ``ask``, which blocks; good for ``seconds`` after it came."""

    def __init__(self, ask: Callable[[], T], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._until = 0.0
        self._under_way: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The answer; raises what ``ask`` raised."""
        task = self._under_way
        if task is None or (task.done() and time.monotonic() > self._until):
            self._under_way = task = asyncio.create_task(self._fetch())
        return await asyncio.shield(task)  # the others want it when this caller goes away

    async def _fetch(self) -> T:
        try:
            return await asyncio.to_thread(self._ask)
        finally:
            self._until = time.monotonic() + self._seconds

    def forget(self) -> None:
        """Ask anew next time: the answer has turned out to be out of date."""
        if self._under_way is not None and self._under_way.done():
            self._under_way = None


class Lookout:
    """One lab, as the doors ask about it.  Making one looks at nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.app_port = Shared(lambda: _app_port(name), seconds=1.0)
        self.vault_proxy = Shared(lambda: _vault_proxy(name), seconds=1.0)
        self.status = Shared(lambda: _status(name), seconds=2.0)


def _app_port(name: str) -> int | None:
    """The loopback port of the app's page; None while there is none."""
    from labkit import app, lab

    try:
        attached = lab.attach(name)
        with attached.api as kube:
            return urlsplit(app.address(kube, door=attached.paths.page_url)).port
    except LabError:
        return None


def _vault_proxy(name: str) -> str | None:
    """The lab's forward proxy, credential included; None while the lab does not run."""
    from labkit import lab

    try:
        return lab.attach(name).paths.proxy_url.read_text().strip()
    except (LabError, OSError):
        return None


def _status(name: str) -> dict[str, Any]:
    """How the lab is: what ``labkit status`` says, as far as a status bar needs it."""
    from labkit import status

    found = status.of(name)
    return {
        "name": name,
        "running": bool(found["programs"]),
        "ready": found["ready"],
        "lesson": found["lesson"],
        "sync": found.get("sync"),
        "app": bool(found["app"]["url"]),
        "vault": found["vault"]["version"],
        "problem": found.get("problem"),
    }
