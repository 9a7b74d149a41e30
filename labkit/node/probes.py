"""Ask a container whether it is well: probes, and the lifecycle hooks that look like them.

``Handler`` actions (exec, httpGet, tcpSocket, grpc, sleep) are carried out here; when to ask
and what follows from the answers is ``ProbeLoop``'s part, with the kubelet's thresholds
and texts (pkg/probe, pkg/kubelet/prober).  Where a pod's port really listens, and how a
command runs inside a container, is told by a ``Surroundings`` object.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp

from labkit.node import grpc
from labkit.node.pod import Json

_MAX_BODY = 10 * 1024  # the kubelet reads no more of a probe's answer
_MAX_REDIRECTS = 10


class Unreachable(Exception):
    """An address that leads nowhere; the text says why."""


class Surroundings(Protocol):
    """What a handler needs to know of the container that it is about."""

    @property
    def pod_ip(self) -> str: ...

    def port_number(self, port: int | str) -> int:
        """A port by number or by its name in the container; Unreachable when unknown."""

    def dial(self, host: str, port: int) -> tuple[str, int]:
        """Where a pod or Service address really is; Unreachable when nowhere."""

    async def execute(self, argv: tuple[str, ...], timeout: float) -> tuple[int | None, bytes]:  # noqa: ASYNC109
        """Run a command in the container: its exit code (None: timed out) and output."""


@dataclass(frozen=True)
class Answer:
    """What a handler said.  ``warning``: well, but worth an event."""

    well: bool
    output: str = ""
    warning: bool = False


class Prober:
    """Carries out handlers.  Close it when done."""

    def __init__(self, *, version: str = "1.37") -> None:
        self._version = version
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        handler: Json,
        where: Surroundings,
        *,
        timeout: float,  # noqa: ASYNC109 - a probe's own setting
        purpose: str = "probe",
    ) -> Answer:
        """Carry out one probe or hook; never raises for what the container does."""
        try:
            if "exec" in handler:
                return await self._exec(handler["exec"], where, timeout)
            if "httpGet" in handler:
                return await self._http_get(handler["httpGet"], where, timeout, purpose)
            if "tcpSocket" in handler:
                return await self._tcp(handler["tcpSocket"], where, timeout)
            if "grpc" in handler:
                return await self._grpc(handler["grpc"], where, timeout, purpose)
            if "sleep" in handler:
                await asyncio.sleep(float(handler["sleep"]["seconds"]))
                return Answer(True)
        except Unreachable as error:
            return Answer(False, str(error))
        return Answer(False, "labkit's node knows exec, httpGet, tcpSocket, grpc and sleep")

    async def _exec(self, action: Json, where: Surroundings, timeout: float) -> Answer:  # noqa: ASYNC109
        argv = tuple(action.get("command") or ())
        code, output = await where.execute(argv, timeout)
        if code is None:
            line = " ".join(argv)
            return Answer(False, f'command timed out: "{line}" timed out after {timeout:g}s')
        return Answer(code == 0, output[:_MAX_BODY].decode(errors="replace"))

    async def _tcp(self, action: Json, where: Surroundings, timeout: float) -> Answer:  # noqa: ASYNC109
        host = action.get("host") or where.pod_ip
        port = where.port_number(action["port"])
        real_host, real_port = where.dial(host, port)
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(real_host, real_port)
        except TimeoutError:
            return Answer(False, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Answer(False, f"dial tcp {host}:{port}: connect: {_plain(error)}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Answer(True)

    async def _grpc(
        self,
        action: Json,
        where: Surroundings,
        timeout: float,  # noqa: ASYNC109
        purpose: str,
    ) -> Answer:
        port = where.port_number(action["port"])
        address = f"{where.pod_ip}:{port}"
        real_host, real_port = where.dial(where.pod_ip, port)
        agent = f"kube-{purpose}/{self._version}"
        try:
            async with asyncio.timeout(timeout):
                status = await grpc.check(
                    real_host, real_port, action.get("service") or "", authority=address,
                    agent=agent,
                )  # fmt: skip
        except TimeoutError:
            return Answer(False, f"timeout: health rpc did not complete within {timeout:g}s")
        except grpc.CheckError as error:
            return Answer(False, f"error: health rpc probe failed: {error}")
        except OSError as error:
            return Answer(
                False, f'error: failed to connect service at "{address}": {_plain(error)}'
            )
        if status != "SERVING":
            return Answer(False, f'service unhealthy (responded with "{status}")')
        return Answer(True, "service healthy")

    async def _http_get(
        self,
        action: Json,
        where: Surroundings,
        timeout: float,  # noqa: ASYNC109
        purpose: str,
    ) -> Answer:
        host = action.get("host") or where.pod_ip
        port = where.port_number(action["port"])
        scheme = str(action.get("scheme") or "HTTP").lower()
        path = str(action.get("path") or "/")
        url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
        headers = {
            "User-Agent": f"kube-{purpose}/{self._version}",
            "Accept": "*/*",
            "Host": f"{host}:{port}",
        }
        for header in action.get("httpHeaders") or ():
            given = {key.lower(): key for key in headers}
            name = given.get(str(header["name"]).lower(), str(header["name"]))
            headers[name] = str(header.get("value") or "")
        if not headers["Accept"]:
            del headers["Accept"]
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(url, headers, where)
        except TimeoutError:
            return Answer(
                False,
                f'Get "{url}": context deadline exceeded '
                "(Client.Timeout exceeded while awaiting headers)",
            )
        except aiohttp.ClientConnectorError as error:
            return Answer(
                False, f'Get "{url}": dial tcp {host}:{port}: connect: {_plain(error.os_error)}'
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(False, f'Get "{url}": {error or "EOF"}')

    async def _fetch(self, url: str, headers: dict[str, str], where: Surroundings) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # As the kubelet: no connection is kept, no certificate is checked.
                connector=aiohttp.TCPConnector(ssl=False, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        first = urlsplit(url)
        for _ in range(_MAX_REDIRECTS):
            parts = urlsplit(url)
            default = 443 if parts.scheme == "https" else 80
            real_host, real_port = where.dial(parts.hostname or "", parts.port or default)
            real = parts._replace(netloc=f"{real_host}:{real_port}").geturl()
            async with self._session.get(
                real, headers=headers, allow_redirects=False, proxy=None
            ) as response:
                body = (await response.content.read(_MAX_BODY)).decode(errors="replace")
                code = response.status
                if 300 <= code < 400 and "Location" in response.headers:
                    url = urljoin(url, response.headers["Location"])
                    if urlsplit(url).hostname == first.hostname:
                        headers = {**headers, "Host": urlsplit(url).netloc}
                        continue
                if 300 <= code < 400:
                    return Answer(
                        True, f"Probe terminated redirects, Response body: {body}", warning=True
                    )
                if 200 <= code < 300:
                    return Answer(True, body)
                return Answer(False, f"HTTP probe failed with statuscode: {code}")
        return Answer(False, f'Get "{url}": stopped after 10 redirects')


def _plain(error: OSError) -> str:
    """``connection refused`` for ECONNREFUSED, as Go says it."""
    text = error.strerror or str(error)
    # "[Errno 111] Connect call failed ('127.0.0.1', 1234)" names an address that is not the pod's.
    if "Connect call failed" in text or error.errno == errno.ECONNREFUSED:
        text = "connection refused"
    return text.lower()


@dataclass(frozen=True)
class ProbeSpec:
    """One probe's settings, with the API's defaults."""

    kind: str  # "Startup", "Readiness" or "Liveness"
    handler: Json
    delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    successes: int = 1
    failures: int = 3
    grace: float | None = None

    @classmethod
    def of(cls, kind: str, probe: Json) -> ProbeSpec:
        grace = probe.get("terminationGracePeriodSeconds")
        return cls(
            kind=kind,
            handler=probe,
            delay=float(probe.get("initialDelaySeconds") or 0),
            period=float(probe.get("periodSeconds") or 10),
            timeout=float(probe.get("timeoutSeconds") or 1),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
            grace=None if grace is None else float(grace),
        )


_EAGER_FOR = 10.0
_EAGER_EVERY = 0.2


async def run_probe(
    spec: ProbeSpec,
    prober: Prober,
    where: Surroundings,
    *,
    on_answer: Callable[[ProbeSpec, Answer], None],
    on_verdict: Callable[[ProbeSpec, bool], None],
) -> None:
    """Ask every ``spec.period`` seconds; report a verdict whenever a threshold is reached.

    Ends by itself after a failed liveness or any startup verdict: the container is then
    begun again, or the probe's work is done.

    In its first ten seconds a readiness or startup probe over the network also asks
    between its periods, and of those answers only a good one counts: a pod is then ready
    when it is, not up to a period later, and is never given up sooner than it should be.
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(spec.delay)
    eager = spec.kind != "Liveness" and spec.successes == 1 and "exec" not in spec.handler
    eager_until = loop.time() + _EAGER_FOR
    due = loop.time()
    last: bool | None = None
    run = 0
    while True:
        on_time = loop.time() >= due
        if on_time:
            # A little jitter keeps many probes from beating in time.
            due = loop.time() + spec.period * random.uniform(0.98, 1.02)  # noqa: S311
        answer = await prober.ask(spec.handler, where, timeout=spec.timeout)
        well = answer.well
        if well or on_time:
            run = run + 1 if well is last else 1
            last = well
            on_answer(spec, answer)
            if run >= (spec.successes if well else spec.failures):
                eager = eager and not well
                on_verdict(spec, well)
                if spec.kind == "Startup" or (spec.kind == "Liveness" and not well):
                    return
        pause = max(0.0, due - loop.time())
        if eager and loop.time() < eager_until:
            pause = min(pause, _EAGER_EVERY)
        await asyncio.sleep(pause)
