"""One program from its Go module: downloaded by hash, compiled, put into the cache whole.

Which program, and whether it is needed at all, is decided by ``resolve``.  An
interrupted build is taken up where it was, because Go's own caches stay until a build
has succeeded; nothing half-made is ever visible (see ``store``).
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from labkit.errors import ProgramError
from labkit.programs import child
from labkit.programs.catalogue import GIGABYTE, GO_FLAGS, GoModule
from labkit.programs.golang import Go, Limits, environment
from labkit.programs.progress import Event, Progress
from labkit.programs.store import Manifest, Store, tree_bytes

_LEAST_DISK = GIGABYTE // 2
_SHOWN_LINES = 8


def free_bytes(folder: Path) -> int:
    """Free space for an ordinary user where ``folder`` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def build(
    module: GoModule,
    *,
    title: str,
    go: Go,
    store: Store,
    limits: Limits,
    progress: Progress,
    free: Callable[[Path], int] = free_bytes,
) -> Manifest:
    """Build ``module`` and make it the present one.  Call it with the build's lock held.

    1. See that there is room.
    2. Download what it is made of, and count what is still to compile.  Where upstream's
       source is to be edited, that is done on a copy of the verified module.
    3. Compile and link, aside.
    4. Copy its assets from the module, and give the binary its other names.
    5. Hash and rename.

    Raises ProgramError; on that, or an interrupt, what was there before still is.
    """
    _check_room(module, title, store, free)  # 1
    started = time.monotonic()
    with store.aside(module) as aside:
        made = aside / "made"
        temporary = aside / "tmp"
        made.mkdir()
        temporary.mkdir()
        job = _Job(module, title, go, environment(go, store, temporary, limits), progress)
        total = job.download_and_count(limits)  # 2
        job.edit_source(aside)
        job.compile(made / module.name, total, limits)  # 3
        job.copy_assets(made / "assets")  # 4
        for name in module.names[1:]:
            link_name(made / module.name, made / name)
        progress(Event(title, "hashing"))
        seconds = time.monotonic() - started
        return store.publish(module, made, go=str(go.version), seconds=seconds)  # 5


def _check_room(module: GoModule, title: str, store: Store, free: Callable[[Path], int]) -> None:
    # What an interrupted build has left in Go's caches need not be fetched again.
    needed = max(module.disk - tree_bytes(store.go), _LEAST_DISK)
    available = free(store.root)
    if available < needed:
        raise ProgramError(
            f"There is too little room to build {title}",
            seen=f"about {needed / GIGABYTE:.1f} GB are needed for a while, "
            f"{available / GIGABYTE:.1f} GB are free at {store.root}",
            todo="Free some, or set LABKIT_CACHE to a folder on a disk with room.",
        )


def link_name(source: Path, name: Path) -> None:
    """Give a program another name beside its first."""
    try:
        name.hardlink_to(source)
    except OSError:  # a file system without hard links
        name.symlink_to(source.name)


