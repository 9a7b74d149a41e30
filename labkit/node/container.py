"""One run of one container: from its process's start to its last log line.

It carries out what the pod worker decided: starts the program, runs the hooks and the
probes, stops it, and says how it ended.  Whether it runs again is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from labkit.node import launch, logs
from labkit.node.events import EventRecorder
from labkit.node.plan import MIN_GRACE, Condemned, Exit, Running
from labkit.node.pod import Json, Pod
from labkit.node.probes import Answer, Prober, ProbeSpec, Unreachable, run_probe
from labkit.process import Child, Command

MAX_MESSAGE = 4096
_FALLBACK_LINES, _FALLBACK_BYTES = 80, 2048
_MAX_OUTPUT = 64 * 1024


class Resolver(Protocol):
    """The cluster network's answer to "where is this address really?"."""

    def resolve(self, host: str, port: int) -> list[tuple[str, int]]: ...


class Wrap(Protocol):
    """Turns an argv into a command that sees the container's files and environment.

    ``join`` is the pid of the container's main process: its namespaces are then shared.
    """

    def __call__(self, argv: tuple[str, ...], *, join: int | None = None) -> Command: ...


@dataclass(frozen=True)
class Recipe:
    """All that is needed to run a container's program, or another one in its place."""

    container: Json
    argv: tuple[str, ...]
    wrap: Wrap
    pod_ip: str
    ports: Mapping[int, int]
    """containerPort -> port on 127.0.0.1, of all the pod's containers."""
    log_file: Path
    message_file: Path | None = None


