"""Bringing a lab up and down, from outside of it: the only door to its processes.

``bring_up`` starts a guardian and listens to what it and its supervisor report until the
lab is ready; from then on the lab lives by itself.  Two commands never work on the same
lab at once: each holds its lock, which a starting lab's own processes hold as well, so
that it stays taken until they have cleared up, even when the command is killed.  What a
lab is made of is the supervisor's business.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from labkit import host, leftovers, record
from labkit.errors import ClusterError, LabBusy, LabError, UsageError
from labkit.ledger import Ledger
from labkit.paths import LabPaths, folder_error, make_private_dir, state_root
from labkit.record import Record
from labkit.starting import TO_CLEAR_UP, start

__all__ = [
    "PROGRAMS",
    "SYNC_MODES",
    "adopt",
    "bring_down",
    "bring_up",
    "last_problem",
    "locked",
    "names",
    "running",
]

PROGRAMS = ("etcd", "etcdutl", "kube-apiserver", "kube-controller-manager")
"""What must be there before a lab can be brought up."""
SYNC_MODES = ("watch", "kubelet")
Progress = Callable[[str], None]

_SHORT = 0.5  # seconds: a lab that is just ready lets go of its lock a moment later
_NEEDED_DISK = 150_000_000  # bytes: etcd's log and store, the logs, the volumes


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


def bring_up(
    name: str,
    *,
    sync: str | None = None,
    on_progress: Progress = _silent,
    timeout: float = 180.0,
) -> Record:
    """Have the lab ``name`` running: its API answers, its node is Ready, its network is up.

    A no-op where that is so.  What a dead lab has left is cleared first.  ``sync`` is
    ``watch`` or ``kubelet``; None takes what runs, and ``watch`` for a new lab.
    ``on_progress`` gets a line a step; ``timeout`` is in seconds.

    Raises UsageError for a wrong name or ``sync``, LabBusy, and LabError with the reason
    when the start fails; nothing is left running then, nor after an interrupt (SIGINT, or
    SIGTERM in the main thread), which takes back what was begun.
    """
    paths = LabPaths.of(name)
    if sync is not None and sync not in SYNC_MODES:
        raise UsageError(
            "There is no such sync mode", seen=repr(sync), todo=f"Known: {', '.join(SYNC_MODES)}."
        )
    deadline = time.monotonic() + timeout
    with _storage_explained(paths), locked(paths, deadline, on_progress) as lock:
        found = running(name)
        if found is not None:
            if sync is not None and found.sync != sync:
                raise LabError(
                    f"The lab {name} runs with --sync {found.sync}",
                    seen=f"--sync {sync}",
                    todo=f"Take it down first (`labkit down --name {name}`), "
                    "or give the new one a name.",
                )
            return found
        with _sigterm_as_interrupt():
            _clear(paths)
            _prepare(paths)
            try:
                start(
                    paths,
                    sync=sync or SYNC_MODES[0],
                    lock=lock,
                    deadline=deadline,
                    on_progress=on_progress,
                )
            except BaseException:
                _sweep(paths)
                raise
    started = running(name)
    if started is None:
        raise ClusterError(f"The lab {name} ended as soon as it was ready", seen=last_problem(name))
    return started


def adopt(name: str) -> None:
    """Make the folder of a lab that will be in somebody else's cluster; its lock must be held.

    What a dead lab of that name has left is removed.  Raises LabError when a lab with a
    cluster of its own runs under it, and UsageError when the folder holds something else.
    """
    paths = LabPaths.of(name)
    if running(name) is not None:
        raise LabError(
            f"The lab {name} runs, in a cluster of its own",
            todo=f"Take it down first (`labkit down --name {name}`), or give the new one a name.",
        )
    with _storage_explained(paths):
        _clear(paths)
        _prepare(paths)


def bring_down(name: str) -> bool:
    """Stop everything of the lab and remove its folder; True if something was running.

    Safe to repeat.  A lab that is being started by another command is stopped, too.
    Raises LabError when a process of it cannot be ended.
    """
    paths = LabPaths.of(name)
    if not paths.root.is_dir():
        return False
    deadline = time.monotonic() + 60.0
    with _storage_explained(paths), locked(paths, deadline, _silent, meanwhile=_ask_to_stop):
        was_running = bool(Ledger(paths.ledger).living())
        if _ask_to_stop(paths):
            _wait_for_end(paths)
        _sweep(paths)
        if _is_lab(paths.root):
            leftovers.remove_folder(paths.root)
        paths.lock.unlink(missing_ok=True)
    return was_running


def running(name: str) -> Record | None:
    """The record of the lab, if it is ready and its processes are there; else None."""
    found = record.read(LabPaths.of(name).record)
    return found if found is not None and found.phase == "ready" and found.lives else None


def last_problem(name: str) -> str:
    """Why the lab does not run, in a sentence; "" when nobody wanted it to."""
    found = record.read(LabPaths.of(name).record)
    if found is None or found.phase == "stopped":
        return ""
    if found.error is not None:
        return str(found.error.to_error())
    if found.guardian is not None and found.boot == host.boot_id() and found.guardian.lives:
        return f"it is {found.phase}: {found.detail}"
    return "its processes were killed, or the machine was restarted; `labkit up` starts it again"


def names() -> list[str]:
    """Every lab that has a state folder, running or not."""
    try:
        return sorted(path.name for path in state_root().iterdir() if _is_lab(path))
    except OSError:
        return []


def _is_lab(folder: Path) -> bool:
    """Whether a folder is a lab's, and not one in which something else is kept."""
    paths = LabPaths(folder.name, folder)
    return any(each.is_file() for each in (paths.record, paths.ledger, paths.cluster))


