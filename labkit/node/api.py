"""A small asynchronous client of the Kubernetes API: requests, watches, reflectors.

It knows how the API is spoken to (paths, patches, watch streams, resourceVersions) and
nothing of what is in it.  aiohttp carries it because the supervisor's servers use
aiohttp already; the ``kubernetes`` package is too large for a process that must stay
small and idle.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from labkit.errors import ApiError, ClusterError

log = logging.getLogger(__name__)

Object = dict[str, Any]
Params = Mapping[str, str]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_TIMEOUT = 30.0
_BACKOFF = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Api:
    """A connection to one API server under one identity.  Close it when done."""

    def __init__(
        self, server: str, *, tls: ssl.SSLContext | None = None, token: str | None = None
    ) -> None:
        self.server = server.rstrip("/")
        self._tls = tls
        self._headers = {"User-Agent": "labkit-node", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Api {self.server}>"

    @classmethod
    def with_certificate(cls, server: str, *, ca: Path, certificate: Path, key: Path) -> Api:
        """Speak to ``server``, trusted through ``ca``, as the certificate's subject."""
        tls = ssl.create_default_context(cafile=str(ca))
        tls.load_cert_chain(certificate, key)
        return cls(server, tls=tls)

    async def close(self) -> None:
        """Safe to repeat."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Each watch holds a connection, so no limit.
                connector=aiohttp.TCPConnector(
                    ssl=self._tls if self._tls is not None else True, limit=0
                ),
                headers=self._headers,
                auto_decompress=True,
            )
        return self._session

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request and its JSON answer.

        Raises ApiError when the API refuses (with its own message as ``seen``) and
        ClusterError when it can't be reached.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._open().request(
                method,
                self.server + path,
                params=params,
                data=data,
                headers={"Content-Type": content_type} if data is not None else None,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
            ) as response:
                raw = await response.read()
                if response.status >= 400:
                    raise _refused(method, path, response.status, raw)
                return json.loads(raw)  # type: ignore[no-any-return]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(self.server, error) from error

    async def get(self, path: str, **params: str) -> Object:
        return await self.request("GET", path, params=params)

    async def create(self, path: str, body: Any) -> Object:
        return await self.request("POST", path, body=body)

    async def replace(self, path: str, body: Any) -> Object:
        return await self.request("PUT", path, body=body)

    async def patch(self, path: str, body: Any, *, content_type: str = MERGE_PATCH) -> Object:
        return await self.request("PATCH", path, body=body, content_type=content_type)

    async def delete(self, path: str, body: Any = None) -> Object:
        return await self.request("DELETE", path, body=body)

    async def watch(self, path: str, params: Params) -> AsyncIterator[tuple[str, Object]]:
        """The events of one watch request, until the server ends it.

        Raises ApiError with status 410 when the resourceVersion is too old.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            # Spread, so that watches begun together do not end together.
            "timeoutSeconds": str(random.randint(300, 600)),  # noqa: S311
            **params,
        }
        try:
            async with self._open().get(
                self.server + path,
                params=query,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            ) as response:
                if response.status >= 400:
                    raise _refused("WATCH", path, response.status, await response.read())
                async for line in _lines(response.content):
                    event = json.loads(line)
                    kind, item = event["type"], event["object"]
                    if kind == "ERROR":
                        status = int(item.get("code") or 500)
                        raise _refused("WATCH", path, status, json.dumps(item).encode())
                    yield kind, item
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(self.server, error) from error


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (``StreamReader.readline`` has a limit that a Secret passes)."""
    pending: list[bytes] = []
    async for chunk in stream.iter_any():
        head, *rest = chunk.split(b"\n")
        pending.append(head)
        for part in rest:
            if line := b"".join(pending):
                yield line
            pending = [part]


def _refused(method: str, path: str, status: int, raw: bytes) -> ApiError:
    try:
        answer = json.loads(raw)
        reason, message = str(answer.get("reason") or ""), str(answer.get("message") or "")
    except (ValueError, AttributeError):
        reason, message = "", raw.decode(errors="replace").strip()[:300]
    return ApiError(
        f"The Kubernetes API refused {method} {path}",
        status=status,
        reason=reason,
        seen=message or f"HTTP {status}",
    )


def _unreachable(server: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"The Kubernetes API at {server} can't be reached",
        seen=str(error) or type(error).__name__,
        todo="See the log of kube-apiserver.",
    )


def version_of(item: Mapping[str, Any]) -> str:
    return str(item["metadata"].get("resourceVersion") or "")


class Reflector:
    """Keeps a callback informed of every object of one collection.

    ``on_event(type, object)`` is called in the event loop with ADDED, MODIFIED or
    DELETED.  After a gap (the watch was cut, the resourceVersion expired) the collection
    is listed again and only real differences are reported; a DELETED found that way has
    the object's metadata alone.  ``synced`` is set after the first list.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        on_event: Callable[[str, Object], None],
        *,
        params: Params | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._on_event = on_event
        self._params = dict(params or {})
        self._known: dict[str, Object] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """List and watch until cancelled."""
        faults = 0
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                    self.synced.set()
                async for kind, item in self._api.watch(
                    self._path, {**self._params, "resourceVersion": version}
                ):
                    faults = 0
                    version = version_of(item) or version
                    if kind != "BOOKMARK":
                        self._see(kind, item)
            except ApiError as error:
                if error.status == 410:
                    version = ""
                    continue
                faults += 1
                log.warning("%s", error)
            except ClusterError as error:
                faults += 1
                log.info("%s", error)
            # A watch that ended well is begun again soon, but never in a tight loop.
            await asyncio.sleep(_BACKOFF[min(faults, len(_BACKOFF) - 1)])

    async def _list(self) -> str:
        answer = await self._api.get(self._path, **self._params)
        kind = str(answer.get("kind") or "").removesuffix("List")
        found = set()
        for item in answer.get("items") or ():
            # A list leaves these two out of its items; a watch does not.
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", answer.get("apiVersion"))
            uid = item["metadata"]["uid"]
            found.add(uid)
            known = self._known.get(uid)
            if known is None:
                self._see("ADDED", item)
            elif version_of(known) != version_of(item):
                self._see("MODIFIED", item)
        for uid in self._known.keys() - found:
            self._see("DELETED", {"metadata": self._known[uid]["metadata"]})
        return version_of(answer)

    def _see(self, kind: str, item: Object) -> None:
        metadata = item["metadata"]
        metadata.pop("managedFields", None)
        if kind == "DELETED":
            self._known.pop(metadata["uid"], None)
        else:
            slim = ("name", "namespace", "uid", "resourceVersion", "labels")
            self._known[metadata["uid"]] = {
                "metadata": {key: metadata[key] for key in slim if key in metadata}
            }
        try:
            self._on_event(kind, item)
        except Exception:
            log.exception("handling %s of %s failed", kind, self._path)
