"""One command inside a running container, with its streams held open at this end.

For ``kubectl exec``: three pipes, or a pseudo terminal.  The descriptors are read and
written without buffers in between, so a caller that takes output slowly slows the command
down, and memory stays flat.  Who asked for it, and how its streams travel, is left to
``sessions``; how a command gets into the container, to the run's recipe.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from labkit.node import launch
from labkit.node.container import ContainerRun
from labkit.process import Child, Command

STDIN, STDOUT, STDERR = 0, 1, 2

_CHUNK = 32 * 1024
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL for a command that nobody listens to any more

# A terminal that was inherited is not yet the session's own, and only the session's leader
# may make it so, just before it becomes the program.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Wanted:
    """The streams that the caller asked for."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass
class _Ends:
    """The ends of a command's streams: ``theirs`` for it, the others for this side."""

    theirs: tuple[int, int, int]
    sources: dict[int, int]
    sink: int | None
    terminal: int | None = None

    @classmethod
    def open(cls, wanted: Wanted) -> _Ends:
        if wanted.tty:
            terminal, other = os.openpty()
            sink = terminal if wanted.stdin else None
            ends = cls((other, other, other), {STDOUT: terminal}, sink, terminal)
        else:
            stdin, sink = os.pipe() if wanted.stdin else (os.open(os.devnull, os.O_RDONLY), None)
            sources, outputs = {}, {}
            for stream, is_wanted in ((STDOUT, wanted.stdout), (STDERR, wanted.stderr)):
                if is_wanted:
                    sources[stream], outputs[stream] = os.pipe()
                else:
                    outputs[stream] = os.open(os.devnull, os.O_WRONLY)
            ends = cls((stdin, outputs[STDOUT], outputs[STDERR]), sources, sink)
        for fd in ends._ours():
            os.set_blocking(fd, False)
        return ends

    def _ours(self) -> set[int]:
        return {*self.sources.values(), *(() if self.sink is None else (self.sink,))}

    def close(self) -> None:
        fds = self._ours()
        self.sources, self.sink, self.terminal = {}, None, None
        for fd in fds:
            os.close(fd)


class Execution:
    """A command that was started with ``start``; ``await end()`` when done with it."""

    def __init__(self, child: Child, ends: _Ends) -> None:
        self._child = child
        self._ends = ends
        self._over = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._watch = asyncio.create_task(self._wait(), name=f"exec {child.command.name}")

    @classmethod
    async def start(cls, run: ContainerRun, argv: tuple[str, ...], wanted: Wanted) -> Execution:
        """Start ``argv`` in the container.  Raises ProcessError when that can't be done."""
        command = run.recipe.wrap(argv, join=run.pid)
        if wanted.tty:
            command = _on_terminal(command)
        ends = _Ends.open(wanted)
        try:
            child = await Child.spawn(command, streams=ends.theirs)
        except BaseException:
            ends.close()
            raise
        finally:
            for fd in set(ends.theirs):
                os.close(fd)
        return cls(child, ends)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The streams that ``read`` gives; of a terminal, STDOUT alone."""
        return tuple(self._ends.sources)

    async def read(self, stream: int) -> AsyncIterator[bytes]:
        """What the command writes to ``stream``, until it closes it or ends.

        What a process that outlives the command writes later is not waited for.
        """
        fd = self._ends.sources[stream]
        loop = asyncio.get_running_loop()
        while True:
            over = self._over  # asked first: what was written before the end is there then
            try:
                chunk = os.read(fd, _CHUNK)
            except BlockingIOError:
                if over:
                    return
                await self._ready(fd, loop.add_reader, loop.remove_reader)
                continue
            except OSError:  # EIO: nobody has the other end of the terminal open any more
                return
            if not chunk:
                return
            yield chunk

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the command's stdin; dropped when it reads no more."""
        loop = asyncio.get_running_loop()
        left = memoryview(data)
        while left and self._ends.sink is not None and not self._over:
            try:
                left = left[os.write(self._ends.sink, left) :]
            except BlockingIOError:
                await self._ready(self._ends.sink, loop.add_writer, loop.remove_writer)
            except OSError:  # EPIPE
                return

    def close_stdin(self) -> None:
        """Tell the command that no more comes.  A terminal has no such thing: ignored."""
        if self._ends.sink is not None and self._ends.terminal is None:
            os.close(self._ends.sink)
            self._ends.sink = None

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; the kernel tells the command with SIGWINCH."""
        if self._ends.terminal is not None:
            size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
            fcntl.ioctl(self._ends.terminal, termios.TIOCSWINSZ, size)

    async def wait(self) -> int:
        """Wait for the end; the exit code as a shell tells it (128 + signal)."""
        return await asyncio.shield(self._watch)

    async def kill(self) -> None:
        """End the command at once.  What it printed before can still be read."""
        await self._child.stop(grace=0)

    async def end(self) -> None:
        """Stop the command if it still runs, and close everything.  Safe to repeat.

        To be called once nobody reads or writes any more.
        """
        self._ends.close()  # of a terminal: the command gets SIGHUP
        await self._child.stop(grace=_GRACE)
        await self.wait()

    async def _wait(self) -> int:
        code = await self._child.wait()
        self._over = True
        for future in self._waiting:
            _wake(future)
        return 128 - code if code < 0 else code

    async def _ready(self, fd: int, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
        """Wait until ``fd`` can be read (or written), or the command has ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        add(fd, _wake, future)
        try:
            await future
        finally:
            remove(fd)
            self._waiting.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _on_terminal(command: Command) -> Command:
    """``command``, so that the terminal on its stdin becomes its own: Ctrl-C, hang-up, jobs."""
    env = {"TERM": "xterm", **command.env}
    if launch.__file__ in command.argv:
        return replace(command, env=env)  # the launcher does it, in the session that it makes
    take = (sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL)
    return replace(command, argv=(*take, *command.argv), env=env)
