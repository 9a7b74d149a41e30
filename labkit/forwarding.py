"""From a Service's name to a connection with one of its pods, through the API server alone.

``Names`` reads a host as the cluster's resolver would; ``Cluster`` asks the API which pod and
port that is at this moment; ``ForwardingDialler`` opens a port-forward to it and gives it the
shape of a socket, so that the embedded network's own proxy can use it as it is.

Port-forward and not the service proxy, because it changes nothing on the way: the proxy keeps
``Authorization`` for itself, refuses methods such as Vault's LIST, and knows HTTP alone.

Source: the kubelet's portforward server over websockets (``v4.channel.k8s.io``: two channels
a port, each of which begins with the port's number), as Kubernetes' other clients use it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, cast

import aiohttp

from labkit.errors import UsageError
from labkit.kube import Object
from labkit.kube.kubeconfig import Access
from labkit.kube.transport import Transport
from labkit.node.network.directory import Directory
from labkit.node.network.names import Name, understand
from labkit.node.network.route import Cause, Refused, Route, outside
from labkit.node.network.wire import CHUNK, Dialler, Limits, Streams, abort

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_ASK_SECONDS = 10.0  # for one question to the API


class Names(Directory):
    """Reads names and looks nothing up: each route's one endpoint is the name itself."""

    def route(
        self, host: str, port: int, *, namespace: str | None = None, nodes: bool = False
    ) -> Route:
        """``host:port``, if it can be a name of the cluster.  Raises Refused."""
        name = understand(host, namespace=namespace)
        if name.address:
            raise outside(host, why="the addresses of its pods are not led to from here")
        # The caller's namespace travels with the route: the dialler reads the name again.
        return Route(f"{host}:{port}", namespace or "", ((host, port),))


