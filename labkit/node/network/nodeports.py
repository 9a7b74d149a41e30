"""NodePorts: ports of 127.0.0.1 that belong to this lab, and lead into Services.

A lab reserves a small block before its API server starts (which then allots nodePorts
from it alone), so that labs beside each other, and anyone else's programs, do not meet.
A reserved port is a bound socket that does not listen: nobody else can have it, and a
connection to it is refused, as on a node where no Service has that port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from functools import partial

from labkit.errors import NodeError
from labkit.node.network.connections import Connections, Handler
from labkit.node.network.directory import Directory
from labkit.node.network.wire import Dialler, Limits, Streams, lead

_log = logging.getLogger(__name__)
HOST = "127.0.0.1"
FIRST, LAST = 30000, 32767
"""Kubernetes' own default range for nodePorts."""


class PortBlock:
    """A row of ports, held until ``release`` (or the end of the process)."""

    def __init__(self, sockets: dict[int, socket.socket]) -> None:
        self._sockets = sockets
        self.ports = range(min(sockets), max(sockets) + 1)

    @classmethod
    def reserve(cls, count: int = 16, *, prefer: int | None = None) -> PortBlock:
        """Hold ``count`` free ports in a row, from ``prefer`` on if they are free.

        Otherwise the first free block of those that start at 30000, 30000 + count, ….
        Raises NodeError when there is none.
        """
        starts = [*([] if prefer is None else [prefer]), *range(FIRST, LAST + 2 - count, count)]
        for start in starts:
            if start >= FIRST and start + count - 1 <= LAST:
                sockets = _hold(range(start, start + count))
                if sockets:
                    return cls(sockets)
        raise NodeError(
            f"There are no {count} free ports in a row for this lab's NodePorts",
            seen=f"looked on {HOST} from {FIRST} to {LAST}",
            todo="Stop labs that you do not need: labkit down --all.",
        )

    @property
    def range(self) -> str:
        """The block as kube-apiserver's ``--service-node-port-range`` wants it."""
        return f"{self.ports[0]}-{self.ports[-1]}"

    def release(self) -> None:
        """Give the ports back; safe to repeat."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def listener(self, port: int) -> socket.socket:
        """A second descriptor of the socket that holds ``port``, to listen on.

        While it listens it has SO_REUSEADDR, which its connections inherit: what is left
        of them (TIME_WAIT) must not be in the way when it listens again.
        """
        sock = self._sockets[port]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock.dup()

    def silence(self, port: int) -> None:
        """Stop listening on ``port`` and still hold it.

        Linux takes a listening socket back to "bound" when it is shut down for reading.
        Elsewhere that fails, and the port is closed and bound anew, which leaves an
        instant in which another program could take it.
        """
        sock = self._sockets.get(port)
        if sock is None:
            return
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RD)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.close()
            self._sockets[port] = _bind(port, reuse=True)


class NodePorts:
    """Listens on those ports of the block that Services have.

    It follows the directory by itself between ``start`` and ``stop``, both safe to repeat.
    """

    def __init__(
        self,
        block: PortBlock,
        directory: Directory,
        connections: Connections,
        dialler: Dialler,
        *,
        limits: Limits,
    ) -> None:
        self._block = block
        self._directory = directory
        self._connections = connections
        self._dialler = dialler
        self._limits = limits
        self._servers: dict[int, asyncio.Server] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        directory.on_services(self._changed.set)

    async def start(self) -> None:
        if self._task is None:
            self._changed.set()
            self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop listening; open connections belong to Connections, the ports to the block."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for port in list(self._servers):
            self._close(port)

    @property
    def open(self) -> frozenset[int]:
        """The ports that take connections now."""
        return frozenset(self._servers)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._directory.node_ports()) & set(self._block.ports)
            for port in set(self._servers) - wanted:
                self._close(port)
            for port in wanted - set(self._servers):
                await self._open(port)

    async def _open(self, port: int) -> None:
        sock = self._block.listener(port)
        callback = self._connections.accept(self._serve(port), speaks_http=False)
        try:
            self._servers[port] = await asyncio.start_server(callback, sock=sock, backlog=128)
        except OSError as error:
            sock.close()
            self._block.silence(port)
            _log.error("NodePort %d cannot be served: %s", port, error)

    def _close(self, port: int) -> None:
        self._servers.pop(port).close()
        self._block.silence(port)

    def _serve(self, port: int) -> Handler:
        async def serve(client: Streams) -> None:
            route = partial(self._directory.route_node_port, port)
            await lead(client, route, self._dialler, limits=self._limits)

        return serve


def _hold(ports: Iterator[int] | range) -> dict[int, socket.socket]:
    """Bind every one of ``ports``, or none."""
    sockets: dict[int, socket.socket] = {}
    try:
        for port in ports:
            sockets[port] = _bind(port)
    except OSError:
        for sock in sockets.values():
            sock.close()
        return {}
    return sockets


def _bind(port: int, *, reuse: bool = False) -> socket.socket:
    """A bound socket.  Without SO_REUSEADDR: with it, two may hold a port that is silent."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
    except BaseException:
        sock.close()
        raise
    return sock
