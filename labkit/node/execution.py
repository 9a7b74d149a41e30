"""One command inside a running container, with its streams held open at this end.

For ``kubectl exec``: three pipes, or a pseudo terminal.  The descriptors are read and
written without buffers in between, so a caller that takes output slowly slows the command
down, and memory stays flat.  Who asked for it, and how its streams travel, is left to
``sessions``; how a command gets into the container, to the run's recipe.
"""

from __future__ import annotations

import asyncio
import contextlib
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


class Execution:
    """A command that was started with ``start``; ``await end()`` when done with it."""

    def __init__(
        self, child: Child, sources: dict[int, int], sink: int | None, terminal: int | None
    ) -> None:
        self._child = child
        self._sources = sources
        self._sink = sink
        self._terminal = terminal
        self._over = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._watch = asyncio.create_task(self._wait(), name=f"exec {child.command.name}")

    @classmethod
    async def start(cls, run: ContainerRun, argv: tuple[str, ...], wanted: Wanted) -> Execution:
        """Start ``argv`` in the container.  Raises ProcessError when that can't be done."""
        command = run.recipe.wrap(argv)
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            if wanted.tty:
                terminal, other = os.openpty()
                ours.callback(os.close, terminal)
                theirs.callback(os.close, other)
                streams = (other, other, other)
                sources, sink = {STDOUT: terminal}, terminal if wanted.stdin else None
                command = _on_terminal(command)
            else:
                terminal = None
                reads, writes = [], []
                for is_wanted in (wanted.stdin, wanted.stdout, wanted.stderr):
                    read, write = os.pipe() if is_wanted else (None, None)
                    reads.append(read)
                    writes.append(write)
                null = os.open(os.devnull, os.O_RDWR)
                theirs.callback(os.close, null)
                for fd in (reads[STDIN], writes[STDOUT], writes[STDERR]):
                    if fd is not None:
                        theirs.callback(os.close, fd)
                sink = writes[STDIN]
                sources = {n: fd for n in (STDOUT, STDERR) if (fd := reads[n]) is not None}
                for fd in (sink, *sources.values()):
                    if fd is not None:
                        ours.callback(os.close, fd)
                streams = tuple(
                    null if fd is None else fd
                    for fd in (reads[STDIN], writes[STDOUT], writes[STDERR])
                )
            child = await Child.spawn(command, streams=streams)
            ours.pop_all()
        for fd in {*sources.values(), *({sink} if sink is not None else ())}:
            os.set_blocking(fd, False)
        return cls(child, sources, sink, terminal)

    @property
    def outputs(self) -> tuple[int, ...]:
        """The streams that ``read`` gives; of a terminal, STDOUT alone."""
        return tuple(self._sources)

    async def read(self, stream: int) -> AsyncIterator[bytes]:
        """What the command writes to ``stream``, until it closes it or ends.

        What a process that outlives the command writes later is not waited for.
        """
        fd = self._sources[stream]
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
        while left and self._sink is not None and not self._over:
            try:
                left = left[os.write(self._sink, left) :]
            except BlockingIOError:
                await self._ready(self._sink, loop.add_writer, loop.remove_writer)
            except OSError:  # EPIPE
                return

    def close_stdin(self) -> None:
        """Tell the command that no more comes.  A terminal has no such thing: ignored."""
        if self._sink is not None and self._terminal is None:
            os.close(self._sink)
            self._sink = None

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; the kernel tells the command with SIGWINCH."""
        if self._terminal is not None:
            size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

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
        fds = {*self._sources.values(), *({self._sink} if self._sink is not None else ())}
        self._sources, self._sink, self._terminal = {}, None, None
        for fd in fds:
            os.close(fd)  # of a terminal: the command gets SIGHUP
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
