"""The lab's forward proxy: Service names work verbatim in HTTP_PROXY's clients.

Takes absolute-form ``http://`` requests and CONNECT on a loopback port, from whoever
knows the lab's credential, and leads them to pods.  It is as thin as a kube-proxy: no
Via, no X-Forwarded-For, bodies pass through as they come (so do server-sent events, long
polls and upgrades), and each plain request has a connection of its own.  Where a name
leads is the directory's business.

Source: RFC 9110 (7.6.1 hop-by-hop fields, 7.8 Upgrade, 10.1.1 Expect), RFC 9112 (3.2.2).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re

import h11

from labkit.node.network.connections import Connections
from labkit.node.network.directory import Directory
from labkit.node.network.egress import tunnel
from labkit.node.network.relay import relay
from labkit.node.network.route import Refused
from labkit.node.network.wire import (
    BadRequest,
    Dialler,
    Limits,
    Streams,
    one_line,
    read_head,
    refuse,
    split_authority,
)

USER = "lab"
_ABSOLUTE = re.compile(r"http://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?", re.I)
_NO_CREDENTIAL = 'This lab\'s network wants its credential; run: eval "$(labkit env)"'
_NOT_PROXIED = "This is a forward proxy: ask it for http://<service>.<namespace>:<port>/"


class ForwardProxy:
    """Door (a).  ``start`` and ``stop`` are safe to repeat.

    The user name of a caller's credential is ``lab``, or ``lab.<namespace>`` for a pod,
    whose short names then mean what they would mean in that namespace.  It is no secret
    and gives no right; the password is the lab's credential.
    """

    def __init__(
        self,
        credential: str,
        directory: Directory,
        connections: Connections,
        dialler: Dialler,
        *,
        limits: Limits,
    ) -> None:
        self.port = 0
        self._credential = credential.encode()
        self._directory = directory
        self._connections = connections
        self._dialler = dialler
        self._limits = limits
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1, which is then ``port``."""
        if self._server:
            return
        callback = self._connections.accept(self._serve)
        self._server = await asyncio.start_server(callback, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening; open connections belong to Connections."""
        server, self._server = self._server, None
        if server:
            server.close()

    async def _serve(self, client: Streams) -> None:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        try:
            request = await read_head(conn, client[0], self._limits)
            if request is None:
                return
            namespace = self._admit(request)
            target = request.target.decode("ascii")
            if request.method == b"CONNECT":
                await tunnel(
                    client,
                    conn,
                    target,
                    self._directory,
                    self._dialler,
                    self._limits,
                    namespace=namespace,
                )
                return
            authority, path = _split_target(target, request.method)
            host, port = split_authority(authority, default_port=80)
            route = self._directory.route(host, port, namespace=namespace)
            server = await self._dialler.connect(route)
            await relay(
                client, conn, request, server, authority=authority, path=path, limits=self._limits
            )
        except Refused as error:
            await refuse(client, one_line(error.cause, str(error)), limits=self._limits)
        except BadRequest as error:
            ask = (("Proxy-Authenticate", 'Basic realm="labkit"'),) if error.status == 407 else ()
            answer = one_line(error.status, str(error), headers=ask)
            await refuse(client, answer, limits=self._limits)

    def _admit(self, request: h11.Request) -> str | None:
        """The caller's namespace, if it is a pod.  Raises BadRequest 407."""
        given = [value for name, value in request.headers if name == b"proxy-authorization"]
        scheme, _, encoded = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        try:
            plain = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            plain = b""
        user, _, password = plain.partition(b":")
        known = hmac.compare_digest(password, self._credential)
        name, _, namespace = user.decode("ascii", "replace").partition(".")
        if not known or scheme.lower() != b"basic" or name != USER:
            raise BadRequest(407, _NO_CREDENTIAL)
        return namespace or None


def _split_target(target: str, method: bytes) -> tuple[str, str]:
    """The authority and the origin form of an absolute ``http://`` target."""
    found = _ABSOLUTE.fullmatch(target)
    if not found:
        if target.lower().startswith("https://"):
            raise BadRequest(400, "Use CONNECT for https")
        raise BadRequest(400, _NOT_PROXIED)
    path, query = found["path"] or "", found["query"] or ""
    if not path and not query and method == b"OPTIONS":
        return found["authority"], "*"
    return found["authority"], (path or "/") + query
