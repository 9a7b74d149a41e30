"""The few calls that bringing up a control plane itself needs.

Health of a component, and making an object exist: no watches, no caches.  The node
agent and everything above the seam have clients of their own; this one stays below
them so that a control plane can be started and tested alone.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from labkit.cluster.certs import KeyPair
from labkit.cluster.components import Health
from labkit.errors import ApiError

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Admin:
    """An HTTP client for loopback ports (with the admin's certificate) and unix sockets.

    An async context manager; ``close`` is safe to repeat.
    """

    def __init__(self, *, ca: Path, client: KeyPair) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(client.cert, client.key)
        self._tls = context
        self._session: aiohttp.ClientSession | None = None
        self._sockets: dict[Path, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Admin:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for session in [self._session, *self._sockets.values()]:
            if session is not None:
                await session.close()
        self._session = None
        self._sockets.clear()

    async def healthy(self, health: Health) -> bool:
        """Whether a component answers 200 on its health path; never raises for its absence."""
        try:
            async with asyncio.timeout(5):
                if health.socket is not None:
                    url = f"http://localhost{health.path}"
                    async with self._over(health.socket).get(url) as answer:
                        return answer.status == 200
                url = f"https://127.0.0.1:{health.port}{health.path}"
                async with self._tcp().get(url, ssl=self._tls) as answer:
                    return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def call(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        """One request with a JSON body, verified and with the certificate.

        The answer's status and its object; {"message": text} where it is no JSON.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._tcp().request(
            method, url, data=data, headers=headers, ssl=self._tls
        ) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, {"message": text.strip()}

    async def store(self, socket: Path, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One call of etcd's JSON gateway.  Source: etcd.io/docs/v3.6/dev-guide/api_grpc_gateway"""
        async with self._over(socket).post(f"http://localhost{path}", json=body) as answer:
            content: dict[str, Any] = await answer.json(content_type=None)
            if answer.status != 200:
                raise ApiError(
                    f"etcd refused {path}", status=answer.status, seen=str(content)[:300]
                )
            return content

    def _tcp(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self._session

    def _over(self, socket: Path) -> aiohttp.ClientSession:
        if socket not in self._sockets:
            self._sockets[socket] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(socket)), timeout=_TIMEOUT
            )
        return self._sockets[socket]
