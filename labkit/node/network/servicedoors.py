"""Loopback ports that lead into Services whose clients cannot go through a proxy.

Nobody here can dial a ClusterIP.  HTTP clients need not, since they honour HTTP_PROXY; a
client of Redis or MySQL knows no proxy.  A Service that says it is one of those (its port
has an ``appProtocol`` that is not HTTP's) gets a port of its own, and pods that look where
Kubernetes tells them about Services, in ``NAME_SERVICE_HOST`` and ``NAME_SERVICE_PORT``,
find that one there.  Whoever can reach loopback can reach it: such a server must ask for a
password, as it must on a cluster's flat network.

Source: "Application protocol" and "Discovering services" in Kubernetes' Service concept.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from labkit.node.network.connections import Connections, Handler
from labkit.node.network.directory import Directory
from labkit.node.network.records import Json, key_of, uid_of
from labkit.node.network.wire import Dialler, Limits, Streams, lead

HOST = "127.0.0.1"
_THROUGH_PROXY = {"", "http", "https", "grpc", "ws", "wss", "h2c"}


class ServiceDoors:
    """Opens a door when a pod's environment first names the Service, so that none stands
    open for nobody; it closes when the Service is gone, or with ``stop``."""

    def __init__(
        self, directory: Directory, connections: Connections, dialler: Dialler, *, limits: Limits
    ) -> None:
        self._directory = directory
        self._connections = connections
        self._dialler = dialler
        self._limits = limits
        self._doors: dict[str, dict[int, socket.socket]] = {}
        self._servers: dict[socket.socket, asyncio.Task[asyncio.Server]] = {}
        directory.on_services(self._forget_gone)

    def dialable(self, service: Json) -> Json:
        """``service`` as pods are to see it: with the address and ports of its doors, if it
        has any.  Raises OSError when a port cannot be had."""
        spec = service.get("spec") or {}
        if all(_is_proxied(port) for port in spec.get("ports") or ()) or spec.get("clusterIP") in (
            None,
            "",
            "None",
        ):
            return service
        doors = self._doors.setdefault(uid_of(service), {})
        ports = []
        for port in spec["ports"]:
            number = int(port["port"])
            if number not in doors:
                doors[number] = self._open(*key_of(service), number)
            ports.append({**port, "port": doors[number].getsockname()[1]})
        return {**service, "spec": {**spec, "clusterIP": HOST, "ports": ports}}

    async def stop(self) -> None:
        """Close every door; open connections belong to Connections."""
        for uid in list(self._doors):
            self._close(uid)

    @property
    def open(self) -> int:
        """How many doors there are."""
        return sum(map(len, self._doors.values()))

    def _open(self, namespace: str, name: str, port: int) -> socket.socket:
        sock = socket.create_server((HOST, 0), backlog=128)
        callback = self._connections.accept(self._serve(namespace, name, port), speaks_http=False)
        # It listens already: who connects before the loop comes to it waits in the backlog.
        self._servers[sock] = asyncio.get_running_loop().create_task(
            asyncio.start_server(callback, sock=sock)
        )
        return sock

    def _serve(self, namespace: str, name: str, port: int) -> Handler:
        host = f"{name}.{namespace}.svc.cluster.local"

        async def serve(client: Streams) -> None:
            route = partial(self._directory.route, host, port)
            await lead(client, route, self._dialler, limits=self._limits)

        return serve

    def _forget_gone(self) -> None:
        for uid in self._doors.keys() - self._directory.service_uids():
            self._close(uid)

    def _close(self, uid: str) -> None:
        for sock in self._doors.pop(uid).values():
            task = self._servers.pop(sock)
            task.add_done_callback(_close_server)


def _close_server(task: asyncio.Task[asyncio.Server]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _is_proxied(port: Mapping[str, Any]) -> bool:
    protocol = str(port.get("appProtocol") or "")
    return protocol in _THROUGH_PROXY or protocol.startswith("kubernetes.io/")
