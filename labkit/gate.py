"""The door to a foreign cluster's Services: the same forward proxy as on the embedded cluster.

``http://vault.vault:8200`` works for curl, bao and kernels with the same variables as ever;
each connection goes to a pod through the API server (port-forward), with the rights of the
lab's kubeconfig.  Whoever has no credential of the lab gets 407, a name outside the cluster
403.  The app's page has a loopback port of its own besides, as a browser knows no credential.

It is what the supervisor of such a lab runs in place of ``assembly``'s parts.  Where a name
leads is asked of the cluster each time; ``forwarding`` carries the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from importlib import metadata
from pathlib import Path

from labkit.chronicle import Chronicle
from labkit.errors import ClusterError
from labkit.forwarding import Cluster, ForwardingDialler, Names
from labkit.kube import kubeconfig
from labkit.node.network.connections import Connections
from labkit.node.network.forward import USER, ForwardProxy
from labkit.node.network.route import Route
from labkit.node.network.wire import Limits, lead
from labkit.paths import LabPaths, write_private
from labkit.record import Program

log = logging.getLogger(__name__)

PAGE = ("gitops-secrets-service.demo", 8080)
"""The Service whose page a browser on this machine may see."""


class Gate:
    """The parts of a lab in a foreign cluster.  ``start`` once, ``stop`` once or more."""

    def __init__(self, paths: LabPaths, run: Path, chronicle: Chronicle) -> None:
        self._paths = paths
        self._chronicle = chronicle
        self._limits = Limits(connect_seconds=15.0)
        self._connections = Connections(self._limits)
        self._cluster: Cluster | None = None
        self._proxy: ForwardProxy | None = None
        self._page: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the doors.  Raises LabError and OSError; nothing is left open then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        self._chronicle.step("Opening the door to the cluster's Services")
        access = kubeconfig.read(self._paths.kubeconfig)
        if not access.server:
            raise ClusterError("The lab's kubeconfig names no server")
        self._cluster = Cluster(access)
        names, dialler = Names(), ForwardingDialler(self._cluster, self._limits)
        credential = secrets.token_urlsafe(32)
        self._proxy = ForwardProxy(
            credential, names, self._connections, dialler, limits=self._limits
        )
        await self._proxy.start()

        async def show_page(client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
            await lead(client, lambda: _page_route(names), dialler, limits=self._limits)

        callback = self._connections.accept(show_page, speaks_http=False)
        self._page = await asyncio.start_server(callback, "127.0.0.1", 0)
        port = self._page.sockets[0].getsockname()[1]
        write_private(
            self._paths.proxy_url, f"http://{USER}:{credential}@127.0.0.1:{self._proxy.port}"
        )
        write_private(self._paths.page_url, f"http://127.0.0.1:{port}")
        self._chronicle.change(server=access.server, mode="foreign")
        self._chronicle.program(
            Program(name="door", version=_version(), pid=os.getpid(), state="running")
        )

    async def stop(self) -> None:
        """Close the doors and drop open connections; safe to repeat."""
        for url in (self._paths.proxy_url, self._paths.page_url):
            with contextlib.suppress(OSError):
                url.unlink(missing_ok=True)
        if self._proxy is not None:
            await self._proxy.stop()
        if self._page is not None:
            self._page.close()
        await self._connections.stop()
        if self._cluster is not None:
            await self._cluster.close()


def _page_route(names: Names) -> Route:
    return names.route(*PAGE)


def _version() -> str:
    try:
        return metadata.version("gitops-secrets-lab")
    except metadata.PackageNotFoundError:  # a copy that was never installed
        return ""
