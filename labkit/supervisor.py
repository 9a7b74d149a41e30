"""The process that is a lab: starts its parts, keeps its record, ends with it.

It takes the lab down on SIGTERM, and when the start fails.  Putting the parts together is
left to ``assembly``.  Who clears up should this process end otherwise is told in
``guardian``; when the guardian itself is killed, the kernel signals this process, which
then clears up in its place.

It is not started by hand: ``launch`` and ``guardian`` do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import logging
import logging.handlers
import os
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit import host, leftovers
from labkit.assembly import Parts
from labkit.chronicle import Chronicle
from labkit.errors import LabError
from labkit.gate import Gate
from labkit.ledger import Ledger
from labkit.paths import LabPaths, folder_error
from labkit.process import keep_ledger
from labkit.record import Phase, Problem, ProcessId

log = logging.getLogger("labkit.supervisor")

_LOOK_EVERY = 2.0  # seconds
_LOG_BYTES = 4_000_000
_FULL = 2_000_000  # bytes

_ORPHANED = Problem(
    "The lab's guardian was killed, and the lab stopped with it", todo="Start the lab again."
)


class Supervisor:
    """Runs one lab from its start until it is told to stop."""

    def __init__(
        self, paths: LabPaths, ledger: Ledger, *, guardian: int, report: int, lock: int
    ) -> None:
        self._paths = paths
        self._ledger = ledger
        self._guardian = guardian
        self._lock = lock
        self._chronicle = Chronicle(paths, report, ledger)
        self._run = Path(self._chronicle.record.run)
        self._stopping = asyncio.Event()

    async def serve(self) -> int:
        """Everything; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        watch = asyncio.create_task(self._watch())
        parts = self._parts()
        problem = await self._start(parts)
        if problem is None and not self._stopping.is_set():
            self._chronicle.stop_telling({"ready": True})
            os.close(self._lock)
            await self._stopping.wait()
        self._conclude("stopping", detail="Stopping")
        await parts.stop()
        watch.cancel()
        if self._ledger.is_in_place:
            leftovers.remove_folder(self._paths.etcd)  # large, and of no use to a later lab
        elif not self._paths.ledger.exists():
            # What a container that was just beginning has made anew; no other lab's.
            leftovers.remove_folder(self._paths.root)
            with contextlib.suppress(OSError):  # others' labs, or never made anew
                self._paths.root.parent.rmdir()
        if os.getppid() != self._guardian:
            problem = problem or _ORPHANED
            log.error("the guardian was killed: clearing up in its place")
            leftovers.kill_all(self._ledger, below=os.getpid())
            leftovers.remove_folder(self._run)
        self._conclude("failed" if problem else "stopped", detail="", error=problem, programs=())
        if problem:
            self._chronicle.stop_telling({"error": asdict(problem)})
        return 1 if problem else 0

    def _parts(self) -> Parts | Gate:
        """A control plane and a node; in somebody else's cluster, a door to it."""
        kind = Gate if self._paths.cluster.is_file() else Parts
        return kind(self._paths, self._run, self._chronicle)

    async def _start(self, parts: Parts | Gate) -> Problem | None:
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
            return Problem.of(folder_error(error, self._paths.root))
        else:
            log.error("the start failed", exc_info=error)
            problem = Problem(
                "The lab could not be started for a reason that labkit did not expect",
                seen=f"{type(error).__name__}: {error}",
                todo=f"This is a bug; please report it with {self._paths.logs}/supervisor.log.",
            )
        # Programs die of a full disk in silence, or with pages of text.
        is_full = shutil.disk_usage(self._paths.root).free < _FULL
        if is_full or os.strerror(errno.ENOSPC).lower() in problem.seen.lower():
            full = OSError(errno.ENOSPC, f"no space left; {problem.what}", str(self._paths.root))
            problem = Problem.of(folder_error(full, self._paths.root))
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

    async def _watch(self) -> None:
        """Stop when there is nobody to stop it any more.

        That is when its folder was removed, as nothing then leads to it; and where the
        kernel does not tell of a parent's end, when the guardian has ended.
        """
        while os.getppid() == self._guardian and self._ledger.is_in_place:  # noqa: ASYNC110 - files
            await asyncio.sleep(_LOOK_EVERY)
        log.error("the guardian or the lab's folder is gone")
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
        supervisor = Supervisor(paths, ledger, guardian=guardian, report=report, lock=lock)
        return await supervisor.serve()

    raise SystemExit(asyncio.run(serve()))


if __name__ == "__main__":
    main()
