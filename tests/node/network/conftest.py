"""A network over a directory that a test fills, and small real servers for its pods."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from labkit.node.network import ClusterNetwork, Directory, Limits, PortBlock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def service(name: str, ports: dict[int, int], *, namespace: str = "vault", **spec: Any) -> Any:
    """A Service; ``ports`` maps port to nodePort (0: none)."""
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}"},
        "spec": {
            "ports": [
                {"name": f"p{port}", "port": port, "protocol": "TCP"}
                | ({"nodePort": node_port} if node_port else {})
                for port, node_port in ports.items()
            ],
            **spec,
        },
    }


def endpoint_slice(
    name: str, ports: dict[int, int], *endpoints: dict[str, Any], namespace: str = "vault"
) -> Any:
    """The slice of a Service; ``ports`` maps a Service's port to the pods' port."""
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"{name}-abc",
            "uid": f"{namespace}-{name}-abc",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": f"p{port}", "port": to, "protocol": "TCP"} for port, to in ports.items()
        ],
        "endpoints": list(endpoints),
    }


def endpoint(ip: str, *, ready: bool | None = True, hostname: str = "", **more: bool) -> Any:
    found: dict[str, Any] = {"addresses": [ip], "conditions": {"ready": ready, **more}}
    return found | ({"hostname": hostname} if hostname else {})


@dataclass
class World:
    """A running network and the means to put pods into it."""

    directory: Directory
    network: ClusterNetwork
    runners: list[web.AppRunner] = field(default_factory=list)

    async def serve(self, handler: Handler) -> int:
        """A real HTTP server for every path; its port."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        self.runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    def pod(self, ip: str, port: int, *, name: str = "vault-0", namespace: str = "vault") -> None:
        self.directory.set_pod(ip, name, namespace, {8200: port})

    def vault(self, *endpoints: Any, node_port: int = 0, **spec: Any) -> None:
        """Service vault/vault, port 8200 to 8200, with these endpoints."""
        spec = {"clusterIP": "10.0.0.20", "clusterIPs": ["10.0.0.20"], **spec}
        self.directory.apply_service("MODIFIED", service("vault", {8200: node_port}, **spec))
        self.directory.apply_slice("MODIFIED", endpoint_slice("vault", {8200: 8200}, *endpoints))

    async def vault_serves(self, handler: Handler) -> None:
        """Vault in one ready pod."""
        self.pod("10.244.0.5", await self.serve(handler))
        self.vault(endpoint("10.244.0.5"))


@pytest.fixture
def limits() -> Limits:
    return Limits(head_seconds=2, connect_seconds=2, linger_seconds=0.5)


@pytest.fixture
async def world(limits: Limits) -> AsyncIterator[World]:
    before = asyncio.all_tasks()
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    directory = Directory()
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        network = ClusterNetwork(
            directory,
            egress_socket=Path(folder) / "egress" / "socket",
            port_block=PortBlock.reserve(4),
            limits=limits,
        )
        await network.start()
        running = World(directory, network)
        yield running
        await network.stop()
        assert not network.egress_socket.exists()
    for runner in running.runners:
        await runner.cleanup()
    await asyncio.sleep(0)
    leaked = [t for t in asyncio.all_tasks() - before if "labkit/node/network" in repr(t)]
    assert not leaked
    assert not problems
