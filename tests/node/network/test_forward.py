"""The forward proxy with real clients and real servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import shutil
import subprocess
import urllib.parse
from collections.abc import AsyncIterator

import aiohttp
import pytest
import urllib3
from aiohttp import web

from labkit.node.network import Limits

from .conftest import World, endpoint, endpoint_slice, service

URL = "http://vault.vault:8200"


async def echo(request: web.Request) -> web.Response:
    """Says what arrived."""
    body = await request.read()
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


def named(name: str) -> object:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=name)

    return handler


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def raw(world: World, text: bytes) -> bytes:
    """Send ``text`` to the proxy as it stands, and read until the end."""
    reader, writer = await connect(world)
    writer.write(text)
    answer = await reader.read()
    writer.close()
    return answer


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = urllib.parse.urlsplit(world.network.proxy_url).port
    return await asyncio.open_connection("127.0.0.1", port)


def authorization(world: World, user: str = "lab", password: str | None = None) -> bytes:
    password = password or urllib.parse.urlsplit(world.network.proxy_url).password
    encoded = base64.b64encode(f"{user}:{password}".encode())
    return b"Proxy-Authorization: Basic " + encoded + b"\r\n"


# Who may


@pytest.mark.parametrize("target", [b"GET http://vault.vault:8200/", b"CONNECT vault.vault:8200"])
async def test_no_or_a_wrong_credential(world: World, target: bytes) -> None:
    await world.vault_serves(echo)
    head = target + b" HTTP/1.1\r\nHost: x\r\n"
    wrong = [
        b"",
        authorization(world, password="no"),
        authorization(world, user="root"),
        b"Proxy-Authorization: Basic ???\r\n",
        b"Proxy-Authorization: Bearer x\r\n",
        authorization(world) * 2,
        authorization(world).replace(b"Basic", b"Digest"),
        authorization(world, password="\N{SNOWMAN}"),
    ]
    for header in wrong:
        answer = await raw(world, head + header + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 407 ")
        assert b'\r\nProxy-Authenticate: Basic realm="labkit"\r\n' in answer
        assert answer.endswith(
            b'\r\n\r\nThis lab\'s network wants its credential; run: eval "$(labkit env)"\n'
        )


async def test_the_credential_stays_here(world: World, client: aiohttp.ClientSession) -> None:
    await world.vault_serves(echo)
    headers = {
        "Connection": "keep-alive, X-One-Hop",
        "X-One-Hop": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Authorization": "Bearer mine",
        "X-Vault-Token": "t",
        "Host": "elsewhere",
    }
    async with client.get(
        URL + "/a%2Fb?c=%20", proxy=world.network.proxy_url, headers=headers
    ) as r:
        seen = await r.json()
        assert r.headers["Connection"] == "close"
    assert seen["target"] == "/a%2Fb?c=%20"
    got = seen["headers"]
    assert got.pop("host") == "vault.vault:8200"
    assert got.pop("authorization") == "Bearer mine"
    assert got.pop("x-vault-token") == "t"
    assert got.pop("connection") == "close"
    assert set(got) <= {"accept", "accept-encoding", "user-agent"}


# Where to


@pytest.mark.parametrize(
    "host", ["vault", "vault.vault.svc", "vault.vault.svc.cluster.local", "10.0.0.20", "10.244.0.5"]
)
async def test_urllib3_by_each_form_of_the_name(world: World, host: str) -> None:
    await world.vault_serves(echo)
    parsed = urllib3.util.parse_url(world.network.proxy_url)
    headers = urllib3.make_headers(proxy_basic_auth=parsed.auth)

    def get() -> urllib3.BaseHTTPResponse:
        with urllib3.ProxyManager(world.network.proxy_url, proxy_headers=headers) as manager:
            return manager.request("GET", f"http://{host}:8200/x", retries=False)

    answer = await asyncio.to_thread(get)
    assert answer.status == 200
    assert answer.json()["headers"]["host"] == f"{host}:8200"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
@pytest.mark.parametrize("tunnel", [[], ["--proxytunnel"]])
async def test_curl(world: World, tunnel: list[str]) -> None:
    await world.vault_serves(echo)
    command = ["curl", "-sS", "-x", world.network.proxy_url, *tunnel]
    body = ["--data-binary", "@-", "-H", "Expect: 100-continue", f"{URL}/post"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, *body], input=b"x" * 3_000_000, capture_output=True, check=True
    )
    assert b'"size": 3000000' in done.stdout
    world.vault(endpoint("10.244.0.5", ready=False))
    done = await asyncio.to_thread(
        subprocess.run, [*command, "-i", f"{URL}/"], capture_output=True, check=False
    )
    assert b"503 Service vault/vault has no ready endpoints" in done.stdout


async def test_a_pods_short_names(world: World, client: aiohttp.ClientSession) -> None:
    await world.vault_serves(echo)
    url, ours = "http://vault:8200/", world.network.proxy_url_for
    async with client.get(url, proxy=ours("vault")) as response:
        assert response.status == 200
    async with client.get(url, proxy=ours("other")) as response:
        assert response.status == 502
        assert (await response.text()).startswith("No Service vault in namespace other;")


@pytest.mark.parametrize(
    "host", ["example.com", "127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "127.1"]
)
async def test_the_outside_is_refused_in_one_line(world: World, host: str) -> None:
    for target in (f"GET http://{host}:80/", f"CONNECT {host}:443"):
        head = f"{target} HTTP/1.1\r\nHost: x\r\n".encode() + authorization(world)
        answer = await raw(world, head + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 403 " + host.strip("[]").encode() + b" is not in this")
        assert answer.partition(b"\r\n\r\n")[2].count(b"\n") == 1


async def test_a_service_whose_program_does_not_listen(
    world: World, client: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    world.pod("10.244.0.5", unused_tcp_port)
    world.vault(endpoint("10.244.0.5"))
    async with client.get(URL, proxy=world.network.proxy_url) as response:
        assert response.status == 502
        assert "Service vault/vault does not take connections" in await response.text()


async def test_requests_go_round_the_ready_endpoints(
    world: World, client: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    for number in range(3):
        port = await world.serve(named(f"vault-{number}"))  # type: ignore[arg-type]
        world.pod(f"10.244.0.{number}", port, name=f"vault-{number}")

    async def ask(times: int) -> list[str]:
        found = []
        for _ in range(times):
            async with client.get(URL, proxy=world.network.proxy_url) as response:
                found.append(await response.text())
        return sorted(found)

    ready = [endpoint(f"10.244.0.{number}") for number in range(3)]
    world.vault(*ready)
    assert await ask(6) == ["vault-0"] * 2 + ["vault-1"] * 2 + ["vault-2"] * 2
    world.vault(*ready[:2], endpoint("10.244.0.2", ready=False))
    assert await ask(4) == ["vault-0"] * 2 + ["vault-1"] * 2
    world.pod("10.244.0.1", unused_tcp_port, name="vault-1")  # dead, but not yet known to be
    assert await ask(4) == ["vault-0"] * 4
    world.vault(endpoint("10.244.0.0", ready=False))
    async with client.get(URL, proxy=world.network.proxy_url) as response:
        line = "Service vault/vault has no ready endpoints; see: kubectl -n vault get pods"
        assert (response.status, response.reason) == (503, line)
        assert await response.text() == line + "\n"


async def test_a_pod_of_a_headless_service(world: World, client: aiohttp.ClientSession) -> None:
    world.pod("10.244.0.5", await world.serve(echo))
    world.directory.apply_service("ADDED", service("internal", {8200: 0}, clusterIP="None"))
    hosts = [endpoint("10.244.0.5", hostname="vault-0")]
    world.directory.apply_slice("ADDED", endpoint_slice("internal", {8200: 8200}, *hosts))
    url = "http://vault-0.internal.vault:8200/"
    async with client.get(url, proxy=world.network.proxy_url) as response:
        assert response.status == 200


async def test_connect_to_the_api_server(world: World) -> None:
    world.directory.set_api_server("127.0.0.1", await world.serve(echo))
    reader, writer = await connect(world)
    head = b"CONNECT kubernetes.default.svc:443 HTTP/1.1\r\nHost: x\r\n" + authorization(world)
    writer.write(head + b"\r\nGET /version HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\n")
    writer.close()


# What passes


async def test_large_bodies_both_ways(world: World, client: aiohttp.ClientSession) -> None:
    sent = bytes(range(256)) * 40_000

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return await echo(request)
        response = web.StreamResponse()  # chunked
        await response.prepare(request)
        for start in range(0, len(sent), 100_001):
            await response.write(sent[start : start + 100_001])
        return response

    await world.vault_serves(handler)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 77_777):
            yield sent[start : start + 77_777]

    for data in (sent, pieces()):
        async with client.post(URL, data=data, proxy=world.network.proxy_url) as response:
            seen = await response.json()
        assert seen["sha256"] == hashlib.sha256(sent).hexdigest()
    async with client.get(URL, proxy=world.network.proxy_url) as response:
        assert await response.read() == sent


async def test_events_pass_one_by_one_and_a_caller_that_leaves_is_noticed(
    world: World, client: aiohttp.ClientSession
) -> None:
    go, gone = asyncio.Event(), asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await go.wait()
        writer.write(b"data: two\n\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(stream, "127.0.0.1", 0) as server:
        world.pod("10.244.0.5", server.sockets[0].getsockname()[1])
        world.vault(endpoint("10.244.0.5"))
        async with asyncio.timeout(5), client.get(URL, proxy=world.network.proxy_url) as response:
            assert await response.content.readany() == b"data: one\n\n"
            go.set()
            assert await response.content.readany() == b"data: two\n\n"
            response.close()
            await gone.wait()


async def test_an_upgrade(world: World, client: aiohttp.ClientSession) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{message.data} too")
        return socket

    await world.vault_serves(handler)
    async with client.ws_connect(URL, proxy=world.network.proxy_url) as socket:
        for text in ("hello", "x" * 200_000):
            await socket.send_str(text)
            assert (await socket.receive()).data == f"{text} too"


async def test_a_refused_upgrade_is_an_ordinary_answer(world: World) -> None:
    await world.vault_serves(echo)
    head = b"GET http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\n" + authorization(world)
    answer = await raw(world, head + b"Connection: Upgrade\r\nUpgrade: other\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"upgrade": "other"' in answer


async def test_expect_100_continue_and_an_early_answer(world: World) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=413, text="no") if "big" in request.path else await echo(request)

    await world.vault_serves(handler)
    reader, writer = await connect(world)
    head = b"Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n" + authorization(world)
    writer.write(b"PUT http://vault.vault:8200/ HTTP/1.1\r\n" + head + b"\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"12345")
    assert b'"size": 5' in await reader.read()
    writer.close()
    head = b"Host: x\r\nContent-Length: 50000000\r\n" + authorization(world)
    answer = await raw(world, b"PUT http://vault.vault:8200/big HTTP/1.1\r\n" + head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_head_no_content_and_old_clients(world: World) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/204":
            return web.Response(status=204)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"no length")
        return response

    await world.vault_serves(handler)
    fields = b"Host: x\r\n" + authorization(world) + b"\r\n"
    answer = await raw(world, b"HEAD http://vault.vault:8200/ HTTP/1.1\r\n" + fields)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n")
    answer = await raw(world, b"DELETE http://vault.vault:8200/204 HTTP/1.1\r\n" + fields)
    assert answer.startswith(b"HTTP/1.1 204 No Content")
    answer = await raw(world, b"GET http://vault.vault:8200 HTTP/1.0\r\n" + fields)
    assert answer.endswith(b"\r\n\r\nno length")


async def test_half_an_answer_is_not_taken_for_a_whole_one(
    world: World, client: aiohttp.ClientSession
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport
        if request.path == "/nothing":
            request.transport.abort()
        elif request.path == "/nonsense":
            request.transport.write(b"SSH-2.0-x\r\n\r\n")  # type: ignore[attr-defined]
        else:
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")  # type: ignore[attr-defined]
        request.transport.close()
        return web.Response()

    await world.vault_serves(handler)
    for path in ("/nothing", "/nonsense"):
        async with client.get(URL + path, proxy=world.network.proxy_url) as response:
            assert response.status == 502
            assert "gave no HTTP answer" in await response.text()
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.get(URL, proxy=world.network.proxy_url) as response:
            await response.read()


# What does not


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"GET ftp://vault.vault/ HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"GET https://vault.vault/ HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"GET http://lab@vault.vault/ HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"GET http://vault.vault:99999/ HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"CONNECT vault.vault HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"CONNECT :8200 HTTP/1.1\r\nHost: x\r\nAUTH\r\n", 400),
        (b"POST http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nAUTHContent-Length: 3\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nAUTHContent-Length: 3\r\n"
         b"Content-Length: 4\r\n\r\n", 400),
        (b"POST http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nAUTH"
         b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nAUTH"
         b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n", 431),
        (b"GET http://vault.vault:8200/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 900_000, 431),
    ],
)  # fmt: skip
async def test_bad_requests(world: World, text: bytes, status: int) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await request.read()
        raise AssertionError("a bad request was passed on whole")

    await world.vault_serves(never)
    if text.endswith(b"y\r\n"):
        text += b"\r\n"
    answer = await raw(world, text.replace(b"AUTH", authorization(world)))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.partition(b"\r\n\r\n")[2].count(b"\n") == 1


async def test_a_pipelined_request_is_not_passed_on(world: World) -> None:
    await world.vault_serves(echo)
    one = b"GET http://vault.vault:8200/one HTTP/1.1\r\nHost: x\r\n" + authorization(world)
    two = b"GET http://vault.vault:8200/two HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await raw(world, one + b"\r\n" + two)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"/two" not in answer


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(head_seconds=0.1, connections=3, linger_seconds=0.2)

    async def test_a_slow_head(self, world: World) -> None:
        answer = await raw(world, b"GET http://vault.vault:8200/ HTTP/1.1\r\nX: ")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert await raw(world, b"") == b""

    async def test_too_many_connections(self, world: World) -> None:
        await world.vault_serves(echo)
        connections = [await self._tunnel(world) for _ in range(3)]
        answer = await raw(world, b"GET / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 The lab's network has too many open connections")
        connections.pop().close()
        connections.append(await self._tunnel(world))
        for writer in connections:
            writer.close()

    async def _tunnel(self, world: World) -> asyncio.StreamWriter:
        head = b"CONNECT vault.vault:8200 HTTP/1.1\r\nHost: x\r\n" + authorization(world) + b"\r\n"
        answer = b""
        async with asyncio.timeout(5):
            while not answer.startswith(b"HTTP/1.1 200"):
                reader, writer = await connect(world)
                writer.write(head)
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 200"):
                    writer.close()
        return writer


async def test_two_hundred_at_once(world: World) -> None:
    await world.vault_serves(echo)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number: int) -> None:
            data = bytes([number]) * 10_000
            async with session.post(URL, data=data, proxy=world.network.proxy_url) as response:
                assert (await response.json())["sha256"] == hashlib.sha256(data).hexdigest()

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(one(number))


async def test_stop_drops_what_is_open(world: World) -> None:
    await world.vault_serves(echo)
    reader, writer = await connect(world)
    head = b"CONNECT vault.vault:8200 HTTP/1.1\r\nHost: x\r\n" + authorization(world) + b"\r\n"
    writer.write(head)
    await reader.readuntil(b"\r\n\r\n")
    idle = await connect(world)
    await world.network.stop()
    await world.network.stop()
    assert await reader.read() == b""
    assert await idle[0].read() == b""
    with pytest.raises(OSError, match=r"refused|failed"):
        await connect(world)
    writer.close()
    idle[1].close()


async def test_the_credential_is_in_no_repr(world: World) -> None:
    secret = urllib.parse.urlsplit(world.network.proxy_url).password
    assert secret
    assert len(base64.urlsafe_b64decode(secret + "=")) == 32
    assert secret not in repr(world.network)
    assert secret not in repr(vars(world.network)["_forward"])
