"""``kubectl exec`` and ``kubectl attach``: a container's streams to a websocket and back.

The first runs a command of its own in the container, which ends with its caller and with
the container, whichever goes first.  The second shows what the container itself prints
from now on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from labkit.errors import ProcessError
from labkit.node import logs, streams
from labkit.node.container import ContainerRun
from labkit.node.execution import STDERR, STDIN, STDOUT, Execution, Wanted
from labkit.node.streams import Channels
from labkit.tasks import together

_T = TypeVar("_T")


async def execute(
    channels: Channels, run: ContainerRun, argv: tuple[str, ...], wanted: Wanted
) -> None:
    """Run ``argv`` in the container of ``run`` for the caller at the other end.

    Raises Gone when the caller goes.
    """
    await _greet(channels, wanted)
    try:
        execution = await Execution.start(run, argv, wanted)
    except ProcessError as error:
        await channels.finish(
            streams.internal_error(f"error executing command in container: {error.seen}")
        )
        return
    tasks = _Tasks()
    try:
        shown = tasks.start(_show(channels, execution))
        caller = tasks.start(_listen(channels, execution))
        container = tasks.start(run.ended())
        await asyncio.wait({shown, caller, container}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done() and not container.done():
            return  # the caller has gone: nobody would see what else it prints
        if not shown.done():
            await execution.kill()
        code = await shown
        await tasks.cancel()  # the caller may still be sending, for nobody now
        await channels.finish(streams.exited(code))
    finally:
        await _surely(_clear_up(tasks, execution))


async def _clear_up(tasks: _Tasks, execution: Execution) -> None:
    await tasks.cancel()
    await execution.end()


async def _show(channels: Channels, execution: Execution) -> int:
    """Send all that the command prints; its exit code."""

    async def forward(stream: int) -> None:
        async for chunk in execution.read(stream):
            await channels.send(stream, chunk)

    await together(*map(forward, execution.outputs))
    return await execution.wait()


async def _listen(channels: Channels, execution: Execution) -> None:
    """Pass on what the caller sends, until it goes."""
    async for channel, data in channels.messages():
        if channel == STDIN and data is None:
            execution.close_stdin()
        elif channel == STDIN and data is not None:
            await execution.write(data)
        elif channel == streams.RESIZE and data:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                size = json.loads(data)
                execution.resize(int(size["Width"]), int(size["Height"]))


async def attach(channels: Channels, run: ContainerRun, wanted: Wanted) -> None:
    """Show what the container of ``run`` prints from now on, line by line, until it ends.

    Raises Gone when the caller goes.
    """
    await _greet(channels, wanted)
    lines = run.log.follow()
    tasks = _Tasks()
    try:
        shown = tasks.start(_follow(channels, lines, wanted))
        caller = tasks.start(_drain(channels))
        await asyncio.wait({shown, caller}, return_when=asyncio.FIRST_COMPLETED)
        if shown.done():
            shown.result()
            await tasks.cancel()
            await channels.finish(streams.SUCCESS)
    finally:
        run.log.unfollow(lines)
        await _surely(tasks.cancel())


async def _follow(channels: Channels, lines: asyncio.Queue[bytes | None], wanted: Wanted) -> None:
    shown = {"stdout": (STDOUT, wanted.stdout), "stderr": (STDERR, wanted.stderr)}
    while (line := await lines.get()) is not None:
        stream, text = logs.read_entry(line)
        channel, is_wanted = shown[stream]
        if is_wanted:
            await channels.send(channel, text)


async def _drain(channels: Channels) -> None:
    """Wait until the caller goes; what it sends has nowhere to go."""
    async for _ in channels.messages():
        pass


async def _greet(channels: Channels, wanted: Wanted) -> None:
    # An empty message says that the connection stands; some clients wait for it.
    lowest = STDOUT if wanted.stdout else STDERR if wanted.stderr else streams.ERROR
    await channels.send(lowest, b"")


class _Tasks:
    """Tasks that end together."""

    def __init__(self) -> None:
        self._all: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._all.append(task)
        return task

    async def cancel(self) -> None:
        for task in self._all:
            task.cancel()
        await asyncio.gather(*self._all, return_exceptions=True)


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` to its end, whoever cancels meanwhile: a lost connection does, and so
    does the end of the lab, and neither may leave a command behind."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
