"""Keeping one component running: started once with an answer, restarted ever after.

The first start is the caller's business: it succeeds or raises with the program's last
lines.  From then on the keeper restarts a program that dies, with a growing pause, and
says so through ``on_change``.  What a restart means for others is not its concern: the
control-plane programs reconnect to each other by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from labkit.cluster.components import Component, Health
from labkit.errors import ProcessError
from labkit.process import Child, Command, describe_exit
from labkit.record import Program

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 15.0
_HEALTHY_AFTER = 30.0
"""A program that ran this long (seconds) starts again with the first pause."""


OnChange = Callable[[Program], None]


class Keeper:
    """Runs one component until ``stop``."""

    def __init__(
        self,
        component: Component,
        *,
        log: Path,
        healthy: Callable[[Health], Awaitable[bool]],
        on_change: OnChange,
    ) -> None:
        self.component = component
        self.status = Program(component.name, component.version)
        self._log = log
        self._healthy = healthy
        self._on_change = on_change
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start and wait until healthy.

        Raises ProcessError (exit code and last lines, or not ready in time); nothing is
        left running then.
        """
        try:
            await self._start_once()
        except BaseException:
            await self.stop(grace=0)
            raise
        self._task = asyncio.create_task(self._keep())

    async def stop(self, *, grace: float | None = None) -> None:
        """Stop it for good; safe to repeat.  ``grace`` None takes the component's own."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._child is not None:
            await self._child.stop(grace=self.component.grace if grace is None else grace)
            self._child = None
        if self.status.state != "stopped":
            self._change(state="stopped", pid=None, start_time=None)

    async def _start_once(self) -> None:
        component = self.component
        command = Command(component.name, component.argv, component.env, component.cwd)
        self._child = child = await Child.spawn(command, log=self._log)
        self._change(pid=child.pid, start_time=child.start_time)
        await child.wait_ready(
            lambda: self._healthy(component.health), timeout=component.ready_timeout
        )
        self._change(state="running")

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while self._child is not None:
            began = time.monotonic()
            code = await self._child.wait()
            if time.monotonic() - began > _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            self._change(
                state="restarting",
                pid=None,
                start_time=None,
                restarts=self.status.restarts + 1,
                detail=f"{describe_exit(code)}; last line: {self._child.last_lines(1) or '(none)'}",
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self._start_once()
            except ProcessError as error:
                self._change(detail=error.seen)
                # Not ready in time: it runs, but is of no use.  An early exit: a no-op.
                await self._child.stop(grace=1)

    def _change(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        self._on_change(self.status)
