"""The API server's endless answers, many at once in one thread (asyncio).

``client`` has a blocking stream for whoever follows one thing; a watcher follows a dozen,
and must be able to drop them all at any moment.  It asks as the same identity, and what
it yields is plain data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp

from labkit.errors import ApiError, ClusterError
from labkit.kube._text import short
from labkit.kube.client import Kube
from labkit.kube.objects import METADATA, METADATA_LIST, Object

_JSON = "application/json"
_LONGEST = 16 << 20  # bytes of one line: an object is at most some megabytes


class Streams:
    """The connections of one watcher; an async context manager.

    ``is_failing``: at the last attempt there was no answer at all.
    """

    def __init__(self, kube: Kube) -> None:
        self._server = kube.server
        self.is_failing = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=kube.ssl_context, limit=0),
            headers={**kube.auth_headers, "User-Agent": "labkit-watcher"},
        )

    async def __aenter__(self) -> Streams:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, *, accept: str = _JSON) -> Any:
        """One answer, decoded.  Raises ApiError on any status ≥ 400, ClusterError when
        there is none within ten seconds."""
        return json.loads(await self.read(path, accept=accept))

    async def read(self, path: str, *, accept: str = "*/*") -> bytes:
        """One answer as it is.  Raises as ``get``."""
        async with self._ask(path, accept, total=10.0) as answer:
            return await answer.read()

    async def lines(
        self, path: str, *, accept: str = "*/*", idle: float | None = None
    ) -> AsyncGenerator[bytes]:
        """The lines of an endless answer, until the server ends it or ``idle`` seconds
        are silent.  Raises as ``get``."""
        async with self._ask(path, accept, idle=idle) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line
                if len(rest) > _LONGEST:
                    raise ClusterError("The Kubernetes API sent a line without an end", seen=path)

    async def follow(
        self, path: str, *, metadata_only: bool = False
    ) -> AsyncGenerator[tuple[str, list[Object]]]:
        """A collection for as long as it can be watched: first ``("ALL", objects)``, then
        ``(type, [object])`` for each change.  ``metadata_only`` leaves all else at the
        server.  Raises as ``get``; when it ends, begin anew.

        Source: "Efficient detection of changes" in Kubernetes' API concepts.
        """
        one, many = (METADATA, METADATA_LIST) if metadata_only else (_JSON, _JSON)
        listed = await self.get(path, accept=many)
        yield "ALL", cast("list[Object]", listed.get("items") or [])
        since = listed["metadata"]["resourceVersion"]
        while True:
            query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
            began = asyncio.get_running_loop().time()
            async for line in self.lines(f"{path}?{urlencode(query)}", accept=one):
                event = json.loads(line)
                if event["type"] == "ERROR":  # that version is too old by now
                    return
                since = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    yield event["type"], [event["object"]]
            if asyncio.get_running_loop().time() - began < 1.0:
                return  # not the usual end of a long watch

    @asynccontextmanager
    async def _ask(
        self, path: str, accept: str, *, total: float | None = None, idle: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=5.0, sock_read=idle)
        try:
            async with self._session.get(
                self._server + path, headers={"Accept": accept}, timeout=timeout
            ) as answer:
                self.is_failing = False
                if answer.status >= 400:
                    said = (await answer.read())[:300].decode(errors="replace")
                    raise ApiError(
                        f"The Kubernetes API refused to read {path.partition('?')[0]}",
                        status=answer.status,
                        seen=f"{answer.status} {said.strip()}",
                    )
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.is_failing = isinstance(error, aiohttp.ClientConnectorError)
            raise ClusterError(
                f"The Kubernetes API at {self._server} did not answer",
                seen=short(error),
                todo="Run `labkit status`; `labkit up` starts a lab that is down.",
            ) from error
