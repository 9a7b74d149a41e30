"""``kubectl port-forward``: connections to a pod's ports, through a websocket.

Two ways to carry them: kubectl's (SPDY inside the websocket, any number of connections)
and the one of other clients (two channels a port, one connection to each).  Either way a
connection has a stream for its bytes and one for a line that says what went wrong.

Source: the kubelet's portforward server and k8s.io/client-go/tools/portforward.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from labkit.node import spdy
from labkit.node.podworker import PodWorker
from labkit.node.streams import Channels, Gone
from labkit.tasks import together

TUNNEL = "SPDY/3.1+portforward.k8s.io"
CHANNELS = "v4.channel.k8s.io"
PROTOCOLS = (TUNNEL, CHANNELS)

_CHUNK = 32 * 1024
_MAX_STREAMS = 1000

Send = Callable[[bytes], Awaitable[None]]


def parse_ports(texts: list[str]) -> tuple[int, ...]:
    """The ports in a query; ValueError when one is none."""
    ports = tuple(int(word) for text in texts for word in text.split(","))
    if not ports or not all(0 < port < 65536 for port in ports):
        raise ValueError("a port is a number from 1 to 65535")
    return ports


class _Connection:
    """One connection to a port of the pod."""

    def __init__(self, worker: PodWorker, port: int) -> None:
        self._worker = worker
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._settled = asyncio.Event()

    async def run(self, send: Send) -> str:
        """Connect, and send what comes until the pod closes; a line on what went wrong."""
        try:
            reader, self._writer = await self._dial()
        except OSError as error:
            return (
                f"error forwarding port {self._port} to pod {self._worker.pod.name}, "
                f"uid {self._worker.pod.uid}: {error.strerror or error}"
            )
        finally:
            self._settled.set()
        try:
            with contextlib.suppress(ConnectionError):
                while chunk := await reader.read(_CHUNK):
                    await send(chunk)
        finally:
            self._writer.close()
        return ""

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = self._worker.ports
        if self._port not in ports:
            declared = ", ".join(map(str, sorted(ports))) or "none"
            raise OSError(
                "no container of the pod declares this containerPort, so it has no place on "
                f"this machine (declared: {declared})"
            )
        return await asyncio.open_connection("127.0.0.1", ports[self._port])

    async def feed(self, data: bytes) -> None:
        """Pass on what the caller sends; dropped when there is nobody to take it."""
        await self._settled.wait()
        if self._writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.write(data)
                await self._writer.drain()

    async def end_input(self) -> None:
        """The caller sends no more."""
        await self._settled.wait()
        if self._writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.write_eof()


# -- channels ----------------------------------------------------------------------------


async def serve_channels(channels: Channels, worker: PodWorker, ports: tuple[int, ...]) -> None:
    """Connect to each of ``ports``; returns when all connections or the caller have gone.

    Raises Gone.
    """
    connections = [_Connection(worker, port) for port in ports]

    async def forward(index: int) -> None:
        data, error = 2 * index, 2 * index + 1
        for channel in (data, error):
            await channels.send(channel, struct.pack("<H", ports[index]))
        problem = await connections[index].run(lambda chunk: channels.send(data, chunk))
        if problem:
            await channels.send(error, problem.encode())

    async def listen() -> None:
        async for channel, data in channels.messages():
            index, is_error = divmod(channel, 2)
            if not is_error and index < len(connections) and data:
                await connections[index].feed(data)

    everything = asyncio.create_task(together(*map(forward, range(len(ports)))))
    caller = asyncio.create_task(listen())
    try:
        await asyncio.wait({everything, caller}, return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            everything.result()
    finally:
        everything.cancel()
        caller.cancel()
        await asyncio.gather(everything, caller, return_exceptions=True)


# -- SPDY --------------------------------------------------------------------------------


class Tunnel:
    """Serves SPDY inside ``socket``: ``await run()``."""

    def __init__(self, socket: web.WebSocketResponse, worker: PodWorker) -> None:
        self._socket = socket
        self._worker = worker
        self._framer = spdy.Framer()
        self._errors: dict[str, int] = {}  # request -> stream for its line, until it is sent
        self._connections: dict[int, _Connection] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the caller goes."""
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    return
                for frame in self._framer.receive(message.data):
                    await self._handle(frame)
        except (Gone, spdy.SpdyError):
            return
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened(stream, headers):
                await self._open(stream, headers)
            case spdy.Data(stream, data, last):
                if (connection := self._connections.get(stream)) is not None:
                    if data:
                        await connection.feed(data)
                    if last:
                        await connection.end_input()
            case spdy.Reset(stream):
                self._connections.pop(stream, None)
                if (task := self._tasks.get(stream)) is not None:
                    task.cancel()
            case spdy.Ping(number):
                await self._send(self._framer.pong(number))

    async def _open(self, stream: int, headers: spdy.Headers) -> None:
        kind, request = headers.get("streamtype", ""), headers.get("requestid", "")
        try:
            (port,) = parse_ports([headers.get("port", "")])
        except ValueError:
            port = 0
        too_many = len(self._connections) + len(self._errors) > _MAX_STREAMS
        if not port or kind not in ("data", "error") or too_many:
            await self._send(self._framer.reject(stream))
            return
        await self._send(self._framer.accept(stream))
        if kind == "error":
            self._errors[request] = stream
        else:
            self._connections[stream] = connection = _Connection(self._worker, port)
            task = asyncio.create_task(self._forward(stream, request, connection))
            self._tasks[stream] = task
            task.add_done_callback(lambda _: self._tasks.pop(stream))

    async def _forward(self, stream: int, request: str, connection: _Connection) -> None:
        try:
            problem = await connection.run(
                lambda chunk: self._send(self._framer.data(stream, chunk))
            )
            if (error := self._errors.get(request)) is not None:
                await self._send(self._framer.data(error, problem.encode(), last=True))
            await self._send(self._framer.data(stream, b"", last=True))
        except Gone:
            return
        finally:
            self._errors.pop(request, None)
            self._connections.pop(stream, None)

    async def _send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (ConnectionError, RuntimeError) as error:
            raise Gone from error
