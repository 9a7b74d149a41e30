"""Start one program inside a view of the file system of its own (Linux only).

A script for a fresh interpreter, ``python -I -S launch.py OPTIONS -- PROGRAM ARG…``: it
imports nothing but the standard library and nothing of labkit, since each import is
paid at every container's start.  ``mounts`` writes its options, and says what they are for.

1. Take care to die with the parent; leave for new mount, UTS and (with ``--pids``) PID
   namespaces; without the right to do that, through a user namespace.
2. With ``--pids``: fork.  The child becomes process 1 of the container.  The parent stays
   outside, passes signals on, and ends the way the child ends.
3. On a tmpfs, build the new root: what the host has, read-only; own /dev, /tmp and /run.
4. Cover what is to be hidden; bind the volumes.  Where a mount point is missing, make it;
   where its folder cannot be written, put a tmpfs over that folder that shows the same entries
   (none, where the folder may not be entered either).
5. Change to the new root and let go of the old one.
6. Give up privileges, then become the program.

``--join PID`` enters the namespaces of a running launcher instead of 3 to 5.

The exit code is the program's (or its signal); 128 says that it could not be started, with
one line on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import sys

START_FAILED = 128

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_UNBINDABLE, MS_SLAVE = 4096, 16384, 1 << 17, 1 << 19
MNT_DETACH = 2
NEWNS, NEWUTS, NEWUSER, NEWPID = 0x20000, 0x4000000, 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
TIOCSCTTY = 0x540E
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, ATTR_RDONLY = 442, -100, 0x8000, 1

# What container runtimes leave to root (by number: chown dac_override fowner fsetid kill setgid
# setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap), and ipc_lock,
# which Vault asks for.
KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 14, 18, 27, 29, 31})
OWN_FOLDERS = ("proc", "dev", "tmp", "run")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

libc = ctypes.CDLL(None, use_errno=True)


class Attributes(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2)."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


class Options:
    """The command line, in the order in which it was given where that matters."""

    def __init__(self, arguments: list[str]) -> None:
        self.parent = self.join = 0
        self.pids = self.read_only_root = False
        self.root = self.hostname = ""
        self.directory = "/"
        self.user: int | None = None
        self.group: int | None = None
        self.groups: list[int] = []
        self.binds: list[tuple[str, str, bool]] = []
        self.hidden: list[str] = []
        rest = iter(arguments)
        for option in rest:
            match option:
                case "--":
                    break
                case "--pids":
                    self.pids = True
                case "--read-only-root":
                    self.read_only_root = True
                case "--bind" | "--ro-bind":
                    self.binds.append((next(rest), next(rest), option == "--ro-bind"))
                case "--hide":
                    self.hidden.append(next(rest))
                case "--groups":
                    self.groups = [int(group) for group in next(rest).split(",")]
                case "--parent" | "--join" | "--user" | "--group":
                    setattr(self, option[2:], int(next(rest)))
                case "--root" | "--hostname" | "--directory":
                    setattr(self, option[2:], next(rest))
                case _:
                    raise SystemExit(f"launch: unknown option {option}")
        self.program = list(rest)


def call(name: str, *arguments: object, path: str = "") -> None:
    """Call a function of the C library; OSError when it says that it failed."""
    converted = [value.encode() if isinstance(value, str) else value for value in arguments]
    if getattr(libc, name)(*converted) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}", path or None)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    call("mount", source, target, kind, ctypes.c_ulong(flags), data or None, path=target)


def bind(source: str, target: str, *, read_only: bool) -> None:
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """The mount and, where the kernel has mount_setattr (5.12), all below it."""
    attributes = Attributes(set=ATTR_RDONLY)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    flags = ctypes.c_uint(AT_RECURSIVE)
    try:
        call("syscall", ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_int(AT_FDCWD), target, flags,
             ctypes.byref(attributes), size, path=target)  # fmt: skip
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # A bind made in a user namespace may not lose these flags, so they are given again.
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def die_with_parent(parent: int) -> None:
    call("prctl", PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if parent and os.getppid() != parent:
        os._exit(START_FAILED)  # it died before the line above


def leave(options: Options) -> bool:
    """Step 1.  Returns whether that took a user namespace."""
    flags = NEWNS | NEWUTS | (NEWPID if options.pids else 0)
    if os.geteuid() == 0:
        try:
            call("unshare", flags)
        except PermissionError:
            pass  # root of a container without CAP_SYS_ADMIN
        else:
            return False
    user, group = os.geteuid(), os.getegid()
    call("unshare", flags | NEWUSER)
    # One user can be mapped: the own one, to the number that the pod asks for.
    seen_user = user if options.user is None else options.user
    seen_group = group if options.group is None else options.group
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{seen_user} {user} 1"),
        ("gid_map", f"{seen_group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    return True


def build_root(options: Options) -> None:
    """Steps 3 to 5."""
    root = options.root
    mount(None, "/", None, MS_REC | MS_SLAVE)
    mount("labkit", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount(None, root, None, MS_UNBINDABLE)  # else the bind of its own ancestor would repeat it
    show_entries("/", root, read_only=True, leave_out=OWN_FOLDERS)
    if options.pids:
        os.mkdir(f"{root}/proc")
        mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    else:
        show("/proc", f"{root}/proc", read_only=False)
    make_devices(f"{root}/dev")
    for name, mode in (("tmp", "1777"), ("run", "755")):
        own_folder(f"{root}/{name}", mode)
    resolver = os.path.realpath("/etc/resolv.conf")
    if resolver.startswith(("/run/", "/tmp/")) and os.path.isfile(resolver):
        bind(resolver, place(root, resolver, directory=False), read_only=True)
    for path in options.hidden:
        if os.path.isdir(root + path):
            mount("labkit", root + path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=755")
    for source, target, read_only in options.binds:
        is_directory = os.path.isdir(source)
        bind(source, place(root, target, directory=is_directory), read_only=read_only)
    place(root, options.directory, directory=True)
    if options.read_only_root:
        mount(None, root, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    if options.hostname:
        call("sethostname", options.hostname, ctypes.c_size_t(len(options.hostname)))
    os.chdir(root)
    call("pivot_root", ".", ".")  # the old root now lies over the new one …
    call("umount2", ".", MNT_DETACH)  # … and goes
    os.chdir("/")


def own_folder(path: str, mode: str) -> None:
    os.mkdir(path)
    mount("labkit", path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")


def make_devices(path: str) -> None:
    own_folder(path, "755")
    for name in DEVICES:
        with contextlib.suppress(OSError):
            show(f"/dev/{name}", f"{path}/{name}", read_only=False)
    with contextlib.suppress(OSError):
        show("/dev/pts", f"{path}/pts", read_only=False)
        os.symlink("pts/ptmx", f"{path}/ptmx")
    own_folder(f"{path}/shm", "1777")
    links = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
    for name, end in links.items():
        os.symlink(f"/proc/self/fd{end}", f"{path}/{name}")


def show_entries(source: str, target: str, *, read_only: bool, leave_out: tuple[str, ...]) -> None:
    """Make every entry of ``source`` appear in the folder ``target``."""
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name not in leave_out:
                # What cannot be shown (a dead network mount, a race) is missing, no more.
                with contextlib.suppress(OSError):
                    path = f"{source.rstrip('/')}/{entry.name}"
                    show(path, f"{target}/{entry.name}", read_only=read_only)


def show(source: str, target: str, *, read_only: bool) -> None:
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    make(target, directory=stat.S_ISDIR(mode))
    bind(source, target, read_only=read_only)


def make(path: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def place(root: str, target: str, *, directory: bool) -> str:
    """Where ``target`` is below the new root, its links followed there, made if missing."""
    here, links = root, 0
    todo = target.split("/")[::-1]
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = root if here == root else os.path.dirname(here)
            continue
        path = f"{here}/{name}"
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, PermissionError) as missing:
            if isinstance(missing, PermissionError):  # the host's folder is closed to this user
                mount("labkit", here, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
            wanted = directory or any(part not in ("", ".") for part in todo)
            try:
                make(path, directory=wanted)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                open_up(here)
                make(path, directory=wanted)
        else:
            if stat.S_ISLNK(mode):
                links += 1
                if links > 40:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), target)
                link = os.readlink(path)
                here = root if link.startswith("/") else here
                todo += link.split("/")[::-1]
                continue
        here = path
    if os.path.isdir(here) != directory:
        raise OSError(
            errno.ENOTDIR,
            "are you trying to mount a directory onto a file (or vice-versa)?",
            target,
        )
    return here


def open_up(path: str) -> None:
    """Cover a folder with a tmpfs that shows the same entries and can take new ones."""
    covered = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    mode = stat.S_IMODE(os.fstat(covered).st_mode)
    mount("labkit", path, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode:o}")
    # A bind takes its source's read-only flag along.
    show_entries(f"/proc/self/fd/{covered}", path, read_only=False, leave_out=())
    os.close(covered)


def join(pid: int) -> bool:
    """Enter the namespaces of the launcher ``pid``.  Returns whether it has a user namespace."""
    kinds = ("user", "pid_for_children", "uts", "mnt")
    theirs = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds}
    has_user = not os.path.samestat(os.fstat(theirs["user"]), os.stat("/proc/self/ns/user"))
    for kind, descriptor in theirs.items():
        if kind != "user" or has_user:
            call("setns", descriptor, 0, path=kind)
        os.close(descriptor)
    return has_user


def give_up_privileges(options: Options, *, user_namespace: bool) -> None:
    """Step 6, first half.  Capabilities that leave the bounding set are gone after exec."""
    root = os.geteuid() == 0
    if user_namespace or root:
        kept = frozenset() if user_namespace else KEPT_CAPABILITIES
        for capability in range(64):
            if capability not in kept:
                libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability))
    if root and not user_namespace:
        if options.groups or options.group is not None or options.user is not None:
            os.setgroups(options.groups)
        if options.group is not None:
            os.setgid(options.group)
        if options.user is not None:
            os.setuid(options.user)


def become(options: Options) -> None:
    """Step 6, second half.  Comes back only if the program could not be started."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and ignoring is inherited
    if os.isatty(0):  # kubectl exec -t: the terminal's Ctrl-C and hang-up are for this session
        libc.ioctl(0, ctypes.c_ulong(TIOCSCTTY), 0)
    program = options.program[0]
    try:
        os.chdir(options.directory)
        os.execvp(program, options.program)  # noqa: S606 - being the program is the point
    except FileNotFoundError as error:
        where = f"stat {program}" if "/" in program else "executable file not found in $PATH"
        detail = f": {(error.strerror or '').lower()}" if "/" in program else ""
        fail(f'exec: "{program}": {where}{detail}')
    except OSError as error:
        fail(f'exec: "{program}": {(error.strerror or "").lower()}')