class ContainerRun:
    """A run.  ``await run.start()``, then look at ``running`` until ``on_exit`` is called."""

    def __init__(
        self,
        pod: Pod,
        recipe: Recipe,
        *,
        prober: Prober,
        resolver: Resolver,
        events: EventRecorder,
        on_change: Callable[[], None],
        on_exit: Callable[[ContainerRun, Exit], None],
    ) -> None:
        self.pod = pod
        self.recipe = recipe
        self.name = str(recipe.container["name"])
        self.running = Running(secrets.token_hex(32), recipe.container["image"], time.time())
        self.condemned: Condemned | None = None
        self.log = logs.LogWriter(recipe.log_file)
        self._prober = prober
        self._resolver = resolver
        self._events = events
        self._on_change = on_change
        self._on_exit = on_exit
        self._child: Child | None = None
        self._probes: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._kill_at = float("inf")
        self._sooner = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    # -- start ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the program.  Raises ProcessError when that can't be done."""
        try:
            self._child = await Child.spawn(
                self.recipe.wrap(self.recipe.argv), on_output=self.log.write
            )
        except BaseException:
            self.log.close()
            raise
        self.running = replace(self.running, started_at=time.time())
        self._keeper = asyncio.create_task(self._wait(self._child), name=f"wait {self.name}")

    async def post_start(self) -> None:
        """Run the postStart hook, then begin the probes.

        A hook that fails condemns the container, as the kubelet does.
        """
        hook = (self.recipe.container.get("lifecycle") or {}).get("postStart")
        if hook:
            answer = await self._hook(hook)
            if not answer.well:
                self._tell("FailedPostStartHook", "PostStartHook failed", warning=True)
                self._condemn(Condemned("FailedPostStartHook"))
                return
        self._begin_probes()

    async def _hook(self, hook: Json) -> Answer:
        # The kubelet gives a hook no time limit of its own; the container's end is one.
        ask = asyncio.create_task(
            self._prober.ask(hook, self, timeout=1e9, purpose="lifecycle"), name="hook"
        )
        gone = asyncio.create_task(self._child.wait() if self._child else asyncio.sleep(0))
        try:
            await asyncio.wait({ask, gone}, return_when=asyncio.FIRST_COMPLETED)
            return ask.result() if ask.done() else Answer(False, "the container has ended")
        finally:
            ask.cancel()
            gone.cancel()
            await asyncio.gather(ask, gone, return_exceptions=True)

    async def ended(self) -> None:
        """Wait until the run has ended."""
        if self._keeper is not None:
            await asyncio.shield(self._keeper)

    # -- probes --------------------------------------------------------------------------

    def _begin_probes(self) -> None:
        container = self.recipe.container
        startup = container.get("startupProbe")
        if startup:
            self._probe(ProbeSpec.of("Startup", startup))
        else:
            self._has_started()

    def _has_started(self) -> None:
        container = self.recipe.container
        readiness, liveness = container.get("readinessProbe"), container.get("livenessProbe")
        self.running = replace(self.running, started=True, ready=not readiness)
        if readiness:
            self._probe(ProbeSpec.of("Readiness", readiness))
        if liveness:
            self._probe(ProbeSpec.of("Liveness", liveness))
        self._on_change()

    def _probe(self, spec: ProbeSpec) -> None:
        loop = run_probe(
            spec, self._prober, self, on_answer=self._answered, on_verdict=self._judged
        )
        self._probes.append(asyncio.create_task(loop, name=f"{spec.kind} {self.name}"))

    def _answered(self, spec: ProbeSpec, answer: Answer) -> None:
        if answer.warning:
            self._tell("ProbeWarning", f"{spec.kind} probe warning: {answer.output}", warning=True)
        elif not answer.well:
            self._tell("Unhealthy", f"{spec.kind} probe failed: {answer.output}", warning=True)

    def _judged(self, spec: ProbeSpec, well: bool) -> None:
        if spec.kind == "Readiness":
            if self.running.ready != well:
                self.running = replace(self.running, ready=well)
                self._on_change()
        elif spec.kind == "Startup" and well:
            self._has_started()
        elif not well:
            self._condemn(
                Condemned(
                    f"Container {self.name} failed {spec.kind.lower()} probe, will be restarted",
                    spec.grace,
                )
            )

    def _condemn(self, why: Condemned) -> None:
        self.condemned = why
        self._on_change()

    # -- stop ----------------------------------------------------------------------------

    def stop(self, grace: float, message: str) -> None:
        """Begin to stop it; a later call can only bring SIGKILL forward.  Returns at once."""
        kill_at = asyncio.get_running_loop().time() + grace
        if kill_at < self._kill_at - 0.5 or self._stopper is None:
            self._kill_at = kill_at
            self._sooner.set()
        if self._stopper is None:
            self._tell("Killing", message)
            self._stopper = asyncio.create_task(self._stop(), name=f"stop {self.name}")

    async def _stop(self) -> None:
        """preStop hook, SIGTERM, and SIGKILL at ``_kill_at``, which may move closer."""
        loop = asyncio.get_running_loop()
        # A container on its way out is not killed for being unwell any more.
        for probe in self._probes:
            if not probe.get_name().startswith("Readiness"):
                probe.cancel()
        hook = (self.recipe.container.get("lifecycle") or {}).get("preStop")
        if hook and self._kill_at > loop.time():
            hooking = asyncio.create_task(self._hook(hook))
            await self._until_kill_time(hooking)
            if hooking.done():
                if not hooking.result().well:
                    self._tell("FailedPreStopHook", "PreStopHook failed", warning=True)
            else:
                hooking.cancel()
                await asyncio.gather(hooking, return_exceptions=True)
        if self._child is None:
            return
        if self._kill_at < loop.time() + MIN_GRACE:
            self._kill_at = loop.time() + MIN_GRACE
        ending = asyncio.create_task(self._child.stop(grace=1e6))
        await self._until_kill_time(ending)
        if not ending.done():
            # Being cancelled, ``Child.stop`` kills the whole group.
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _until_kill_time(self, task: asyncio.Task[Any]) -> None:
        loop = asyncio.get_running_loop()
        while not task.done():
            self._sooner.clear()
            sooner = asyncio.create_task(self._sooner.wait())
            left = max(0.0, self._kill_at - loop.time())
            await asyncio.wait({task, sooner}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            sooner.cancel()
            if self._kill_at <= loop.time():
                return

    async def kill(self, grace: float) -> None:
        """Stop without hooks, for when the whole lab goes down.  Waits for the end."""
        if self._child is not None:
            await self._child.stop(grace=grace)
        if self._keeper is not None:
            await self._keeper

    # -- the end -------------------------------------------------------------------------

    async def _wait(self, child: Child) -> None:
        code = await child.wait()
        for probe in self._probes:
            probe.cancel()
        self.log.close()
        code = 128 - code if code < 0 else code
        reason, message = "Completed" if code == 0 else "Error", self._message(code)
        if code == launch.START_FAILED:
            # The launcher's one line, where a container runtime would tell the kubelet.
            last = child.last_lines(1)
            if last.startswith("failed to start container: "):
                reason, message = "StartError", last
        self._on_exit(
            self,
            Exit(
                code=code,
                reason=reason,
                started_at=self.running.started_at,
                finished_at=time.time(),
                id=self.running.id,
                message=message,
            ),
        )

    def _message(self, code: int) -> str:
        """What the container left in its termination log, or else (if asked) its last lines."""
        text = ""
        if self.recipe.message_file is not None:
            with contextlib.suppress(OSError), self.recipe.message_file.open("rb") as file:
                text = file.read(MAX_MESSAGE).decode(errors="replace")
        policy = self.recipe.container.get("terminationMessagePolicy")
        if not text and code != 0 and policy == "FallbackToLogsOnError":
            text = logs.tail_text(
                self.recipe.log_file, lines=_FALLBACK_LINES, limit=_FALLBACK_BYTES
            )
        return text

    def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._events.pod(self.pod, reason, message, container=self.name, warning=warning)

    # -- what probes and hooks ask (probes.Surroundings) ---------------------------------

    @property
    def pod_ip(self) -> str:
        return self.recipe.pod_ip

    def port_number(self, port: int | str) -> int:
        if isinstance(port, str) and not port.isdecimal():
            for each in self.recipe.container.get("ports") or ():
                if each.get("name") == port:
                    return int(each["containerPort"])
            raise Unreachable(f"couldn't find port: {port} in the container's ports")
        return int(port)

    def dial(self, host: str, port: int) -> tuple[str, int]:
        if host in ("127.0.0.1", "localhost"):
            return "127.0.0.1", self.recipe.ports.get(port, port)
        if host == self.recipe.pod_ip:
            if port in self.recipe.ports:
                return "127.0.0.1", self.recipe.ports[port]
            raise Unreachable(
                f"dial tcp {host}:{port}: connect: connection refused "
                f"(no container of the pod declares containerPort {port})"
            )
        try:
            found = self._resolver.resolve(host, port)
        except Exception as error:
            raise Unreachable(f"dial tcp {host}:{port}: {error}") from error
        if not found:
            raise Unreachable(f"dial tcp {host}:{port}: connect: no route to host")
        return found[0]

    async def execute(
        self,
        argv: tuple[str, ...],
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[int | None, bytes]:
        output = bytearray()

        def keep(_stream: str, chunk: bytes) -> None:
            if len(output) < _MAX_OUTPUT:
                output.extend(chunk)

        child = await Child.spawn(self.recipe.wrap(argv, join=self.pid), on_output=keep)
        try:
            code = await asyncio.wait_for(child.wait(), timeout)
        except TimeoutError:
            await child.stop(grace=0)
            return None, bytes(output)
        except asyncio.CancelledError:
            await child.stop(grace=0)
            raise
        return (128 - code if code < 0 else code), bytes(output)
