"""The process that is a lab: owns its control plane, its network and its node agent.

It brings the parts up, keeps the record, and takes them down: on SIGTERM, and when a
start fails.  What each part does is the part's own business.  Who clears up should this
process end otherwise is told in ``guardian``; when the guardian itself is killed, the
kernel signals this process, which then clears up in its place.

It is not started by hand: ``launch`` and ``guardian`` do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labkit import host, leftovers, programs, record
from labkit.cluster import controlplane, golden
from labkit.cluster.controlplane import ControlPlane
from labkit.cluster.keeper import ProgramStatus
from labkit.errors import LabError, UsageError
from labkit.ledger import Ledger
from labkit.node.images import ImageTable, load_table
from labkit.node.journal import JournalFile
from labkit.node.network import ClusterNetwork, Directory, PortBlock
from labkit.paths import LabPaths, folder_error, state_root, write_private
from labkit.process import keep_ledger
from labkit.record import Phase, Problem, ProcessId, Record

if TYPE_CHECKING:
    from labkit.node.agent import NodeAgent

log = logging.getLogger("labkit.supervisor")

Mode = Literal["mounts", "rewrite"]

_PROGRAMS = (*controlplane.PROGRAMS, "etcdutl", "external-secrets")
_CONTAINER_GRACE = 2.0  # seconds; the whole of `down` is to take no more than 3
_GATHER = 0.05  # changes within this time are written together
_LOG_BYTES = 4_000_000


class Chronicle:
    """The record as it changes, and the news of a start for the command that awaits it.

    ``report`` is a socket; nobody need listen at its other end.
    """

    def __init__(self, paths: LabPaths, report: int) -> None:
        self._path = paths.record
        self._report = report
        begun = record.read(self._path)
        self.record = begun or Record(name=paths.name, phase="starting")
        self._pending: asyncio.TimerHandle | None = None

    def change(self, **changes: Any) -> None:
        """Change the record soon, with other changes of the same moment."""
        self.record = replace(self.record, **changes)
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(_GATHER, self._write_patiently)

    def write(self, **changes: Any) -> None:
        """Change the record now.  Raises OSError when it cannot be written."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self.record = replace(self.record, **changes)
        self.record.write(self._path)

    def _write_patiently(self) -> None:
        self._pending = None
        try:
            self.record.write(self._path)
        except OSError as error:  # a full disk, say: the lab runs on, and the next may succeed
            log.warning("the record was not written: %s", error)

    def step(self, detail: str) -> None:
        """Say what is being done now."""
        log.info("%s", detail)
        self.change(detail=detail)
        self.tell({"detail": detail})

    def program(self, status: ProgramStatus) -> None:
        """A program of the control plane changed."""
        level = logging.WARNING if status.detail else logging.INFO
        log.log(level, "%s is %s %s", status.name, status.state, status.detail)
        found = {program.name: program for program in self.record.programs}
        found[status.name] = record.Program(**asdict(status))
        self.change(programs=tuple(found.values()))

    def tell(self, news: dict[str, Any]) -> None:
        """Send one line to the command that started this lab."""
        if self._report >= 0:
            with contextlib.suppress(OSError):
                os.write(self._report, json.dumps(news).encode() + b"\n")

    def stop_telling(self, news: dict[str, Any]) -> None:
        """Send the last line."""
        self.tell(news)
        if self._report >= 0:
            os.close(self._report)
            self._report = -1