def fail(message: str) -> None:
    os.write(2, f"failed to start container: {message}\n".encode())
    os._exit(START_FAILED)


def supervise(child: int, proc: int) -> int:
    """Step 2, the parent's part.  ``proc`` is the host's /proc, which sees the child."""
    about_child = os.open(str(child), os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    ended_by: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        # Process 1 does not get a signal that it has no handler for.  Outside of a container
        # that signal would have ended it, and here nobody wants to wait for the grace
        # period of a plain `sleep`: so it is ended, and counted as ended by that signal.
        if is_default(about_child, number):
            ended_by.append(number)
            number = signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    return -(ended_by[0] if ended_by else os.WTERMSIG(status))


def is_default(about_child: int, number: int) -> bool:
    """Whether the process neither handles, ignores nor blocks the signal."""
    try:
        status = os.open("status", os.O_RDONLY, dir_fd=about_child)
        with os.fdopen(status) as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return False
    return not any(
        int(lines[mask], 16) >> (number - 1) & 1 for mask in ("SigBlk", "SigIgn", "SigCgt")
    )


def end_like(code: int) -> None:
    """Exit with ``code``, or by the signal ``-code``, leaving no core file of this script."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    options = Options(sys.argv[1:])
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/")
    try:
        die_with_parent(options.parent)
        user_namespace = join(options.join) if options.join else leave(options)
        die_with_parent(options.parent)  # a change of credentials forgets it
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        child = os.fork() if options.pids else 0
        if child:
            end_like(supervise(child, proc))
        os.close(proc)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if options.pids:
            os.setsid()  # a signal to the launcher's group comes once, through the launcher
        if not options.join:
            build_root(options)
        give_up_privileges(options, user_namespace=user_namespace)
        die_with_parent(0)
    except OSError as error:
        fail(f"{error.strerror}{f' ({error.filename})' if error.filename else ''}")
    become(options)


if __name__ == "__main__":
    main()
