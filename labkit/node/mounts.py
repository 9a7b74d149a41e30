"""How a container sees its files: a view of its own, or rewritten paths.

Two ways to the same promise, that a volume is where the manifest mounts it:

``mounts``   a script (``launch``) gives the program a file system of its own, where the
             volume really is at its mountPath and everything private to the host's user
             (home folder, the labs' state) is covered.
``rewrite``  no kernel help: the program runs in the host's file system, and each path
             below a mountPath that its arguments and variables name is replaced by the
             place where the volume really is.  A program that has such a path built in
             does not find it.

Which volumes a container has, and what runs in it, is told by ``kitchen``.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import labkit
from labkit import host, paths
from labkit.node import launch
from labkit.process import Command

Mode = Literal["mounts", "rewrite"]

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SCRIPT = Path(launch.__file__)
# Covered in a container, so what is needed from below them must be bound again.
_OWN = ("/tmp", "/run", "/dev/shm")  # noqa: S108 - names of mount points, nothing is written


@dataclass(frozen=True)
class Mount:
    """The file or folder ``source`` of this machine, seen at ``target``."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class User:
    """Whom a container runs as; None: as the node agent itself."""

    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class View:
    """All that a container sees.  ``folder`` is its own on this machine."""

    name: str
    mode: Mode
    folder: Path
    mounts: tuple[Mount, ...]
    env: Mapping[str, str] = field(repr=False)
    directory: str = "/"
    hostname: str = ""
    user: User = User()
    read_only_root: bool = False
    pids: bool = True

    def command(self, argv: Sequence[str], *, join: int | None = None) -> Command:
        """What to run so that ``argv`` runs in this view.

        ``join``: the pid of the container's running main command, whose view (and in it
        /tmp and the processes) is shared.
        """
        if self.mode == "rewrite":
            return self._rewritten(argv)
        if join is not None:
            extra = ["--join", str(join)]
        else:
            root = self.folder / "root"
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            extra = ["--root", str(root), *self._layout()]
        return Command(
            self.name,
            (
                *_LAUNCHER,
                "--parent",
                str(os.getpid()),
                *(["--pids"] if self.pids else []),
                *extra,
                "--directory",
                self.directory,
                *self._identity(),
                "--",
                *argv,
            ),
            self.env,
            minds_parent=True,
        )

    def _layout(self) -> list[str]:
        options: list[str] = []
        for folder in private_folders():
            options += ["--hide", folder]
        for path in needed_files():
            if _is_hidden(Path(path)):
                options += ["--ro-bind", path, path]
        # Outer mount points first: a mount below another's would be covered by it.
        for mount in sorted(self.mounts, key=lambda each: each.target.count("/")):
            kind = "--ro-bind" if mount.read_only else "--bind"
            options += [kind, str(mount.source), mount.target]
        if self.hostname:
            options += ["--hostname", self.hostname]
        if self.read_only_root:
            options.append("--read-only-root")
        return options

    def _identity(self) -> list[str]:
        options: list[str] = []
        if self.user.user is not None:
            options += ["--user", str(self.user.user)]
        if self.user.group is not None:
            options += ["--group", str(self.user.group)]
        if self.user.groups:
            options += ["--groups", ",".join(map(str, self.user.groups))]
        return options

    def _rewritten(self, argv: Sequence[str]) -> Command:
        home = self.folder / "home"
        for folder in (home, self.folder / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rewrite = Rewriter(self.mounts)
        env = {name: rewrite(value) for name, value in self.env.items()}
        if env.get("HOME") == "/":
            env["HOME"] = str(home)
        env.setdefault("TMPDIR", str(self.folder / "tmp"))
        directory = Path(rewrite(self.directory))
        if self.directory == "/" or not directory.is_dir():
            directory = home
        return Command(self.name, tuple(rewrite(word) for word in argv), env, directory)


class Rewriter:
    """Replaces paths at or below mount points by where the volumes really are."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._places = {mount.target.rstrip("/"): str(mount.source) for mount in mounts}
        # The deepest mount point first; a path begins where no longer one is going on, or
        # as the path of a file's URL.
        names = sorted(filter(None, self._places), key=len, reverse=True)
        alternatives = "|".join(map(re.escape, names))
        begin = r"(?:(?<![\w./~-])|(?<=\bfile://))"
        self._pattern = re.compile(rf"{begin}({alternatives})(?=/|[^\w.-]|\.?$)")
        self._any = bool(names)

    def __call__(self, text: str) -> str:
        if not self._any or "/" not in text:
            return text
        return self._pattern.sub(lambda match: self._places[match[1]], text)


_LAUNCHER = (sys.executable, "-I", "-S", str(_SCRIPT))


@functools.cache
def private_folders() -> tuple[str, ...]:
    """What no container may see: the user's home folder and the labs' state."""
    found = {str(Path.home().resolve()), str(paths.state_root().absolute())}
    return tuple(sorted(path for path in found if path != "/"))


def is_private(path: Path) -> bool:
    """Whether a folder is private as a whole, or holds one that is."""
    return any(Path(folder).is_relative_to(path) for folder in private_folders())


def is_covered(path: Path) -> bool:
    """Whether a container does not see ``path`` unless it is bound, labkit's own files aside."""
    return _is_hidden(path) and not any(path.is_relative_to(known) for known in needed_files())


def _is_hidden(path: Path) -> bool:
    """Whether ``path`` is below a folder that is covered in a container."""
    return any(Path(folder) in path.parents for folder in (*private_folders(), *_OWN))


@functools.cache
def needed_files() -> tuple[str, ...]:
    """What programs of this Python need from folders that a container does not see."""
    package = Path(labkit.__file__).parent
    found = dict.fromkeys(
        str(path)
        for path in (
            Path(sys.base_prefix),
            Path(sys.prefix),
            Path(os.path.realpath(sys.executable)).parent.parent,
            package,
        )
    )
    return tuple(path for path in found if not any(path.startswith(f"{other}/") for other in found))


@functools.cache
def has_pid_namespaces() -> bool:
    """Whether a container may have processes of its own here.  Tried once, really.

    Some sandboxes allow new mounts and refuse a new /proc.
    """
    with tempfile.TemporaryDirectory(prefix="labkit-probe-") as folder:
        argv = [*_LAUNCHER, "--pids", "--root", folder, "--", "true"]
        return host.succeeds(argv, timeout=20)