class Parts:
    """The parts of one lab.  ``start`` once, ``stop`` once or more."""

    def __init__(self, paths: LabPaths, run: Path, chronicle: Chronicle) -> None:
        self._paths = paths
        self._run = run
        self._chronicle = chronicle
        self._stops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []

    async def start(self) -> None:
        """Bring all up; returns when the API answers and the node is Ready.

        Raises LabError and OSError; nothing is left running then.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        step, paths = self._chronicle.step, self._paths
        step("Looking at the programs")
        images = load_table(state_root())
        # What mostly waits goes side by side with the rest.
        probing = asyncio.create_task(asyncio.to_thread(choose_mode))
        loading = asyncio.create_task(asyncio.to_thread(importlib.import_module, _AGENT))
        try:
            found = await asyncio.to_thread(_find_programs)
            crds = found["external-secrets"].assets / "crds" / "bundle.yaml"
            manifests = [crds] if crds.is_file() else []
            self._chronicle.change(versions={name: each.version for name, each in found.items()})
            network = ClusterNetwork(
                Directory(),
                egress_socket=self._run / "egress.sock",
                port_block=PortBlock.reserve(),
            )
            self._stops.append(("the network", network.stop))
            await network.start()
            write_private(paths.proxy_url, network.proxy_url)
            snapshot = golden.find(found, manifests)
            if snapshot is None:
                step("Preparing what every lab begins with (only this time)")
                snapshot = await golden.prepare(found, manifests)
            step("Starting etcd, the API server and the controllers")
            plane = ControlPlane(
                paths,
                found,
                run=self._run,
                node_port_range=network.port_block.range,
                egress_socket=network.egress_socket,
                golden=snapshot,
                on_change=self._chronicle.program,
            )
            self._stops.append(("the control plane", plane.stop))
            await plane.start()
            self._chronicle.change(server=plane.server)
            step("Starting the node")
            mode = await probing
            await loading
            agent = self._make_agent(plane, network, mode, images)
            self._stops.append(("the node", lambda: agent.stop(grace=_CONTAINER_GRACE)))
            await agent.start()
            self._chronicle.change(mode=mode)
        finally:
            await asyncio.gather(probing, loading, return_exceptions=True)

    def _make_agent(
        self, plane: ControlPlane, network: ClusterNetwork, mode: Mode, images: ImageTable
    ) -> NodeAgent:
        from labkit.node.agent import AgentConfig, NodeAgent  # loaded while etcd starts

        config = AgentConfig(
            name=self._paths.name,
            root=self._paths.node,
            server=plane.server,
            ca=plane.ca,
            client=plane.node_client,
            scheduler=plane.scheduler_client,
            serving=plane.node_serving,
            kubelet_caller=plane.kubelet_caller,
            sync=self._chronicle.record.sync,
            mode=mode,
            version=f"v{programs.CATALOGUE['kube-apiserver'].version}",
            images=images,
        )
        return NodeAgent(config, network=network, journal=JournalFile(self._paths.journal))

    async def stop(self) -> None:
        """Take all down, what came last first.  A part that fails to is logged, no more."""
        while self._stops:
            name, stop = self._stops.pop()
            try:
                await stop()
            except Exception:
                log.exception("%s did not stop in good order", name)


_AGENT = "labkit.node.agent"


def _find_programs() -> dict[str, programs.Program]:
    return {name: programs.resolve(name) for name in _PROGRAMS}


def choose_mode() -> Mode:
    """How containers see their volumes here; ``LABKIT_MODE`` decides where it is set.

    Raises UsageError for another word.
    """
    wanted = os.environ.get("LABKIT_MODE")
    match wanted or ("mounts" if host.can_mount_namespace() else "rewrite"):
        case "mounts":
            return "mounts"
        case "rewrite":
            return "rewrite"
    raise UsageError(
        "LABKIT_MODE names no way to show volumes to a container",
        seen=str(wanted),
        todo="Set it to mounts or rewrite, or unset it.",
    )


_ORPHANED = Problem(
    "The lab's guardian was killed, and the lab stopped with it", todo="Start the lab again."
)


class Supervisor:
    """Runs one lab from its start until it is told to stop."""

    def __init__(self, paths: LabPaths, *, guardian: int, report: int, lock: int) -> None:
        self._paths = paths
        self._guardian = guardian
        self._lock = lock
        self._chronicle = Chronicle(paths, report)
        self._run = Path(self._chronicle.record.run)
        self._stopping = asyncio.Event()

    async def serve(self) -> int:
        """Everything; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        watch = asyncio.create_task(self._watch_guardian())
        parts = Parts(self._paths, self._run, self._chronicle)
        problem = await self._start(parts)
        if problem is None and not self._stopping.is_set():
            self._chronicle.stop_telling({"ready": True})
            os.close(self._lock)
            await self._stopping.wait()
        self._conclude("stopping", detail="Stopping")
        await parts.stop()
        watch.cancel()
        if os.getppid() != self._guardian:
            problem = problem or _ORPHANED
            log.error("the guardian was killed: clearing up in its place")
            leftovers.kill_all(Ledger(self._paths.ledger), below=os.getpid())
            leftovers.remove_folder(self._run)
        self._conclude("failed" if problem else "stopped", detail="", error=problem, programs=())
        if problem:
            self._chronicle.stop_telling({"error": asdict(problem)})
        return 1 if problem else 0

    async def _start(self, parts: Parts) -> Problem | None:
        """Start, unless told to stop before it is done; what went wrong, if anything."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            self._chronicle.write(supervisor=ProcessId.of(os.getpid()))
            starting = asyncio.create_task(parts.start())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            starting.cancel()
            await starting
            if not self._stopping.is_set():
                self._settle()
                self._chronicle.write(phase="ready", detail="")
                log.info("the lab is ready")
        except asyncio.CancelledError:
            return None
        except Exception as error:
            return self._explain(error)
        finally:
            stopping.cancel()
        return None

    def _explain(self, error: Exception) -> Problem:
        """Words for a failed start."""
        if isinstance(error, LabError):
            log.error("the start failed: %s", error)
            problem = Problem.of(error)
        elif isinstance(error, OSError):
            log.error("the start failed", exc_info=error)
            problem = Problem.of(folder_error(error, self._paths.root))
        else:
            log.error("the start failed", exc_info=error)
            problem = Problem(
                "The lab could not be started for a reason that labkit did not expect",
                seen=f"{type(error).__name__}: {error}",
                todo=f"This is a bug; please report it with {self._paths.logs}/supervisor.log.",
            )
        return problem

    def _settle(self) -> None:
        """What was made so far stays: the collector need not look at it again."""
        gc.collect()
        gc.freeze()

    def _conclude(self, phase: Phase, **changes: Any) -> None:
        try:
            self._chronicle.write(phase=phase, **changes)
        except OSError as error:
            log.warning("the record was not written: %s", error)

    async def _watch_guardian(self) -> None:
        """Where the kernel does not tell of a parent's end, look now and then."""
        while not host.LINUX:
            await asyncio.sleep(1)
            if os.getppid() != self._guardian:
                self._stopping.set()


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A log file with mode 0600, after each rotation too."""

    def _open(self) -> Any:
        with host.private_umask():
            return super()._open()


def _log_to(file: Path) -> None:
    handler = _PrivateLog(file, maxBytes=_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def main() -> None:
    """``python -m labkit.supervisor --name=N --guardian=PID --report=FD --lock=FD``."""
    options = dict(option[2:].split("=", 1) for option in sys.argv[1:])
    guardian = int(options["guardian"])
    host.die_with_parent(signal.SIGTERM)
    if os.getppid() != guardian:  # it ended before the line above
        raise SystemExit(1)
    paths = LabPaths.of(options["name"])
    ledger = Ledger(paths.ledger)
    report, lock = int(options["report"]), int(options["lock"])
    for descriptor in (report, lock):
        os.set_inheritable(descriptor, False)
    try:
        ledger.add_self("supervisor")
        keep_ledger(ledger)
        _log_to(paths.logs / "supervisor.log")
    except OSError as error:
        problem = Problem.of(folder_error(error, paths.root))
        os.write(report, json.dumps({"error": asdict(problem)}).encode() + b"\n")
        raise SystemExit(1) from None

    async def serve() -> int:
        return await Supervisor(paths, guardian=guardian, report=report, lock=lock).serve()

    raise SystemExit(asyncio.run(serve()))


if __name__ == "__main__":
    main()
