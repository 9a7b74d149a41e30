"""One supervised child process: started, awaited until ready, stopped.

It knows nothing of Kubernetes: a command, a place for its output, a probe.  A start
has three outcomes, all waited for at once: ready, exited (with its code and its last
lines), timed out.  Restarting, and deciding when, is left to the caller.

A child always leads a session of its own, so a Ctrl-C in the caller's terminal does
not reach it, and when it ends, what is left of its process group is killed: as in a
container, where nothing outlives the first process.  When the process that started it
is killed itself, the kernel kills the child too (Linux); elsewhere the ledger tells the
next comer what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labkit import host
from labkit.errors import ProcessError
from labkit.host import describe_exit as describe_exit
from labkit.ledger import Ledger as Ledger

OutputHandler = Callable[[str, bytes], None]
"""Called in the event loop with "stdout" or "stderr" and a chunk as it came."""

_TAIL_BYTES = 8192
_TAIL_LINES = 12


@dataclass(frozen=True)
class Command:
    """What to run.  ``env`` is the whole environment; its values never show in a repr.

    ``minds_parent``: the program itself takes care to end with the process that starts it.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None = None
    minds_parent: bool = False


_ledger: Ledger | None = None


def keep_ledger(ledger: Ledger | None) -> None:
    """Enter every child that this process starts from now on (None: stop doing so).

    Process-wide on purpose: a supervisor owns one lab, and no child may be missed.
    """
    global _ledger
    _ledger = ledger


