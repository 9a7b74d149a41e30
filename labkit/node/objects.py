"""The Secrets and ConfigMaps that this node's pods refer to, kept up to date.

One watch per object, as the kubelet does it: the node may then be given only what its
pods name (the API server's Node authorizer allows no more), memory grows with what is
mounted instead of with what exists, and a change arrives by itself.  What is done with
a change is left to others.

How an object is followed:

1. GET it.  A quorum read: exact, and not held up by the watch cache.
2. Watch its name from resourceVersion 0, which never is "too old".  The server first
   repeats what it has; anything not newer than what is known is passed over.
3. When the watch ends, begin again at 1, which also finds a deletion that was missed.

An ``immutable`` object is read once and not watched, like the kubelet's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from labkit.errors import ApiError, ClusterError
from labkit.node.api import Api, Object, version_of

log = logging.getLogger(__name__)

# The API server's authorizer learns of a pod's references a moment after the node
# does; until then it answers 403, which is only believed after this many seconds.
_TRUST_REFUSAL_AFTER = 2.0


class Key(NamedTuple):
    """Names one Secret or ConfigMap."""

    kind: str  # "Secret" or "ConfigMap"
    namespace: str
    name: str

    @property
    def path(self) -> str:
        plural = "secrets" if self.kind == "Secret" else "configmaps"
        return f"/api/v1/namespaces/{self.namespace}/{plural}"


class _Entry:
    def __init__(self, key: Key) -> None:
        self.key = key
        self.users: set[str] = set()
        self.item: Object | None = None
        self.error: ClusterError | None = None
        self.known = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def version(self) -> int:
        return int(version_of(self.item)) if self.item is not None else 0


class ObjectStore:
    """Follows objects for as long as a pod holds them.

    ``on_change(key, users)`` is called in the event loop with the uids of the pods that
    hold the object, after it was first read, changed, or deleted.
    """

    def __init__(self, api: Api, on_change: Callable[[Key, frozenset[str]], None]) -> None:
        self._api = api
        self._on_change = on_change
        self._entries: dict[Key, _Entry] = {}

    def hold(self, user: str, keys: Iterable[Key]) -> None:
        """Follow exactly ``keys`` for the pod ``user``; an empty set lets all go."""
        wanted = set(keys)
        for key in wanted:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(key)
            if user not in entry.users:
                entry.users.add(user)
                # A new user of an immutable object reads it afresh: it may have been
                # deleted and made anew.
                if entry.task is None or entry.task.done():
                    entry.known.clear()
                    entry.task = asyncio.create_task(self._follow(entry), name=f"watch {key.name}")
        for key, entry in list(self._entries.items()):
            if user in entry.users and key not in wanted:
                entry.users.discard(user)
                if not entry.users:
                    del self._entries[key]
                    if entry.task is not None:
                        entry.task.cancel()

    async def ready(self, keys: Iterable[Key]) -> None:
        """Wait until each of ``keys``, held by someone, has been looked for once."""
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None:
                await entry.known.wait()

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object as last seen, None when it does not exist.

        Raises ApiError when the API refuses to show it.
        """
        entry = self._entries.get(Key(kind, namespace, name))
        if entry is None:
            return None
        if entry.error is not None:
            raise entry.error
        return entry.item

    def watched(self) -> int:
        """How many objects are followed now."""
        return len(self._entries)

    async def close(self) -> None:
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        self._entries.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, entry: _Entry) -> None:
        refused_since: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._read(entry)
                refused_since = None
                if entry.item is not None and entry.item.get("immutable"):
                    return
                await self._watch(entry)
                pause = 0.02
            except ApiError as error:
                refused_since = refused_since or loop.time()
                if error.status == 410:
                    pause = 0.02
                elif loop.time() - refused_since < _TRUST_REFUSAL_AFTER:
                    pause = 0.03
                else:
                    pause = 5.0
                    entry.error = error
                    self._told(entry)
            except ClusterError as error:
                log.info("%s", error)
                pause = 0.5
            await asyncio.sleep(pause)

    async def _read(self, entry: _Entry) -> None:
        item: Object | None = None
        try:
            item = await self._api.get(f"{entry.key.path}/{entry.key.name}")
        except ApiError as error:
            if error.status != 404:
                raise
        same = entry.known.is_set() and entry.error is None and _same(item, entry.item)
        entry.error = None
        entry.item = _slim(item)
        if not same:
            self._told(entry)

    async def _watch(self, entry: _Entry) -> None:
        selector = {"fieldSelector": f"metadata.name={entry.key.name}", "resourceVersion": "0"}
        watch = self._api.watch(entry.key.path, selector)
        async with contextlib.aclosing(watch):  # type: ignore[type-var]
            async for kind, item in watch:
                if kind == "BOOKMARK":
                    continue
                if kind == "DELETED":
                    # Of an older object than the one known: a repeat of the past.
                    if int(version_of(item)) > entry.version:
                        entry.item = None
                        self._told(entry)
                elif int(version_of(item)) > entry.version:
                    entry.item = _slim(item)
                    self._told(entry)
                    if item.get("immutable"):
                        return

    def _told(self, entry: _Entry) -> None:
        entry.known.set()
        self._on_change(entry.key, frozenset(entry.users))


def _same(one: Object | None, other: Object | None) -> bool:
    if one is None or other is None:
        return one is other
    return version_of(one) == version_of(other)


def _slim(item: Object | None) -> Object | None:
    """Without ``managedFields`` and annotations, which may repeat the whole object."""
    if item is not None:
        item["metadata"].pop("managedFields", None)
        item["metadata"].pop("annotations", None)
    return item