# -- one command at a time ---------------------------------------------------------------


@contextlib.contextmanager
def locked(
    paths: LabPaths,
    deadline: float,
    on_progress: Progress,
    *,
    meanwhile: Callable[[LabPaths], object] = lambda paths: None,
) -> Iterator[int]:
    """Hold the lab's lock; yields its descriptor.  ``meanwhile`` is called while it is busy.

    ``deadline`` is a time of ``time.monotonic``; raises LabBusy when the lock is still
    another's then.
    """
    make_private_dir(paths.lock.parent)
    waiting = False
    worth_telling = time.monotonic() + _SHORT
    while True:
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _try_lock(lock, paths.lock):
                yield lock
                return
        finally:
            os.close(lock)
        if time.monotonic() > deadline:
            raise LabBusy(
                f"Another command is bringing the lab {paths.name} up or down",
                todo="Wait for it to end, or end it, and try again.",
            )
        if not waiting and time.monotonic() > worth_telling:
            on_progress(f"Waiting for another command that works on the lab {paths.name}")
            waiting = True
        meanwhile(paths)
        time.sleep(0.03)


def _try_lock(lock: int, path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # ``bring_down`` removes the file: whoever waited has a lock on nothing then.
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextlib.contextmanager
def _storage_explained(paths: LabPaths) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise folder_error(error, paths.root) from error


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, and then end this process as it would have."""
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if not is_ours:
        yield
        return
    came = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGTERM)


# -- starting ----------------------------------------------------------------------------


def _prepare(paths: LabPaths) -> None:
    """Make the lab's folder.  Raises LabError when there is no room for it, and OSError."""
    make_private_dir(paths.root)
    paths.ledger.touch(mode=0o600)  # from here on the folder is known as a lab's
    make_private_dir(paths.logs)
    free = shutil.disk_usage(paths.root).free
    if free < _NEEDED_DISK:
        raise LabError(
            "There is too little space on the disk for a lab",
            seen=f"{free / 1e6:.0f} MB free at {paths.root}, {_NEEDED_DISK / 1e6:.0f} MB needed",
            todo="Free some, or set LABKIT_STATE to a folder with room.",
        )


# -- clearing ----------------------------------------------------------------------------


def _clear(paths: LabPaths) -> None:
    """Remove what a dead lab left; its logs stay, as ``logs/previous``.

    Raises UsageError when the folder is not a lab's.
    """
    if not paths.root.exists():
        return
    if not _is_lab(paths.root) and any(paths.root.iterdir()):
        raise UsageError(
            "The lab's folder holds something else",
            seen=str(paths.root),
            todo="Choose another --name, or set LABKIT_STATE to another folder.",
        )
    if _ask_to_stop(paths):
        _wait_for_end(paths)
    _sweep(paths)
    leftovers.remove_folder(paths.logs / "previous")
    kept = _kept(paths)
    for path in [*paths.root.iterdir()]:
        if path in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            if path != paths.logs:
                leftovers.remove_folder(path)
        elif path != paths.ledger:
            path.unlink()
    if paths.logs.is_dir():
        aside = paths.logs.rename(paths.root / "previous")
        aside.rename(make_private_dir(paths.logs) / "previous")
    paths.ledger.unlink(missing_ok=True)


def _kept(paths: LabPaths) -> frozenset[Path]:
    """What outlives the processes of a lab in somebody else's cluster: that goes on without."""
    if not paths.cluster.is_file():
        return frozenset()
    own = (paths.cluster, paths.kubeconfig, paths.vault_token, paths.vault_unseal_key)
    return frozenset((*own, paths.position))


def _ask_to_stop(paths: LabPaths) -> bool:
    """Signal the lab's guardian; False when there is none that lives."""
    found = record.read(paths.record)
    if found is None or found.guardian is None or found.boot != host.boot_id():
        return False
    return host.send_signal(found.guardian.pid, found.guardian.start_time, signal.SIGTERM)


def _wait_for_end(paths: LabPaths) -> None:
    """Wait for the guardian to end by itself, which is when all others have."""
    found = record.read(paths.record)
    deadline = time.monotonic() + TO_CLEAR_UP
    while found is not None and found.guardian is not None and found.guardian.lives:
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _sweep(paths: LabPaths) -> None:
    """Kill what the ledger lists and remove the folder of sockets; safe to repeat.

    Raises LabError when something cannot be killed.
    """
    left = leftovers.kill_all(Ledger(paths.ledger))
    run = _run_folder(paths)
    if run is not None:
        leftovers.remove_folder(run)
    if left:
        raise LabError(
            f"Processes of the lab {paths.name} cannot be ended",
            seen=f"pids {', '.join(map(str, left))}",
            todo="They hang in the system, or belong to another user.",
        )


def _run_folder(paths: LabPaths) -> Path | None:
    """The folder of sockets that the record names, whatever its format, if it is the lab's."""
    try:
        run = Path(json.loads(paths.record.read_bytes())["run"])
        is_inside = run.parent == paths.root and run.name.startswith(leftovers.RUN_PREFIX)
        is_ours = run.name.startswith("labkit-") or is_inside
        return run if is_ours and run.is_absolute() and run.stat().st_uid == os.getuid() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