class Child:
    """A running (or ended) process.  Make one with ``await Child.spawn(command)``."""

    def __init__(self, command: Command, process: subprocess.Popen[bytes]) -> None:
        self.command = command
        self.pid = process.pid
        self.start_time = host.process_start_time(process.pid) or 0.0
        self._process = process
        self._exited = asyncio.Event()
        self._readers: list[asyncio.Task[None]] = []
        self._log: tuple[Path, int] | None = None
        self._tail = bytearray()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else describe_exit(self.returncode)
        return f"<Child {self.command.name} pid={self.pid} {state}>"

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    @classmethod
    async def spawn(
        cls,
        command: Command,
        *,
        log: Path | None = None,
        on_output: OutputHandler | None = None,
        streams: tuple[int, int, int] | None = None,
    ) -> Child:
        """Start ``command``.

        ``log``: both streams are appended to this file (0600).  ``on_output``: called
        with each chunk instead.  Neither: output is dropped.  ``streams``, before both:
        descriptors to be its stdin, stdout and stderr; the caller closes its own.
        Raises ProcessError when the program cannot be started at all.
        """
        pipes: list[tuple[str, int, int]] = []
        offset = 0
        stdin = subprocess.DEVNULL
        try:
            if streams is not None:
                log = on_output = None
                stdin, out, err = map(os.dup, streams)
            elif log is not None:
                on_output = None
                out = err = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                offset = os.fstat(out).st_size
            elif on_output is not None:
                pipes = [(name, *os.pipe()) for name in ("stdout", "stderr")]
                out, err = pipes[0][2], pipes[1][2]
            else:
                out = err = subprocess.DEVNULL
            try:
                child = cls(command, _popen(command, stdin, out, err))
            finally:
                for fd in {stdin, out, err} - {subprocess.DEVNULL}:
                    os.close(fd)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in argv or env
            for _, read_end, _ in pipes:
                os.close(read_end)
            seen = f"{command.argv[0]}: {error}"
            if isinstance(error, OSError):  # its file may be the cwd or the log instead
                seen = f"{error.filename or command.argv[0]}: {error.strerror}"
            raise ProcessError(f"{command.name} could not be started", seen=seen) from error
        if log is not None:
            child._log = (log, offset)
        if on_output is not None:
            child._readers = [
                asyncio.create_task(child._pump(name, read_end, on_output))
                for name, read_end, _ in pipes
            ]
        child._watch()
        if _ledger is not None:
            _ledger.add(child.pid, child.start_time, command.name)
        return child

    def _watch(self) -> None:
        """Have ``_ended`` called in the event loop once the process is a zombie."""
        loop = asyncio.get_running_loop()
        try:
            pidfd = os.pidfd_open(self.pid)  # Linux 5.3
        except (AttributeError, OSError):

            def wait_in_thread() -> None:
                with contextlib.suppress(ChildProcessError):
                    # WNOWAIT leaves the zombie, so that its pid cannot be used again yet.
                    os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(self._ended)

            threading.Thread(target=wait_in_thread, daemon=True).start()
            return

        def readable() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._ended()

        loop.add_reader(pidfd, readable)

    def _ended(self) -> None:
        """The process is a zombie: kill the rest of its group, then reap it.

        In this order the pid, which is also the group's id, cannot be another's yet.
        """
        _kill_group(self.pid, signal.SIGKILL)
        self._process.wait()
        self._exited.set()

    async def _pump(self, name: str, read_end: int, on_output: OutputHandler) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        file = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        try:
            while chunk := await reader.read(65536):
                self._tail += chunk
                del self._tail[:-_TAIL_BYTES]
                on_output(name, chunk)
        finally:
            transport.close()

    async def wait(self) -> int:
        """Wait for the end; the exit code, negative for a signal.

        Output that was written before the end has been handed on by then.
        """
        await self._exited.wait()
        if self._readers:
            # A process that left the group may hold the pipe open for ever: not waited for.
            await asyncio.wait(self._readers, timeout=1)
            for reader in self._readers:
                reader.cancel()
        return int(self._process.wait())

    async def wait_ready(
        self,
        probe: Callable[[], Awaitable[bool]],
        *,
        timeout: float,  # noqa: ASYNC109 - one of the three outcomes, reported as such
        interval: float = 0.02,
    ) -> None:
        """Wait until ``probe`` says True.

        Raises ProcessError when the process ends first (its code and last lines) or when
        ``timeout`` seconds pass (the last lines).  What ``probe`` raises is passed on.
        The process is not stopped.
        """

        async def poll() -> None:
            while not await probe():  # noqa: ASYNC110 - the other side is no coroutine of ours
                await asyncio.sleep(interval)

        began = time.monotonic()
        ready = asyncio.create_task(poll())
        ended = asyncio.create_task(self._exited.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                return
            if ended.done():
                await self.wait()
                raise self.early_exit()
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        raise ProcessError(
            f"{self.command.name} was not ready within {time.monotonic() - began:.0f} s",
            seen=self._seen("it still runs"),
        )

    def early_exit(self) -> ProcessError:
        """The error that tells of an end that nobody asked for."""
        code = 0 if self.returncode is None else self.returncode
        return ProcessError(
            f"{self.command.name} ended by itself", seen=self._seen(describe_exit(code))
        )

    def _seen(self, state: str) -> str:
        lines = self.last_lines()
        return f"{state}; last lines:\n{lines}" if lines else f"{state}, and it printed nothing"

    def last_lines(self, count: int = _TAIL_LINES) -> str:
        """The last lines that this child (not one before it in the same log) has printed."""
        data = bytes(self._tail)
        if self._log is not None:
            path, offset = self._log
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(offset, size - _TAIL_BYTES))
                    data = file.read()
            except OSError:
                data = b""
        return "\n".join(data.decode(errors="replace").splitlines()[-count:])

    def signal(self, sig: signal.Signals) -> None:
        """Send ``sig`` to the process alone; nothing when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    async def stop(self, *, grace: float) -> int:
        """SIGTERM to the group, wait ``grace`` seconds, SIGKILL; the exit code.

        Safe to repeat, and on a process that has ended.  Should the caller be cancelled
        while it waits, the group is killed at once.
        """
        if self.returncode is None:
            _kill_group(self.pid, signal.SIGTERM if grace > 0 else signal.SIGKILL)
            try:
                await asyncio.wait_for(self._exited.wait(), grace if grace > 0 else None)
            except TimeoutError:
                self._kill_if_running()
            except asyncio.CancelledError:
                self._kill_if_running()
                raise
        return await self.wait()

    def _kill_if_running(self) -> None:
        if self.returncode is None:
            _kill_group(self.pid, signal.SIGKILL)


def _kill_group(pgid: int, sig: signal.Signals) -> None:
    # PermissionError: macOS answers so for a group of zombies only.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, sig)


def _popen(command: Command, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.argv,
        env=dict(command.env),
        cwd=command.cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        # Takes a fork where a vfork would do: 2.5 ms instead of 0.1 for a supervisor's size.
        preexec_fn=None if command.minds_parent else host.ends_with_this_thread(),
    )
