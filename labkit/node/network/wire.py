"""Moving bytes between two sockets, and saying no politely.

What every door needs and no door should write twice: the limits, reading one request
head strictly, connecting to a route's endpoints in turn, piping with half-close, and an
error answer that the caller really gets to read.  It knows nothing of names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from labkit.node.network.route import Address, Cause, Refused, Route

_log = logging.getLogger(__name__)
CHUNK = 64 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Event = h11.Event | type[h11.PAUSED]


@dataclass(frozen=True)
class Limits:
    """What one caller may cost.  Seconds and bytes."""

    head_bytes: int = 64 * 1024
    """Longest request (or response) head."""
    head_seconds: float = 10.0
    """From accepting a connection to its complete request head."""
    connect_seconds: float = 5.0
    """For one connection to a pod, over all its endpoints."""
    connections: int = 512
    """At once, over all doors; each is two sockets."""
    half_open_seconds: float = 300.0
    """A tunnel of which one side has ended, and nothing moves the other way."""
    linger_seconds: float = 2.0
    """For a refused caller to finish sending and read its answer."""


class BadRequest(Exception):
    """A request that is answered with ``status`` and one line, before it goes anywhere."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


async def next_event(conn: h11.Connection, reader: asyncio.StreamReader) -> Event:
    """The next h11 event, reading as much as it takes.  Raises h11.RemoteProtocolError."""
    while True:
        event = conn.next_event()
        if event is not h11.NEED_DATA:
            return event  # type: ignore[return-value]  # NEED_DATA is the only other member
        conn.receive_data(await reader.read(CHUNK))


async def read_head(
    conn: h11.Connection, reader: asyncio.StreamReader, limits: Limits
) -> h11.Request | None:
    """One request head; None when the caller went away without a word.

    Raises BadRequest: 400 malformed, 408 too slow, 431 too long, 501 an unknown
    transfer-encoding.
    """
    fed = 0
    try:
        async with asyncio.timeout(limits.head_seconds):
            while (event := conn.next_event()) is h11.NEED_DATA:
                data = await reader.read(CHUNK)
                fed += len(data)
                conn.receive_data(data)
    except TimeoutError:
        if not fed:  # a connection that a client's pool opened ahead of need
            return None
        seconds = f"{limits.head_seconds:g} s"
        raise BadRequest(408, f"The request's head did not arrive within {seconds}") from None
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 431:
            raise BadRequest(431, f"The request's head is over {limits.head_bytes} bytes") from None
        if not fed:
            return None
        raise BadRequest(error.error_status_hint, f"That is no HTTP request ({error})") from None
    if not isinstance(event, h11.Request):
        return None
    if fed - len(conn.trailing_data[0]) > limits.head_bytes:
        raise BadRequest(431, f"The request's head is over {limits.head_bytes} bytes")
    names = {name for name, _ in event.headers}
    if b"transfer-encoding" in names and b"content-length" in names:
        raise BadRequest(400, "A request has a Content-Length or a Transfer-Encoding, not both")
    return event


def split_authority(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """``host:port`` as a pair; ``[v6]`` keeps its brackets off.  Raises BadRequest."""
    host, colon, digits = text.rpartition(":")
    if not colon or "]" in digits:
        host, digits = text, str(default_port or "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    valid = digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536
    if not host or not valid or "@" in host:
        raise BadRequest(400, "The address must read <host>:<port>")
    return host, int(digits)


class Dialler:
    """Connects to a route's endpoints, a different one first each time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns: dict[tuple[Address, ...], int] = {}

    async def connect(self, route: Route) -> Streams:
        """A connection to one of the endpoints; the others are tried when one refuses.

        Raises Refused when none accepts in time.
        """
        count = len(route.endpoints)
        turn = self._turns.get(route.endpoints, 0)
        if len(self._turns) > 1000:  # addresses of pods long gone
            self._turns.clear()
        self._turns[route.endpoints] = (turn + 1) % count
        seen = ""
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                for step in range(count):
                    host, port = route.endpoints[(turn + step) % count]
                    try:
                        return await asyncio.open_connection(host, port, limit=CHUNK)
                    except OSError as error:
                        seen = (error.strerror or str(error)).lower()
        except TimeoutError:
            seen = f"no answer within {self._limits.connect_seconds:g} s"
        todo = f"see: kubectl -n {route.namespace} get pods" if route.namespace else ""
        raise Refused(
            Cause.UNKNOWN, f"{route.subject} does not take connections ({seen})", todo=todo
        )


async def pipe(client: Streams, server: Streams, *, limits: Limits) -> None:
    """Copy both ways until both have ended; the end of one way is passed on alone.

    An error on either side ends both.  After one way has ended, the other may go on as
    long as it moves.
    """
    ways = [_Way(client[0], server[1]), _Way(server[0], client[1])]
    tasks = [asyncio.create_task(way.copy()) for way in ways]
    try:
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while pending and not _failed(done):
            moved = sum(way.moved for way in ways)
            done, pending = await asyncio.wait(tasks, timeout=limits.half_open_seconds)
            if pending and moved == sum(way.moved for way in ways):
                break
        if pending or _failed(done):
            abort(client[1], server[1])
    finally:
        await cancel(*tasks)


async def lead(
    client: Streams, find: Callable[[], Route], dialler: Dialler, *, limits: Limits
) -> None:
    """Lead a caller that speaks no HTTP to where ``find`` says, until both have ended.

    Where it leads nowhere the caller is dropped: there is nothing to tell it in.
    """
    try:
        server = await dialler.connect(find())
    except Refused as error:
        _log.debug("a caller was dropped: %s", error)
        abort(client[1])
        return
    try:
        await pipe(client, server, limits=limits)
        await close(server[1])
    finally:
        abort(server[1])


def _failed(done: set[asyncio.Task[None]]) -> bool:
    return any(task.exception() is not None for task in done)


class _Way:
    """One direction of a tunnel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.moved = 0
        self._reader = reader
        self._writer = writer

    async def copy(self) -> None:
        while data := await self._reader.read(CHUNK):
            self.moved += len(data)
            self._writer.write(data)
            await self._writer.drain()
        self._writer.write_eof()


def one_line(status: int, line: str, *, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole response that says ``line``.

    It is also the reason phrase: that is all that Go's and Python's clients show of an
    answer to CONNECT.
    """
    text = "".join(char if " " <= char <= "~" else "?" for char in line)
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (
        f"HTTP/1.1 {status} {text or HTTPStatus(status).phrase}\r\n{extra}"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(text) + 1}\r\nConnection: close\r\n\r\n{text}\n"
    ).encode("ascii")


async def refuse(streams: Streams, answer: bytes, *, limits: Limits) -> None:
    """Send ``answer``, see that it is read, and end."""
    streams[1].write(answer)
    await linger(streams, limits=limits)


async def linger(streams: Streams, *, limits: Limits) -> None:
    """End an answer to a caller that may still be sending.

    Closing a socket with unread input makes the kernel reset it, and the caller may lose
    the answer; so what it still sends is read and dropped for a moment.
    """
    reader, writer = streams
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(limits.linger_seconds):
            await writer.drain()
            writer.write_eof()
            while await reader.read(CHUNK):
                pass


async def close(writer: asyncio.StreamWriter) -> None:
    """Close after what is still to be sent; at once when cancelled."""
    try:
        writer.close()
        await writer.wait_closed()
    except OSError:
        pass
    finally:
        abort(writer)


def abort(*writers: asyncio.StreamWriter) -> None:
    """Drop connections at once; fine when they are closed already."""
    for writer in writers:
        writer.transport.abort()


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they are over; their errors have been dealt with."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
