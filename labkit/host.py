"""What only the operating system can answer, each question with a portable answer.

This is the only module with calls that differ between Linux, macOS and containers:
who is whose child, when a process began, how much memory it really holds, whether
mount namespaces may be made.  Policy is left to others.  Linux is answered from
``/proc`` and ``prctl`` with the standard library alone, because the guardian must
stay tiny; elsewhere psutil is imported when a question needs it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

LINUX = sys.platform.startswith("linux")

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Make orphaned descendants of this process its children; False where not possible.

    Source: prctl(2), PR_SET_CHILD_SUBREAPER (Linux 3.4).
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(sig: signal.Signals = signal.SIGTERM) -> bool:
    """Get ``sig`` when the parent ends; False where the kernel has no such promise.

    Call it first thing in ``main`` and then compare ``os.getppid()`` with the parent
    you expect: the parent may have ended before this call.
    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    return _prctl(_PR_SET_PDEATHSIG, int(sig))


def ends_with_this_thread() -> Callable[[], None] | None:
    """A ``preexec_fn`` by which a child is killed when the thread that starts it ends.

    So start children from the main thread.  None where the kernel has no such promise.
    The C function is looked up now, since after a fork only a system call is safe.
    """
    if not LINUX:
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return arrange


def _prctl(option: int, value: int) -> bool:
    if not LINUX:
        return False
    try:
        return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) == 0
    except (OSError, AttributeError):
        return False


def process_start_time(pid: int) -> float | None:
    """When ``pid`` began, in seconds; None when there is no such living process.

    Only good for telling a process from a later one with the same pid: on Linux it
    counts from boot (the wall clock may be set, this never changes), elsewhere from 1970.
    A zombie counts as gone.
    """
    if LINUX:
        fields = _proc_stat(pid)
        # proc(5): field 3 is the state, field 22 starttime; the split begins at field 3.
        if fields is None or fields[0] in ("Z", "X"):
            return None
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


@functools.cache
def boot_id() -> str:
    """What tells this run of the system from the one before a reboot; "-" if unknown.

    Source: proc(5), /proc/sys/kernel/random/boot_id.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # start times count from 1970 there
        return "-"


def is_same_process(pid: int, start_time: float) -> bool:
    """Whether ``pid`` lives and is the process that began at ``start_time``."""
    began = process_start_time(pid)
    return began is not None and abs(began - start_time) < 0.005


def descendants(*pids: int) -> list[int]:
    """Living children of ``pids`` and their children, parents before children.

    Sessions and process groups do not matter: a child that called ``setsid`` is found.
    A child whose own parent has died is found only below a subreaper.
    """
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    queue = [*pids]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Every living process with its parent."""
    if LINUX:
        for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
            if entry.isdecimal():
                fields = _proc_stat(int(entry))
                if fields is not None and fields[0] not in ("Z", "X"):
                    yield int(entry), int(fields[1])
        return
    import psutil

    for process in psutil.process_iter(["ppid", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process.pid, process.info["ppid"]


def _proc_stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the third on (the second may hold spaces)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def pss_bytes(pid: int) -> int:
    """Memory that ``pid`` holds, shared pages divided among those who share them.

    Falls back to the resident size where the kernel does not tell; 0 when it is gone.
    Source: proc(5), ``smaps_rollup`` (Linux 4.14).
    """
    if LINUX:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def describe_exit(code: int) -> str:
    """``exited with 2``, or ``killed by SIGKILL`` for a negative code."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def send_signal(pid: int, start_time: float, sig: signal.Signals) -> bool:
    """Signal ``pid`` if it is still the process of ``start_time``; False when it is not."""
    if not is_same_process(pid, start_time):
        return False
    try:
        os.kill(pid, sig)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    """``count`` ports of 127.0.0.1 that nothing listens on at this moment."""
    import socket  # not for the guardian, which must stay tiny

    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def has_pidfd() -> bool:
    """Whether the kernel tells of a process's end by a descriptor; else threads wait for it.

    Source: pidfd_open(2) (Linux 5.3), which some sandboxes refuse.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def kernel_setting(name: str, root: Path = Path("/proc/sys")) -> tuple[int, ...] | None:
    """The figures of a sysctl such as ``fs/inotify/max_user_watches``; None if it has none.

    So it is where the kernel does not know it.  Source: proc(5), /proc/sys.
    """
    try:
        return tuple(int(word) for word in (root / name).read_text().split()) or None
    except (OSError, ValueError):
        return None


def bound_unix_sockets() -> frozenset[str] | None:
    """Paths of the unix sockets that a process holds; None where the kernel does not tell.

    Source: proc(5), /proc/net/unix, whose eighth field is the path.
    """
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return None
    fields = (line.split(maxsplit=7) for line in lines[1:])
    return frozenset(field[7] for field in fields if len(field) == 8)


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Files made inside are for this user only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def succeeds(argv: Sequence[str | Path], *, timeout: float) -> bool:
    """Whether a short command exits with 0 within ``timeout`` seconds.  It is not heard."""
    import subprocess  # not for the guardian, which must stay tiny

    try:
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.returncode == 0


# Runs alone in a child: makes the namespaces that the container launcher makes, and a
# mount, since some kernels allow the namespace and then refuse the mount (AppArmor's
# restriction of unprivileged user namespaces).  Flags: <linux/sched.h>, <sys/mount.h>.
_MOUNT_PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.geteuid(), os.getegid()
flags = 0x00020000 if uid == 0 else 0x10020000
if libc.unshare(flags): sys.exit(1)
if uid:
    for name, text in (('setgroups', 'deny'), ('uid_map', f'{uid} {uid} 1'),
                       ('gid_map', f'{gid} {gid} 1')):
        with open('/proc/self/' + name, 'w') as file: file.write(text)
if libc.mount(b'none', b'/', None, 0x44000, None): sys.exit(1)
if libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None): sys.exit(1)
os.mkdir('/tmp/bound')
if libc.mount(b'/etc', b'/tmp/bound', None, 0x5000, None): sys.exit(1)
"""


@functools.cache
def can_mount_namespace() -> bool:
    """Whether a child may have its own mounts here.  Tried once, really, in a child."""
    if not LINUX:
        return False
    return succeeds([sys.executable, "-I", "-S", "-c", _MOUNT_PROBE], timeout=20)
