"""The API server's unix socket, NodePorts, and ports for Services whose clients know no proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from labkit.errors import NodeError
from labkit.node.network import ClusterNetwork, Directory, PortBlock

from .conftest import World, endpoint, service


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello from a pod")


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


# The API server's door


async def dial(world: World, target: str) -> bytes:
    path = str(world.network.egress_socket)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if answer.startswith(b"HTTP/1.1 200"):
        writer.write(GET)
    answer += await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "target", ["10.244.0.5:8200", "vault.vault.svc:8200", "10.0.0.20:8200", "lab:10250"]
)
async def test_the_api_server_reaches_pods_services_and_nodes(world: World, target: str) -> None:
    await world.vault_serves(hello)
    world.directory.set_node(["lab"], {10250: await world.serve(hello)})
    answer = await dial(world, target)
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    assert answer.endswith(b"hello from a pod")


@pytest.mark.parametrize(
    ("target", "status"),
    [("example.com:443", 403), ("127.0.0.1:22", 403), ("10.244.0.77:80", 502), ("lab:1", 502)],
)
async def test_the_api_server_is_told_why_not(world: World, target: str, status: int) -> None:
    world.directory.set_node(["lab"], {10250: 1})
    assert (await dial(world, target)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_the_socket_is_private_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "egress" / "s"
    path.parent.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    network = ClusterNetwork(Directory(), egress_socket=path, port_block=PortBlock.reserve(1))
    await network.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await network.stop()
    assert not path.exists()


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100)
    network = ClusterNetwork(Directory(), egress_socket=path, port_block=PortBlock.reserve(1))
    with pytest.raises(NodeError, match="too long"):
        await network.start()


# NodePorts


def can_bind(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return True
    return False


def test_two_blocks_do_not_meet() -> None:
    one, two = PortBlock.reserve(8), PortBlock.reserve(8)
    try:
        assert not set(one.ports) & set(two.ports)
        assert one.range == f"{one.ports[0]}-{one.ports[0] + 7}"
        assert not any(can_bind(port) for port in (*one.ports, *two.ports))
        again = PortBlock.reserve(8, prefer=one.ports[0])
        assert not set(again.ports) & set(one.ports)
        again.release()
    finally:
        one.release()
        two.release()
    one.release()
    same = PortBlock.reserve(8, prefer=two.ports[0])
    assert same.ports == two.ports
    same.release()


def test_no_room_for_a_block() -> None:
    with pytest.raises(NodeError, match="no 3000 free ports"):
        PortBlock.reserve(3000)


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(GET)
        return await reader.read()
    finally:
        writer.close()


async def eventually_open(world: World, *ports: int) -> None:
    async with asyncio.timeout(2):
        while world.network.open_node_ports != frozenset(ports):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_node_port_comes_and_goes_with_its_service(world: World) -> None:
    one, two = world.network.port_block.ports[:2]
    await world.vault_serves(hello)
    with pytest.raises(ConnectionRefusedError):
        await ask(one)
    for port in (one, two, one):
        world.vault(endpoint("10.244.0.5"), node_port=port)
        await eventually_open(world, port)
        assert (await ask(port)).endswith(b"hello from a pod")
        other = one if port == two else two
        with pytest.raises(ConnectionRefusedError):
            await ask(other)
        assert not can_bind(other)
    world.vault(endpoint("10.244.0.5", ready=False), node_port=one)
    with pytest.raises(ConnectionResetError):
        await ask(one)
    world.directory.apply_service("DELETED", service("vault", {8200: one}))
    await eventually_open(world)
    with pytest.raises(ConnectionRefusedError):
        await ask(one)
    assert not can_bind(one)


async def test_a_node_port_outside_the_block_is_left_alone(world: World) -> None:
    await world.vault_serves(hello)
    world.vault(endpoint("10.244.0.5"), node_port=32767)
    first = world.network.port_block.ports[0]
    world.directory.apply_service("ADDED", service("other", {80: first}))
    await eventually_open(world, first)


async def test_half_close_through_a_node_port(world: World) -> None:
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # until the client has ended its side
        writer.write(f"{len(data)}".encode())
        writer.close()

    server = await asyncio.start_server(sum_up, "127.0.0.1", 0)
    world.pod("10.244.0.5", server.sockets[0].getsockname()[1])
    port = world.network.port_block.ports[0]
    world.vault(endpoint("10.244.0.5"), node_port=port)
    await eventually_open(world, port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 5_000_000)
    await writer.drain()
    writer.write_eof()
    assert await reader.read() == b"5000000"
    writer.close()
    server.close()


# Doors of Services


def cache_service() -> dict[str, Any]:
    found: dict[str, Any] = service("vault", {8200: 0}, clusterIP="10.0.0.20")
    found["spec"]["ports"][0]["appProtocol"] = "redis"
    return found


async def test_a_service_that_no_proxy_serves_has_a_port_that_can_be_dialled(world: World) -> None:
    found = cache_service()
    world.directory.apply_service("ADDED", found)
    seen = world.network.dialable(found)
    assert seen["spec"]["clusterIP"] == "127.0.0.1"
    port = seen["spec"]["ports"][0]["port"]
    assert world.network.dialable(found)["spec"]["ports"][0]["port"] == port  # the same door
    # Its pods may come later than whoever was told of it, and go and come again.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await world.vault_serves(hello)
    world.directory.apply_service("MODIFIED", found)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    assert (await reader.read()).endswith(b"hello from a pod")
    writer.close()
    world.directory.apply_service("DELETED", found)
    await until_refused(port)


async def test_other_services_are_left_as_they_are(world: World) -> None:
    for protocol in (None, "http", "grpc", "kubernetes.io/h2c"):
        found = cache_service()
        found["spec"]["ports"][0]["appProtocol"] = protocol
        assert world.network.dialable(found) is found
    headless = cache_service()
    headless["spec"]["clusterIP"] = "None"
    assert world.network.dialable(headless)["spec"]["clusterIP"] == "None"


async def until_refused(port: int) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.01)
