"""The guardian: a process so small that nothing happens to it, to clear up after a lab.

The supervisor does the work, so the supervisor is what may hang, leak or be killed.  The
guardian does nothing but wait for its end, by whatever cause, and then

1. kills every process that the lab has started: they are its descendants, since on Linux
   it is their subreaper, and elsewhere the ledger lists them;
2. removes the folder of unix sockets, which may be in the system's temp folder;
3. records that the lab is down, and why if that was not asked for.

SIGTERM to it takes the lab down in good order.  So does the end of the command that
started the lab, as long as the lab is not ready: the command holds the other end of
``--report``.  Should the guardian itself be killed, the supervisor gets a signal from the
kernel and does 1 to 3 in its place.

It is not started by hand: ``launch`` does that.  Its imports are few on purpose (14 MB).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from labkit import host, leftovers, record
from labkit.ledger import Ledger
from labkit.paths import LabPaths, folder_error
from labkit.record import Problem, ProcessId, Record

GRACE = 8.0
"""Seconds that the supervisor has to stop everything in good order."""


class Guardian:
    """Guards one lab, from the start of its supervisor to the end of its last process.

    ``report`` is a socket to the command that starts the lab, ``lock`` the lab's lock:
    both are held until the lab is ready or down.
    """

    def __init__(self, paths: LabPaths, *, sync: str, report: int, lock: int) -> None:
        self._paths = paths
        self._sync = sync
        self._report = report
        self._lock = lock
        self._ledger = Ledger(paths.ledger)
        self._supervisor = 0
        self._run = Path()
        self._asked = False
        self._deadline: float | None = None

    def guard(self) -> None:
        """Everything, from start to end.  Raises OSError when it cannot even begin."""
        wakeup = self._catch_signals()
        host.become_subreaper()
        self._ledger.add_self("guardian")
        self._run = leftovers.choose_run_folder(self._paths.root)
        Record(
            name=self._paths.name,
            phase="starting",
            boot=host.boot_id(),
            guardian=ProcessId.of(os.getpid()),
            run=str(self._run),
            kubeconfig=str(self._paths.kubeconfig),
            sync=self._sync,
        ).write(self._paths.record)  # before the folder, so that it can always be found
        self._run.mkdir(mode=0o700)
        try:
            self._supervisor = self._start_supervisor()
            os.chdir("/")
            code = self._wait(wakeup)
        finally:
            leftovers.kill_all(self._ledger, below=os.getpid(), between=self._reap)  # 1
            leftovers.remove_folder(self._run)  # 2
        self._conclude(code)  # 3

    def _catch_signals(self) -> int:
        """Have signals written to a pipe; returns its end to read."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return reader

    def _start_supervisor(self) -> int:
        options = {
            "name": self._paths.name,
            "guardian": os.getpid(),
            "report": self._report,
            "lock": self._lock,
        }
        argv = [sys.executable, "-P", "-m", "labkit.supervisor"]
        argv += [f"--{name}={value}" for name, value in options.items()]
        # Whatever the supervisor keeps for a while goes into the folder that is removed.
        env = {**os.environ, "TMPDIR": str(self._run)}
        for descriptor in (self._report, self._lock):
            os.set_inheritable(descriptor, True)
        pid = os.posix_spawn(sys.executable, argv, env)
        for descriptor in (self._report, self._lock):
            os.set_inheritable(descriptor, False)
        return pid

    def _wait(self, wakeup: int) -> int:
        """Wait for the supervisor's end; its exit code, negative for a signal."""
        watched = [wakeup, self._report]
        while True:
            pause = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            readable, _, _ = select.select(watched, [], [], pause)
            if wakeup in readable and {signal.SIGTERM, signal.SIGINT} & {*os.read(wakeup, 4096)}:
                self._stop()
            if self._report in readable:  # nothing is ever sent this way: it is closed
                watched.remove(self._report)
                found = record.read(self._paths.record)
                if found is not None and found.phase == "ready":
                    self._let_go()
                else:
                    self._stop()
            code = self._reap()
            if code is not None:
                return code
            if self._deadline is not None and time.monotonic() >= self._deadline:
                os.kill(self._supervisor, signal.SIGKILL)
                self._deadline = None

    def _let_go(self) -> None:
        """The command that started the lab is done with it."""
        os.close(self._report)
        os.close(self._lock)
        self._report = -1

    def _stop(self) -> None:
        if not self._asked:
            self._asked = True
            self._deadline = time.monotonic() + GRACE
            os.kill(self._supervisor, signal.SIGTERM)

    def _reap(self) -> int | None:
        """Collect ended children, adopted ones too; the supervisor's exit code if it ended."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            if pid == self._supervisor:
                code = os.waitstatus_to_exitcode(status)

    def _conclude(self, code: int) -> None:
        """Record what the supervisor itself did not get to write."""
        if not self._ledger.is_in_place:  # the record there is not this lab's, if there is one
            return
        found = record.read(self._paths.record)
        if found is None or found.phase in ("stopped", "failed"):
            return
        changes = replace(found, phase="stopped", detail="", programs=())
        if not self._asked:
            said = leftovers.last_lines(self._paths.logs / "guardian.log")
            seen = f"it {'was ' if code < 0 else ''}{host.describe_exit(code)}"
            problem = Problem(
                "The lab's supervisor ended by itself, and the lab with it",
                seen=f"{seen}; last lines:\n{said}" if said else seen,
                todo=f"Start the lab again; {self._paths.logs / 'supervisor.log'} may tell more.",
            )
            changes = replace(changes, phase="failed", error=problem)
            self.report(problem)
        changes.write(self._paths.record)

    def report(self, problem: Problem) -> None:
        """Tell the command that starts the lab, if it still listens."""
        with contextlib.suppress(OSError):
            os.write(self._report, json.dumps({"error": asdict(problem)}).encode() + b"\n")


def main() -> None:
    """``python -m labkit.guardian --name=N --sync=S --report=FD --lock=FD``."""
    options = dict(option[2:].split("=", 1) for option in sys.argv[1:])
    if os.fork():  # so that it is nobody's child, and no command has to collect it
        os._exit(0)
    paths = LabPaths.of(options["name"])
    guardian = Guardian(
        paths,
        sync=options["sync"],
        report=int(options["report"]),
        lock=int(options["lock"]),
    )
    try:
        guardian.guard()
    except OSError as error:
        guardian.report(Problem.of(folder_error(error, paths.root)))
        raise SystemExit(f"guardian: {error}") from None


if __name__ == "__main__":
    main()