class Cluster:
    """The API of a foreign cluster, for the event loop.  ``close`` it."""

    def __init__(self, access: Access) -> None:
        self._transport = Transport(
            access.server,
            ca=access.ca,
            client_cert=access.client_cert,
            token=access.token,
            renewed=access.renewed,
        )
        self._server = self._transport.server
        self._ssl: ssl.SSLContext = self._transport.ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Drop its connections; safe to repeat."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: str) -> Object | None:
        """One object or list; None when there is none.  Raises Refused for other answers."""
        timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
        try:
            async with self._open().get(
                self._server + path,
                params=query,
                headers=await self._headers(),
                ssl=self._ssl,
                timeout=timeout,
            ) as answer:
                if answer.status == 404:
                    return None
                if answer.status >= 400:
                    raise Refused(
                        Cause.UNKNOWN, f"The cluster's API answers {answer.status} to {path}"
                    )
                return cast(Object, await answer.json())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Refused(
                Cause.NOT_READY, f"The cluster's API does not answer ({type(error).__name__})"
            ) from error

    async def find(self, name: Name, port: int) -> tuple[str, str, int]:
        """The namespace, a ready pod and its port for ``name:port``.  Raises Refused."""
        namespace, service = await self._service(name)
        meta = service["metadata"]
        label = f"Service {namespace}/{meta['name']}"
        entry = next((each for each in service["spec"]["ports"] if each["port"] == port), None)
        if entry is None:
            known = ", ".join(str(each["port"]) for each in service["spec"]["ports"])
            raise Refused(Cause.UNKNOWN, f"{label} has no port {port}", todo=f"it has: {known}")
        slices = await self.get(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            labelSelector=f"kubernetes.io/service-name={meta['name']}",
        )
        for each in (slices or {}).get("items") or []:
            ports = {found.get("name") or "": found.get("port") for found in each["ports"] or []}
            number = ports.get(entry.get("name") or "")
            for endpoint in each.get("endpoints") or []:
                target = endpoint.get("targetRef") or {}
                is_ready = (endpoint.get("conditions") or {}).get("ready") is not False
                if number and is_ready and target.get("kind") == "Pod":
                    return namespace, str(target["name"]), int(number)
        raise Refused(
            Cause.NOT_READY,
            f"{label} has no ready pod",
            todo=f"see: kubectl -n {namespace} get pods",
        )

    async def _service(self, name: Name) -> tuple[str, Object]:
        if name.bare:
            listed = await self.get("/api/v1/services", fieldSelector=f"metadata.name={name.bare}")
            found = (listed or {}).get("items") or []
            if len(found) == 1:
                return str(found[0]["metadata"]["namespace"]), found[0]
            what = f"{name.bare} is in {len(found)} namespaces" if found else f"No {name.bare}"
            raise Refused(Cause.UNKNOWN, what, todo="a Service is <service>.<namespace>")
        for reading in name.readings:
            path = f"/api/v1/namespaces/{reading.namespace}/services/{reading.service}"
            service = await self.get(path)
            if service is not None:
                return reading.namespace, service
        last = name.readings[-1]
        space = await self.get(f"/api/v1/namespaces/{last.namespace}")
        if space is None and not name.certain:
            raise outside(name.host, why=f"there is no namespace {last.namespace}")
        raise Refused(
            Cause.UNKNOWN,
            f"No Service {last.service} in namespace {last.namespace}",
            todo=f"see: kubectl -n {last.namespace} get services",
        )

    async def forward(self, namespace: str, pod: str, port: int) -> aiohttp.ClientWebSocketResponse:
        """A port-forward to one port of one pod.  Raises Refused."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
        try:
            return await self._open().ws_connect(
                self._server + path,
                protocols=(_PROTOCOL,),
                headers=await self._headers(),
                ssl=self._ssl,
                max_msg_size=0,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Refused(
                Cause.UNKNOWN,
                f"The cluster refuses a port-forward to {namespace}/{pod} "
                f"({getattr(error, 'status', '') or type(error).__name__})",
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to a running loop
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    async def _headers(self) -> dict[str, str]:
        """Who we are; a plugin that is asked for a new token takes its time elsewhere."""
        try:
            return await asyncio.to_thread(lambda: self._transport.auth_headers)
        except UsageError as error:
            raise Refused(Cause.NOT_READY, str(error)) from error


class ForwardingDialler(Dialler):
    """Connects to pods of a foreign cluster."""

    def __init__(self, cluster: Cluster, limits: Limits) -> None:
        super().__init__(limits)
        self._cluster = cluster
        self._limit = limits.connect_seconds
        self._pumps: set[asyncio.Task[None]] = set()

    async def connect(self, route: Route) -> Streams:
        """A connection to a pod behind the route's name.  Raises Refused."""
        ((host, port),) = route.endpoints
        name = understand(host, namespace=route.namespace or None)
        try:
            async with asyncio.timeout(self._limit):
                namespace, pod, number = await self._cluster.find(name, port)
                opened = await self._cluster.forward(namespace, pod, number)
        except TimeoutError:
            raise Refused(
                Cause.NOT_READY, f"{route.subject}: no answer within {self._limit:g} s"
            ) from None
        ours, theirs = socket.socketpair()
        inner = await asyncio.open_connection(sock=theirs, limit=CHUNK)
        pump = asyncio.create_task(_pump(opened, inner))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        return await asyncio.open_connection(sock=ours, limit=CHUNK)


async def _pump(opened: aiohttp.ClientWebSocketResponse, inner: Streams) -> None:
    """Bytes both ways between a port-forward and a socket, until either ends."""
    reader, writer = inner

    async def up() -> None:
        while data := await reader.read(CHUNK):
            await opened.send_bytes(bytes((_DATA,)) + data)

    async def down() -> None:
        begun: set[int] = set()
        async for message in opened:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], cast("Any", message.data)[1:]
            if channel not in begun:  # each begins with the port's number, in two bytes
                begun.add(channel)
                data = data[2:]
            if channel == _ERROR and data:
                return
            if channel == _DATA and data:
                writer.write(data)
                await writer.drain()

    ways = [asyncio.create_task(up()), asyncio.create_task(down())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if ways[1].done() and not writer.is_closing():
            writer.write_eof()
    finally:
        for way in ways:
            way.cancel()
        results = await asyncio.gather(*ways, return_exceptions=True)
        failed = any(isinstance(each, OSError) for each in results)
        if not failed:
            writer.close()
        else:
            abort(writer)
        await opened.close()
