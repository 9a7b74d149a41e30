"""What the kernel allows: mounts of a container's own, and how many of each thing.

``host`` and ``cgroups`` ask; here it is judged, and said how it is changed.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import psutil

from labkit import cgroups, host
from labkit.doctor.finding import Remark, note, ok, problem

_SYSCTL = Path("/proc/sys")

_LEAST_FILES = 256  # open ones in one process
_FEW_FILES = 1024
_LEAST_TASKS = 50  # processes and threads: what a lab has on two cores, pods not counted
_FEW_TASKS = 300
_FEW_INSTANCES = 32
_FEW_WATCHES = 2048

_TO_ALLOW = (
    ("kernel/unprivileged_userns_clone", (0,), "kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        (1,),
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("user/max_user_namespaces", (0,), "user.max_user_namespaces=15000"),
    ("user/max_mnt_namespaces", (0,), "user.max_mnt_namespaces=15000"),
)
"""Settings by which distributions forbid namespaces: name, forbidding value, its opposite."""


def volumes() -> list[Remark]:
    """How a pod sees its volumes: in mounts of its own, or by rewritten paths, and why."""
    chosen = os.environ.get("LABKIT_MODE", "")
    if chosen == "rewrite":
        return [ok("rewrite: LABKIT_MODE asks for it")]
    if chosen not in ("", "mounts"):
        return [problem(f"LABKIT_MODE is {chosen!r}", "It is mounts or rewrite; or unset it.")]
    if host.can_mount_namespace():
        return [ok("mounts: pods see volumes at their real paths")]
    reason, fix = refusal()
    seen = f"rewrite: {reason}"
    if chosen == "mounts":
        return [problem(f"LABKIT_MODE asks for mounts, and {reason}", f"Unset it, or: {fix}")]
    alike = "Nothing has to be done: paths in a container's arguments are rewritten, and lessons"
    return [note(seen, f"{alike} work alike. {fix}")]


def refusal(settings: Path = _SYSCTL, *, root: bool | None = None) -> tuple[str, str]:
    """Why no mount namespace can be made, as far as it can be told, and what would allow it.

    ``root``: whether this user is root, whom these settings do not concern.
    """
    if not host.LINUX:
        return "this system has no mount namespaces", "Linux has them."
    if os.geteuid() == 0 if root is None else root:
        seen = "this container lets not even root make a mount namespace"
        return seen, "A container with CAP_SYS_ADMIN, or a machine, has them."
    for name, forbidden, opposite in _TO_ALLOW:
        if host.kernel_setting(name, settings) == forbidden:
            seen = f"{name.replace('/', '.')} is {forbidden[0]}, so you may make no mount namespace"
            return seen, f"Whoever is root can allow it: `sysctl -w {opposite}`."
    seen = "this kernel, or the container's seccomp profile, lets you make no mount namespace"
    return seen, "Outside of the container, or with another profile, they may be had."


def limits(settings: Path = _SYSCTL, root: Path = Path("/")) -> list[Remark]:
    """How many files, processes and watches may be had.  ``root``: where proc and sys are."""
    return [*_files(), *_tasks(root), *_watches(settings)] or [ok(_told(root))]


def _files() -> list[Remark]:
    """Open files of one process.  Go's programs raise the limit by themselves, as far as allowed.

    Tried: with 200 at most etcd or the API server ends, with 256 a lab comes up.
    """
    soft, hard = (
        sys.maxsize if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    fix = "Raise it: --ulimit nofile of a container, nofile in /etc/security/limits.conf."
    if hard < _LEAST_FILES:
        return [problem(f"a process may have {hard} files open, and no more than that", fix)]
    if soft < _FEW_FILES:
        if soft < hard:
            fix = f"Run `ulimit -n {min(hard, 4096)}` in this terminal first."
        return [note(f"a process may have {soft} files open", fix)]
    return []


def _tasks(root: Path) -> list[Remark]:
    """Processes and threads: of this user, and of this container."""
    remarks = []
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and most != resource.RLIM_INFINITY:  # it does not bind root
        fix = "End some, or raise it: `ulimit -u`, or nproc in /etc/security/limits.conf."
        remarks += _judge(most - _own_tasks(), f"you may have {most} processes and threads", fix)
    bound = cgroups.processes(root)
    if bound is not None:
        seen = f"this container may have {bound.limit} processes and threads"
        remarks += _judge(bound.left, seen, "Give it a larger pids limit (--pids-limit).")
    return remarks


def _judge(left: int, seen: str, fix: str) -> list[Remark]:
    if left >= _FEW_TASKS:
        return []
    seen = f"{seen}, and {max(left, 0)} are left; a lab takes 50 and more"
    return [problem(seen, fix) if left < _LEAST_TASKS else note(seen, fix)]


def _own_tasks() -> int:
    """Threads of this user, which is what the limit of processes counts on Linux."""
    total, uid = 0, os.getuid()
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        if uids is not None and uids.real == uid:
            total += process.info["num_threads"] or 1
    return total


def _watches(settings: Path) -> list[Remark]:
    """Inotify, by which Kubernetes' programs and JupyterLab follow files."""
    few = {"max_user_instances": _FEW_INSTANCES, "max_user_watches": _FEW_WATCHES}
    remarks = []
    for name, least in few.items():
        found = host.kernel_setting(f"fs/inotify/{name}", settings)
        if found is not None and found[0] < least:
            fix = f"Whoever is root can raise it: `sysctl -w fs.inotify.{name}={least * 16}`."
            remarks.append(note(f"fs.inotify.{name} is {found[0]}", fix))
    return remarks


def _told(root: Path) -> str:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    parts = [f"{'any number of' if soft == resource.RLIM_INFINITY else soft} open files"]
    bound = cgroups.processes(root)
    if bound is not None:
        parts.append(f"{bound.left} processes and threads left in this container")
    watched = "pidfd" if host.has_pidfd() else "threads"
    return f"{', '.join(parts)}; the end of a process is told by {watched}"
