"""Tunnels: the CONNECT method, and the API server's own door to pods and nodes.

kube-apiserver dials pods (service proxy, webhooks) and nodes (``kubectl logs``) at
addresses that only this process can translate.  Its EgressSelectorConfiguration sends
those connections here: HTTPConnect over a unix socket, which only this user can open.

Source: ``k8s.io/apiserver/pkg/server/egressselector`` (``tunnelHTTPConnect``: it wants
status 200, and no byte after the head before it has sent its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import h11

from labkit.errors import NodeError
from labkit.node.network.connections import Connections
from labkit.node.network.directory import Directory
from labkit.node.network.route import Refused
from labkit.node.network.wire import (
    BadRequest,
    Dialler,
    Limits,
    Streams,
    abort,
    close,
    one_line,
    pipe,
    read_head,
    refuse,
    split_authority,
)
from labkit.paths import make_private_dir

_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 107 on Linux, 103 on macOS


async def tunnel(
    client: Streams,
    conn: h11.Connection,
    target: str,
    directory: Directory,
    dialler: Dialler,
    limits: Limits,
    *,
    namespace: str | None = None,
    nodes: bool = False,
) -> None:
    """Serve one CONNECT whose head has been read from ``conn``.

    Raises Refused or BadRequest before anything has been answered.
    """
    host, port = split_authority(target)
    route = directory.route(host, port, namespace=namespace, nodes=nodes)
    server = await dialler.connect(route)
    try:
        server[1].write(conn.trailing_data[0])
        client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await pipe(client, server, limits=limits)
        await close(server[1])
    finally:
        abort(server[1])


class EgressDoor:
    """Door (b).  ``start`` and ``stop`` are safe to repeat."""

    def __init__(
        self,
        path: Path,
        directory: Directory,
        connections: Connections,
        dialler: Dialler,
        *,
        limits: Limits,
    ) -> None:
        self.path = path
        self._directory = directory
        self._connections = connections
        self._dialler = dialler
        self._limits = limits
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen: the socket is 0600, its folder 0700.  A socket left by a crash goes.

        Raises NodeError when the path is too long for a socket.
        """
        if self._server:
            return
        if len(str(self.path).encode()) > _MAX_SOCKET_PATH:
            raise NodeError(
                "The API server's socket cannot be made: its path is too long",
                seen=str(self.path),
                todo="Set LABKIT_STATE to a folder with a shorter path.",
            )
        make_private_dir(self.path.parent).chmod(0o700)
        if self.path.is_socket():
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(self.path))
            self.path.chmod(0o600)
            self._server = await asyncio.start_unix_server(
                self._connections.accept(self._serve), sock=sock, backlog=128
            )
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> None:
        """Stop listening and remove the socket; open connections belong to Connections."""
        server, self._server = self._server, None
        if server:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    async def _serve(self, client: Streams) -> None:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        try:
            request = await read_head(conn, client[0], self._limits)
            if request is None:
                return
            if request.method != b"CONNECT":
                raise BadRequest(405, "This socket takes CONNECT only")
            await tunnel(
                client,
                conn,
                request.target.decode("ascii"),
                self._directory,
                self._dialler,
                self._limits,
                nodes=True,
            )
        except Refused as error:
            await refuse(client, one_line(error.cause, str(error)), limits=self._limits)
        except BadRequest as error:
            await refuse(client, one_line(error.status, str(error)), limits=self._limits)
