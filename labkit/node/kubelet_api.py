"""The node's own HTTPS door, where the API server asks for logs and commands.

It is the part of a kubelet's API that ``kubectl logs``, ``exec``, ``attach`` and
``port-forward`` use.  Nobody comes in but the API server, by its client certificate.
What is sent is left to ``podlogs`` and ``sessions``; kubectl shows the texts of refusals
as they are, so they are the kubelet's where it has one (pkg/kubelet/server).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from labkit.cluster.certs import KeyPair
from labkit.node import podlogs, portforward, sessions, streams
from labkit.node.container import ContainerRun
from labkit.node.execution import Wanted
from labkit.node.logs import read_log
from labkit.node.podworker import PodWorker
from labkit.node.streams import Channels, Gone

_MAX_LINE = 1024 * 1024  # a command comes in the address; the API server takes as much
_LAST_ANSWERS = 1.0  # seconds that requests have to end by themselves when the door closes


class KubeletApi:
    """The door.  ``port`` is set after ``start``; ``start`` and ``stop`` are safe to repeat.

    ``find`` gives the worker of a pod by namespace and name.  A caller must show a
    certificate of ``ca`` with the common name ``caller``.
    """

    def __init__(
        self,
        *,
        find: Callable[[str, str], PodWorker | None],
        ca: Path,
        serving: KeyPair,
        caller: str,
    ) -> None:
        self.port = 0
        self._find = find
        self._ca = ca
        self._serving = serving
        self._caller = caller
        self._runner: web.AppRunner | None = None
        self._busy: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        if self._runner is not None:
            return
        app = web.Application(middlewares=[self._admit])
        app.router.add_get("/healthz", self._healthz)
        container = "{namespace}/{pod}/{container}"
        app.router.add_get(f"/containerLogs/{container}", self._logs)
        # SPDY comes as POST, and gets its answer in the handler.
        app.router.add_route("*", f"/exec/{container}", self._exec)
        app.router.add_route("*", f"/attach/{container}", self._attach)
        app.router.add_route("*", "/portForward/{namespace}/{pod}", self._port_forward)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        runner = web.AppRunner(
            app,
            access_log=None,  # a command's arguments are no business of a log
            handler_cancellation=True,
            max_line_size=_MAX_LINE,
            shutdown_timeout=_LAST_ANSWERS,
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls())
        try:
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Close; commands that run for a caller are ended."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await runner.cleanup()

    def _tls(self) -> ssl.SSLContext:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self._ca))
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_cert_chain(self._serving.cert, self._serving.key)
        return tls

    # -- every request -------------------------------------------------------------------

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = _common_name(request)
        if name != self._caller:
            return _refusal(403, f"Forbidden: only {self._caller} is let in, not {name}.")
        if task := asyncio.current_task():
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        try:
            return await handler(request)
        except _Refused as refused:
            return _refusal(refused.status, refused.line)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _unknown(self, request: web.Request) -> web.Response:
        return _refusal(404, f"labkit's node does not serve {request.path}.")

    def _pod(self, request: web.Request, unknown: str) -> PodWorker:
        worker = self._find(request.match_info["namespace"], request.match_info["pod"])
        if worker is None:
            raise _Refused(404, unknown)
        return worker

    # -- logs ----------------------------------------------------------------------------

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        pod, container = request.match_info["pod"], request.match_info["container"]
        try:
            wanted = podlogs.options(request.query)
        except ValueError:
            raise _Refused(400, '{"message": "Unable to decode query."}') from None
        worker = self._pod(request, f"pod {json.dumps(pod)} does not exist")
        if container not in (each["name"] for each in worker.pod.all_containers):
            raise _Refused(
                404, f"container {json.dumps(container)} not found in pod {json.dumps(pod)}"
            )
        try:
            chosen = podlogs.choose(
                worker, container, previous=podlogs.flag(request.query, "previous")
            )
        except podlogs.Unavailable as error:
            raise _Refused(400, str(error)) from None
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(read_log(chosen.path, wanted, chosen.writer)) as lines:
                async for line in lines:
                    await response.write(line)
            await response.write_eof()
        return response

    # -- commands ------------------------------------------------------------------------

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        wanted = self._wanted(request)
        run = self._run(request, "container not found ({container})")
        argv = tuple(request.query.getall("command", []))
        if not argv:
            raise _Refused(400, "you must specify at least one command for the container")
        socket = await self._open(request, streams.COMMAND_PROTOCOLS)
        with contextlib.suppress(Gone):
            await sessions.execute(Channels(socket), run, argv, wanted)
        return socket

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        wanted = self._wanted(request)
        run = self._run(request, "container {container} not found")
        if wanted.stdin:
            raise _Refused(
                400,
                "labkit's node gives containers no stdin. "
                "To run a shell: kubectl exec -it POD -- sh. To see the output: kubectl logs -f.",
            )
        socket = await self._open(request, streams.COMMAND_PROTOCOLS)
        with contextlib.suppress(Gone):
            await sessions.attach(Channels(socket), run, wanted)
        return socket

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._pod(request, "pod does not exist")
        ports: tuple[int, ...] = ()
        tunnelled = streams.chosen_protocol(request, portforward.PROTOCOLS) == portforward.TUNNEL
        if streams.is_websocket(request) and not tunnelled:
            try:
                ports = portforward.parse_ports(request.query.getall("port", []))
            except ValueError as error:
                raise _Refused(400, f'query parameter "port": {error}') from None
        socket = await self._open(request, portforward.PROTOCOLS)
        with contextlib.suppress(Gone):
            if tunnelled:
                await portforward.Tunnel(socket, worker).run()
            else:
                await portforward.serve_channels(Channels(socket), worker, ports)
        return socket

    def _wanted(self, request: web.Request) -> Wanted:
        names = ("input", "output", "error", "tty")
        stdin, stdout, stderr, tty = (podlogs.flag(request.query, name) for name in names)
        if not (stdin or stdout or stderr):
            raise _Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
        # A terminal has one output.
        return Wanted(stdin, stdout, stderr and not tty, tty)

    def _run(self, request: web.Request, not_running: str) -> ContainerRun:
        worker = self._pod(request, "pod does not exist")
        name = request.match_info["container"]
        run = worker.current_run(name)
        if run is None:
            raise _Refused(500, not_running.format(container=json.dumps(name)))
        return run

    async def _open(
        self, request: web.Request, protocols: tuple[str, ...]
    ) -> web.WebSocketResponse:
        if not streams.is_websocket(request):
            raise _Refused(
                400,
                "labkit's node takes this over WebSockets only: use kubectl 1.31 or newer, "
                "with KUBECTL_REMOTE_COMMAND_WEBSOCKETS and "
                "KUBECTL_PORT_FORWARD_WEBSOCKETS left alone.",
            )
        if streams.chosen_protocol(request, protocols) is None:
            known = ", ".join(protocols)
            raise _Refused(403, f"none of the subprotocols is known here; these are: {known}")
        return await streams.open_socket(request, protocols)


class _Refused(Exception):
    """A request that gets one line instead of what it asked for."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


def _refusal(status: int, line: str) -> web.Response:
    return web.Response(status=status, text=line)


def _common_name(request: web.Request) -> str:
    """The common name of the caller's certificate, which TLS has verified."""
    certificate = request.get_extra_info("peercert") or {}
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
