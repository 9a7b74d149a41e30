"""One HTTP request through to a pod and its answer back, as it comes.

Both heads are rewritten (hop-by-hop fields belong to one hop), both bodies are streamed
at the same time: an answer may begin, or even end, before the request's body does.
Framing is checked in both directions by h11, so neither side can smuggle a second
message into the other's connection.
"""

from __future__ import annotations

import asyncio
import contextlib

import h11

from labkit.node.network.route import Cause, Refused
from labkit.node.network.wire import (
    CHUNK,
    BadRequest,
    Limits,
    Streams,
    abort,
    cancel,
    close,
    linger,
    next_event,
    pipe,
)

Headers = list[tuple[bytes, bytes]]
Head = h11.Request | h11.Response | h11.InformationalResponse

_ONE_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate "
    b"proxy-authentication-info te transfer-encoding upgrade".split()
)


async def relay(
    client: Streams,
    conn: h11.Connection,
    request: h11.Request,
    server: Streams,
    *,
    authority: str,
    path: str,
    limits: Limits,
) -> None:
    """Serve ``request``, whose head has been read from ``conn``; closes ``server``.

    Raises Refused when the server gives no answer, BadRequest when the client's body is
    malformed, both before an answer has begun.  After that, a failure breaks the client's
    connection, so that half an answer is never taken for a whole one.
    """
    exchange = _Exchange(client, conn, server, limits)
    try:
        await exchange.run(request, authority, path)
    finally:
        abort(server[1])


class _Exchange:
    """The state of one request: a connection object of h11 for each side."""

    def __init__(
        self, client: Streams, conn: h11.Connection, server: Streams, limits: Limits
    ) -> None:
        self._client = client
        self._conn = conn
        self._server = server
        self._up = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)
        self._limits = limits
        self._answered = False
        self._uploaded = False
        self._early = b""

    async def run(self, request: h11.Request, authority: str, path: str) -> None:
        head = h11.Request(
            method=request.method, target=path, headers=_request_headers(request, authority)
        )
        self._server[1].write(self._up.send(head) or b"")
        upload = asyncio.create_task(self._upload())
        answer = asyncio.create_task(self._answer())
        try:
            await asyncio.wait({upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
            else:
                upload.result()
                return  # the caller has gone: nobody waits for the answer
        except (h11.ProtocolError, OSError, BadRequest) as error:
            if self._answered:
                abort(self._client[1])
                return
            if isinstance(error, BadRequest):
                raise
            raise Refused(Cause.UNKNOWN, f"The pod gave no HTTP answer ({error})") from error
        finally:
            await cancel(upload, answer)
        if self._up.our_state is h11.SWITCHED_PROTOCOL:
            await self._tunnel()
        elif not self._uploaded:
            await linger(self._client, limits=self._limits)

    async def _upload(self) -> None:
        """Pass the body on; returns when the caller has gone.  Raises BadRequest.

        An end of the caller's stream counts as gone even after a complete request, as it
        does for Go's net/http: an idle event stream would not notice in any other way.
        """
        reader, writer = self._client[0], self._server[1]
        ended = False
        while not ended:
            try:
                event = await next_event(self._conn, reader)
            except h11.RemoteProtocolError as error:
                if reader.at_eof():
                    return
                raise BadRequest(400, f"The request's body is malformed ({error})") from None
            except OSError:
                return
            ended = isinstance(event, h11.EndOfMessage)
            try:
                writer.write(self._up.send(event) or b"")  # type: ignore[arg-type]
                await writer.drain()
            except (OSError, h11.LocalProtocolError):
                await _forever()  # the server has stopped listening; it may still answer
        self._uploaded = True
        with contextlib.suppress(OSError):
            self._early = await reader.read(CHUNK)
            if self._early:
                await _forever()

    async def _answer(self) -> None:
        """Pass the answer on, each piece as it comes."""
        reader, writer = self._server[0], self._client[1]
        out: list[bytes] = []
        ended = False
        while not ended:
            event = self._up.next_event()
            if event is h11.NEED_DATA:
                if out:
                    writer.write(b"".join(out))
                    out.clear()
                    await writer.drain()
                data = await reader.read(CHUNK)
                if not data and not self._answered:
                    raise ConnectionError("it closed the connection")
                self._up.receive_data(data)
                continue
            ended, message = self._translate(event)
            if message is not None:
                out.append(self._conn.send(message) or b"")
        writer.write(b"".join(out))
        await writer.drain()

    def _translate(self, event: object) -> tuple[bool, h11.Event | None]:
        """Whether ``event`` of the server is its last, and what the client gets for it."""
        old_client = (self._conn.their_http_version or b"1.1") < b"1.1"
        match event:
            case h11.InformationalResponse(status_code=101):
                headers = _end_to_end(event) + _upgrade_headers(event)
                return True, h11.InformationalResponse(
                    status_code=101, headers=headers, reason=event.reason
                )
            case h11.InformationalResponse():
                return False, None if old_client else h11.InformationalResponse(
                    status_code=event.status_code, headers=_end_to_end(event), reason=event.reason
                )
            case h11.Response():
                self._answered = True
                return False, h11.Response(
                    status_code=event.status_code,
                    headers=[*_end_to_end(event), (b"Connection", b"close")],
                    reason=event.reason,
                )
            case h11.Data():
                return False, h11.Data(data=event.data)
            case h11.EndOfMessage():
                return True, h11.EndOfMessage(headers=[] if old_client else list(event.headers))
        raise ConnectionError("it closed the connection")

    async def _tunnel(self) -> None:
        """After a 101: bytes both ways, beginning with what either side sent already."""
        self._client[1].write(self._up.trailing_data[0])
        self._server[1].write(self._conn.trailing_data[0] + self._early)
        await pipe(self._client, self._server, limits=self._limits)
        await close(self._server[1])


def _request_headers(request: h11.Request, authority: str) -> Headers:
    """The head's fields as the pod gets them; Host is what the target says (RFC 9112, 3.2.2)."""
    headers: Headers = [(b"Host", authority.encode("ascii"))]
    headers += [field for field in _end_to_end(request) if field[0].lower() != b"host"]
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    return headers + (_upgrade_headers(request) or [(b"Connection", b"close")])


def _upgrade_headers(head: Head) -> Headers:
    """The two fields of an upgrade, if ``head`` asks for or grants one."""
    upgrades = [value for name, value in head.headers if name == b"upgrade"]
    if not upgrades or b"upgrade" not in _named_by_connection(head):
        return []
    return [(b"Connection", b"Upgrade"), (b"Upgrade", b", ".join(upgrades))]


def _end_to_end(head: Head) -> Headers:
    """The fields that are not for this hop alone, as they were spelled."""
    dropped = _ONE_HOP | _named_by_connection(head)
    return [field for field in head.headers.raw_items() if field[0].lower() not in dropped]


def _named_by_connection(head: Head) -> set[bytes]:
    values = [value for name, value in head.headers if name == b"connection"]
    return {token.strip().lower() for value in values for token in value.split(b",")}


async def _forever() -> None:
    """Wait to be cancelled."""
    await asyncio.get_running_loop().create_future()