class _Job:
    """The go commands of one build: all with the same flags, so that they share a cache."""

    def __init__(
        self, module: GoModule, title: str, go: Go, env: Mapping[str, str], progress: Progress
    ) -> None:
        self.module = module
        self.folder = module.folder  # where go runs
        self.title = title
        self.go = go
        self.env = env
        self.progress = progress
        stamps = [f"-X {name}={value}" for name, value in module.variables]
        self.flags = [*GO_FLAGS, f"-ldflags={' '.join(['-s', '-w', *stamps])}"]

    def download_and_count(self, limits: Limits) -> int:
        """Fetch the modules that this build reads; the number of packages to compile.

        Packages that Go's cache holds already are not stale, and not compiled again.
        """
        downloaded = stale = 0
        self.progress(Event(self.title, "downloading"))

        def on_line(line: str) -> None:
            nonlocal downloaded, stale
            if line == "stale":
                stale += 1
            elif line.startswith("go: downloading "):
                downloaded += 1
                what = " ".join(line.split()[2:])
                self.progress(Event(self.title, "downloading", detail=f"{downloaded}: {what}"))

        tests = ["-test"] if self.module.test else []
        shown = "{{if .Stale}}stale{{end}}"
        self._go("list", ["-deps", *tests, "-f", shown, self.module.package], limits, on_line)
        return stale

    def edit_source(self, aside: Path) -> None:
        """Build from an edited copy of the upstream module, if it has edits.

        Go writes the place of a replaced module into the binary as go.mod names it: a relative
        one is the same on every machine, so that the same inputs give the same bytes.  Raises
        ProgramError when a text to edit is not there exactly once: the pin has moved.
        """
        if not self.module.edits:
            return
        source = aside / "source"
        shutil.copytree(self._upstream(), source, copy_function=shutil.copyfile)
        for folder in (source, *source.rglob("*/")):
            folder.chmod(0o755)  # those of Go's cache cannot be written, nor removed
        for name, old, new in self.module.edits:
            file = source / name
            text = file.read_text()
            if text.count(old) != 1:
                raise ProgramError(
                    f"{self.title} is not as expected, so it was not built",
                    seen=f"{old} is {text.count(old)} times in {name}",
                    todo="Update the edits in labkit/programs/catalogue.py to the new pin.",
                )
            file.write_text(text.replace(old, new))
        self.folder = aside / "module"
        self.folder.mkdir()
        for file in self.module.lock_files():
            shutil.copyfile(file, self.folder / file.name)
        place = f"replace {self.module.module} "
        lines = (self.folder / "go.mod").read_text().splitlines()
        lines = [line for line in lines if not line.startswith(place)]
        (self.folder / "go.mod").write_text("\n".join([*lines, f"{place}=> ../{source.name}", ""]))

    def _upstream(self) -> Path:
        """The folder of the upstream module in Go's cache, whose hash go.sum vouches for."""
        lines: list[str] = []
        self._go("list", ["-m", "-f", "{{.Dir}}", self.module.module], None, lines.append)
        return Path(lines[-1])

    def compile(self, target: Path, total: int, limits: Limits) -> None:
        """Compile and link to ``target``; go names each package as it takes it up."""
        begun = 0
        first = Event(self.title, "compiling", total=total)
        self.progress(first if total > 1 else Event(self.title, "linking"))

        def on_line(line: str) -> None:
            nonlocal begun
            if not line or " " in line or line.startswith("#"):
                return
            begun += 1
            stage = "linking" if begun >= total else "compiling"
            done = 0 if stage == "linking" else begun
            self.progress(Event(self.title, stage, done=done, total=total if done else 0))

        what = ["-o", str(target), "-v", self.module.package]
        if self.module.test:
            self._go("test", ["-c", *what], limits, on_line)
        else:
            self._go("build", what, limits, on_line)

    def copy_assets(self, target: Path) -> None:
        """Copy files of the upstream module."""
        if not self.module.assets:
            return
        upstream = self._upstream()
        for source, place in self.module.assets:
            file = target / place
            file.parent.mkdir(parents=True, exist_ok=True)
            if (upstream / source).is_dir():
                shutil.copytree(upstream / source, file, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(upstream / source, file)

    def _go(
        self, verb: str, args: list[str], limits: Limits | None, on_line: Callable[[str], None]
    ) -> None:
        """Run one go command in the module's folder.  Raises ProgramError."""
        last: deque[str] = deque(maxlen=_SHOWN_LINES)

        def watch(line: str) -> None:
            if line and line != "stale" and not line.startswith("go: downloading "):
                last.append(line)
            on_line(line)

        flags = [] if "-m" in args else [*self.flags, f"-p={limits.jobs}" if limits else "-p=1"]
        argv = [str(self.go.path), verb, *flags, *args]
        code = child.run(argv, env=self.env, cwd=self.folder, on_line=watch)
        if code != 0:
            raise _explain(self.title, code, [line for line in last if " " in line] or list(last))


_NETWORK_SIGNS = (
    "dial tcp", "no such host", "GOPROXY=off", "connection refused", "i/o timeout",
    "TLS handshake", "proxyconnect", "unexpected EOF", "Forbidden", "Bad Gateway",
    "Service Unavailable", "Too Many Requests",
)  # fmt: skip

_CAUSES = (
    (
        ("no space left on device", "disk quota exceeded"),
        "The disk filled up while building {title}",
        "Free some, or set LABKIT_CACHE to a folder with room; the build goes on where it was.",
    ),
    (
        ("signal: killed", "out of memory", "cannot allocate memory"),
        "Memory ran out while building {title}",
        "Run `labkit programs get --jobs 1 --memory 2G`; the build goes on where it was.",
    ),
    (
        ("SECURITY ERROR", "checksum mismatch"),
        "A download for {title} is not what is pinned, and was not used",
        "Check GOPROXY and the network: something on the way has changed a file.",
    ),
    (
        _NETWORK_SIGNS,
        "{title} is not in the cache, and its modules could not be downloaded",
        "Connect to the network (or set GOPROXY, HTTPS_PROXY) and run `labkit programs get` "
        "again; it goes on where it was.",
    ),
)
"""Signs in go's last lines, what they mean, and what to do."""


def _explain(title: str, code: int, last: list[str]) -> ProgramError:
    """The error for a go command that failed, by what its last lines say."""
    for signs, what, todo in _CAUSES:
        for line in reversed(last):
            if any(sign in line for sign in signs):
                return ProgramError(what.format(title=title), seen=line, todo=todo)
    ended = f"go ended with {code}" if code >= 0 else f"go was ended by signal {-code}"
    return ProgramError(
        f"{title} could not be built",
        seen="; ".join([ended, *last]),
        todo="Run `labkit programs get` again; if it fails alike, please report it.",
    )
