"""Other users of this machine, for tests that run as root: real uids, homes of their own.

An ordinary machine has its Python where everybody may run it and, in a classroom, one cache of
programs that everybody may read.  Where this checkout's Python lies in somebody's closed home,
the users get a mount namespace in which the way to it is open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from labkit import lifeline, programs
from labkit.paths import cache_dir

REPO = Path(__file__).parent.parent
PROGRAMS = ("etcd", "kube-apiserver", "external-secrets")
_SHOW_THE_WAY = """
folder=$1; closed=$2; shift 2
count=0
for path in "$@"; do
    count=$((count+1)); mkdir -p "$folder/$count"; mount --bind "$path" "$folder/$count"
done
mount -t tmpfs -o mode=755 none "$closed"
count=0
for path in "$@"; do
    count=$((count+1)); mkdir -p "$path"; mount --bind "$folder/$count" "$path"
done
echo ready
cat  # until the test lets go
"""
"""In a new mount namespace: cover a closed folder, and put what is needed from it back."""


@dataclass(frozen=True)
class User:
    """One user, and commands as that user.  ``prefix`` is what leads there."""

    uid: int
    home: Path
    cache: Path
    prefix: tuple[str, ...]

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "labkit"

    def env(self, **more: str) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "USER": f"user{self.uid}",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LABKIT_CACHE": str(self.cache),
            **more,
        }

    def begin(self, *argv: str, **env: str) -> subprocess.Popen[str]:
        """Start a command as this user, who has no other groups."""
        become = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--")
        return subprocess.Popen(
            [*self.prefix, *become, *argv],
            env=self.env(**env),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str, said: str = "", **env: str) -> str:
        """Run one to its end; what it printed.  ``said`` is its standard input."""
        command = self.begin(*argv, **env)
        out, problem = command.communicate(said, timeout=180)
        assert command.returncode == 0, (argv[-3:], problem[-3000:])
        return out

    def python(self, text: str, *words: str, said: str = "") -> str:
        return self.run(sys.executable, "-c", text, *words, said=said)

    def pids(self) -> list[int]:
        """All processes of this user."""
        found = []
        for process in psutil.process_iter(["uids"]):
            if process.info["uids"] and process.info["uids"].real == self.uid:
                found.append(process.pid)
        return found

    def files(self) -> list[str]:
        """Everything of this user's on this machine, in all places that users share."""
        found = [str(self.home)]
        for folder in (self.home, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run")):
            for entry in os.scandir(folder):
                if entry.stat(follow_symlinks=False).st_uid == self.uid:
                    found.append(entry.path)
                    for parent, folders, files in os.walk(entry.path):
                        found += [f"{parent}/{name}" for name in (*folders, *files)]
        return found

    def sockets(self) -> list[str]:
        """Unix sockets of this user's: those that are files, and those that are not."""
        found = [name for name in self.files() if stat.S_ISSOCK(os.lstat(name).st_mode)]
        return [*found, *abstract_sockets_of(self.pids())]

    def ports(self) -> list[tuple[str, int]]:
        """Where processes of this user listen, as the kernel lists it for everybody."""
        found = []
        for name, family in (("tcp", 4), ("tcp6", 16)):
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
            for fields in map(str.split, lines):
                if fields[3] == "0A" and int(fields[7]) == self.uid:
                    address, _, port = fields[1].partition(":")
                    found.append((_address(address, family), int(port, 16)))
        return sorted(set(found))


def _address(text: str, size: int) -> str:
    import socket

    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def abstract_sockets_of(pids: Sequence[int]) -> list[str]:
    """Unix sockets of these processes that have no file, by their names, each after an ``@``."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for handle in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    link = str(Path(handle.path).readlink())
                    inodes.add(link.removeprefix("socket:[").removesuffix("]"))
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    named = [fields for fields in (line.split(maxsplit=7) for line in lines) if len(fields) == 8]
    return sorted({name for *_, inode, name in named if inode in inodes and name[0] == "@"})


@contextlib.contextmanager
def users(*uids: int) -> Iterator[list[User]]:
    """Users with a home each, in which others may go wherever they know the name."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("needs root on Linux, to become other users")
    folder = Path(tempfile.mkdtemp(prefix="lk-users-"))
    folder.chmod(0o711)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cache = _shared_cache(folder / "cache")
        prefix = stack.enter_context(_way_to_python(folder))
        made = []
        for uid in uids:
            user = User(uid, folder / f"home-{uid}", cache, prefix)
            # What is kept there is to be protected by its own mode, not by a parent's.
            for place in (user.home, *_down_to(user.home, user.state)):
                place.mkdir(mode=0o711)
                os.chown(place, uid, uid)
            stack.enter_context(lifeline.held(user.state))  # should this run be killed
            stack.callback(_end, user)
            made.append(user)
        yield made


def _down_to(top: Path, bottom: Path) -> list[Path]:
    return [each for each in reversed([bottom, *bottom.parents]) if top in each.parents]


def _end(user: User) -> None:
    """Take all of this user's labs down, and what is left of them."""
    command = user.begin(sys.executable, "-m", "labkit", "down", "--all")
    command.communicate(timeout=120)
    for pid in user.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _shared_cache(target: Path) -> Path:
    """The programs as a teacher would lay them out: one copy that all may read."""
    source = cache_dir()
    for name in PROGRAMS:
        build = programs.ensure([name])[name].path.parent
        _copy(build, target / build.relative_to(source))
    _copy(source / "golden", target / "golden")
    for path in (target, *target.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)
    return target


def _copy(source: Path, target: Path) -> None:
    """As ``cp -a``, which keeps it that one program has several names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@contextlib.contextmanager
def _way_to_python(folder: Path) -> Iterator[tuple[str, ...]]:
    """What leads a command to where this Python can be run by anybody."""
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix), REPO}
    closed = {blocked: path for path in needed if (blocked := _closed_on_the_way(path))}
    if not closed:
        yield ()
        return
    if len(closed) > 1 or not all(shutil.which(each) for each in ("unshare", "nsenter")):
        pytest.skip(f"other users cannot run this Python: {', '.join(map(str, closed))}")
    ((blocked, path),) = closed.items()
    way = folder / "way"
    way.mkdir(mode=0o711)
    shell = ["sh", "-ec", _SHOW_THE_WAY, "sh", str(way), str(blocked), str(path)]
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", *shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"other users cannot enter {blocked}, and nothing may be mounted here")
        yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
    finally:
        holder.communicate("")


def _closed_on_the_way(path: Path) -> Path | None:
    for each in reversed([path, *path.parents]):
        if not each.stat().st_mode & stat.S_IXOTH:
            return each
    return None
