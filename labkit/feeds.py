"""What a watcher listens to, each until it ends: one coroutine for each kind of news.

Everything is pushed: watches and streams of the Kubernetes API (objects, Vault's log, the
app's events).  Only the lab's own files are looked at, by their size, a few times a second.
A feed whose source goes away begins anew when it is back; what the news mean is ``board``'s.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit import argocd, position, vault
from labkit.board import Board
from labkit.errors import ApiError, ClusterError, LabError
from labkit.kube import Kube, Object, Resource
from labkit.kube.streams import Streams
from labkit.paths import LabPaths
from labkit.things import KINDS
from labkit.trouble import told_of
from labkit.vault import audit_entry

_LOG = logging.getLogger(__name__)
LOOK = 0.05  # seconds between two looks at the files' sizes
_SELDOM = 20  # looks between two at what changes seldom
_AGAIN = 0.3  # seconds before a feed that ended begins anew
_SILENCE = 40.0  # seconds: the app's stream has a heartbeat every 15
_BACKLOG = 4 << 20  # bytes of a file's end that are read at first

Feed = Callable[[], Awaitable[None]]


async def all_of(kube: Kube, streams: Streams, paths: LabPaths, board: Board) -> None:
    """All feeds of one lab at once; never ends by itself.  Cancel it."""
    heard = asyncio.Event()  # something that makes Vault's state doubtful
    feeds: list[Feed] = [
        *(_objects(streams, board, resource, heard) for resource in KINDS),
        lambda: _applications(streams, board),
        lambda: _vault_log(streams, board, heard),
        lambda: _vault_health(streams, board, heard),
        lambda: _app(streams, board),
        lambda: _files(paths, board),
        lambda: _words(kube, board),
    ]
    async with asyncio.TaskGroup() as group:
        for feed in feeds:
            group.create_task(_forever(feed))


async def _forever(feed: Feed) -> None:
    """Begin a feed anew whenever it ends, whatever ended it."""
    while True:
        pause = _AGAIN
        try:
            await feed()
        except ApiError:
            pass  # its source is away
        except LabError:
            pause = 1.0  # so is the API
        except Exception:  # a mistake in one feed shall not end the others
            _LOG.warning("the watcher met something unexpected", exc_info=True)
            pause = 30.0
        await asyncio.sleep(pause)


# -- the cluster's objects ---------------------------------------------------------------


def _objects(streams: Streams, board: Board, resource: Resource, heard: asyncio.Event) -> Feed:
    async def feed() -> None:
        # Of Secrets nothing but their metadata leaves the API server.
        news = streams.follow(resource.path(), metadata_only=resource.kind == "Secret")
        try:
            async with aclosing(news):
                async for change, objects in news:
                    if change == "ALL":
                        board.all(resource.kind, objects)
                        heard.set()
                        continue
                    for obj in objects:
                        board.object(change, resource.kind, obj)
                        if obj["metadata"].get("namespace") == vault.NAMESPACE:
                            heard.set()
        except ClusterError as error:
            if getattr(error, "status", 0) == 404:  # its CRD is not there (yet)
                board.all(resource.kind, [])
                await asyncio.sleep(2.0)
            raise

    return feed


async def _applications(streams: Streams, board: Board) -> None:
    """What Argo CD says, in a lab that has it."""
    await board.until(lambda: board.argocd)
    try:
        async with aclosing(streams.follow(argocd.APPLICATION.path(argocd.NAMESPACE))) as news:
            async for change, objects in news:
                if change == "ALL":
                    board.applications(objects)
                for obj in objects if change != "ALL" else ():
                    board.application(change, obj)
    except ClusterError as error:
        if getattr(error, "status", 0) == 404:  # it is just being installed
            board.applications([])
            await asyncio.sleep(2.0)
        raise


# -- Vault ---------------------------------------------------------------------------------


async def _vault_log(streams: Streams, board: Board, heard: asyncio.Event) -> None:
    """The audit device's lines of one container's life, what was written before included."""
    await board.until(lambda: board.is_running(board.vault_pod))
    async for line in _pod_log(streams):
        if line is None:
            board.settle("vault")
        elif entry := audit_entry(line):
            board.audit(entry)
            if entry.path in {"sys/seal", "sys/init", "sys/unseal"}:
                heard.set()
        elif b"vault is" in line:  # sealed, unsealed
            heard.set()


async def _pod_log(streams: Streams) -> AsyncGenerator[bytes | None]:
    """What there is by now, then None, then what comes."""
    path = f"/api/v1/namespaces/{vault.NAMESPACE}/pods/{vault.POD}/log"
    asked = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for line in (await streams.read(path)).splitlines():
        yield line
    yield None
    async for line in streams.lines(f"{path}?follow=true&sinceTime={asked}"):
        yield line


async def _vault_health(streams: Streams, board: Board, heard: asyncio.Event) -> None:
    """Ask Vault how it is, whenever something was heard that may have changed it."""
    path = (
        Kube.service_path(vault.NAMESPACE, vault.SERVICE, vault.PORT)
        + "/v1/sys/health?standbyok=true&sealedcode=200&uninitcode=200"
    )
    await board.until(lambda: board.is_told("Pod"))
    while True:
        answer = None
        if board.is_running(board.vault_pod):
            try:
                answer = await streams.get(path)
            except (ClusterError, ValueError):
                heard.set()  # it is starting, or on its way down
        board.health(answer)
        await asyncio.sleep(_AGAIN if answer is None else 0.1)
        await heard.wait()
        heard.clear()


# -- the app ---------------------------------------------------------------------------------


async def _app(streams: Streams, board: Board) -> None:
    """One pod's page and events, for as long as it is the app's newest."""
    await board.until(lambda: board.is_running(board.app_pod))
    pod = board.app_pod
    assert pod is not None  # noqa: S101 - until has seen it
    uid = pod["metadata"]["uid"]

    def is_another() -> bool:
        now = board.app_pod
        return now is None or now["metadata"]["uid"] != uid

    listening = asyncio.ensure_future(_events(streams, board, pod))
    replaced = asyncio.ensure_future(board.until(is_another))
    try:
        await asyncio.wait({listening, replaced}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (listening, replaced):
            task.cancel()
        await asyncio.gather(listening, replaced, return_exceptions=True)
        board.page(None, uid)


async def _events(streams: Streams, board: Board, pod: Object) -> None:
    meta = pod["metadata"]
    base = (
        f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}:{_port(board, pod)}/proxy/api"
    )
    async for line in streams.lines(f"{base}/events", idle=_SILENCE):
        if not line.startswith(b"data:"):
            continue
        event = json.loads(line[5:])
        if "event" not in event:  # the greeting: all that was before
            board.history(await streams.get(f"{base}/history"))
        else:
            board.history([event])
        if event.get("event") != "ack":
            board.page(await streams.get(f"{base}/credentials"), meta["uid"])


def _port(board: Board, pod: Object) -> int:
    ports = [
        port for container in pod["spec"]["containers"] for port in container.get("ports") or []
    ]
    named = [port for port in ports if port.get("name") == board.route.port]
    return int((named or ports or [{"containerPort": 8080}])[0]["containerPort"])


# -- the lab's files -------------------------------------------------------------------------


async def _files(paths: LabPaths, board: Board) -> None:
    """The node's journal, the API server's audit log, and which lesson the lab is in."""
    journal, audit = Tail(paths.journal), Tail(paths.api_audit)
    looks = 0
    while True:
        for line in journal.lines():
            board.node_line(line, line.get("target") or _target(Path(line.get("path", ""))))
        for line in audit.lines():
            board.api_line(line)
        if looks % _SELDOM == 0:
            board.place(position.read(paths.position))
        if not looks:
            board.settle("files")
        looks += 1
        await asyncio.sleep(LOOK)


def _target(volume: Path) -> str:
    with suppress(OSError):
        return str((volume / "..data").readlink())
    return ""


class Tail:
    """A growing file of JSON lines; one that was rotated away is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._at = 0
        self._rest = b""

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines since the last call; at first those of the file's end."""
        try:
            seen = self._path.stat()
        except OSError:
            return
        if seen.st_ino != self._inode or seen.st_size < self._at:
            is_first = self._inode == 0
            self._inode, self._rest = seen.st_ino, b""
            self._at = max(0, seen.st_size - _BACKLOG) if is_first else 0
        if seen.st_size == self._at:
            return
        with suppress(OSError), self._path.open("rb") as stream:
            stream.seek(self._at)
            data = stream.read()
            self._at += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                with suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict):
                        yield entry


# -- why something does not come ---------------------------------------------------------------


async def _words(kube: Kube, board: Board) -> None:
    """What ESO says while its ExternalSecret fails and a rotation waits for it.

    Its events come after the status that they explain, and change nothing in it: whoever
    waits asks again.
    """

    def is_stuck() -> bool:
        external = board.external
        return bool(board.waiting() and external and not board.is_ready(external))

    while True:
        await board.until(is_stuck)
        external, rotation = board.external, board.waiting()
        if external and rotation:
            board.words(rotation.started, await asyncio.to_thread(told_of, kube, external))
        await asyncio.sleep(1.0)
