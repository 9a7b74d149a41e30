"""The programs' cache: where each build lives, who may write there, what was verified.

A build is a folder ``programs/<name>/<lock>/`` with the binary under each of its names,
``assets/`` and ``manifest.json``, which holds the SHA-256 of every file.  A folder is
filled aside and then renamed, so what is seen is whole.  Building and downloading are
left to ``build`` and ``golang``; choosing a program to ``resolve``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit.paths import make_private_dir, write_private
from labkit.programs.catalogue import GoModule

_MANIFEST = "manifest.json"
_ASIDE = ".building-"
_LOCK_LENGTH = 16
_PAUSE = 0.1  # seconds between two tries for a lock
_KEPT_VERSIONS = 2
"""The present build of a program and the one before it, which a lab may still run."""


@dataclass(frozen=True)
class Manifest:
    """What was built.  ``files`` maps each path below the folder to its SHA-256 (hex)."""

    lock: str
    go: str
    seconds: float
    built_at: float
    files: dict[str, str] = field(default_factory=dict)


class Store:
    """The cache below ``root``.  Making the object creates nothing.

    Without ``remember``, neither does looking: what was verified is not written down.
    """

    def __init__(self, root: Path, *, remember: bool = True) -> None:
        self.root = root
        self._remember = remember
        self.programs = root / "programs"
        self.go = root / "go"
        """Go's module and build caches, and a toolchain where none is on PATH."""
        self._seals = self.programs / "verified.json"

    def folder(self, module: GoModule) -> Path:
        """Where the build of ``module``, as it is locked now, is or will be."""
        return self.programs / module.name / module.lock_digest()[:_LOCK_LENGTH]

    def read(self, module: GoModule) -> Manifest | None:
        """The manifest of the present build; None when there is none that can be read."""
        try:
            manifest = Manifest(**json.loads((self.folder(module) / _MANIFEST).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        named = all(name in manifest.files for name in module.names)
        return manifest if named and manifest.lock == module.lock_digest() else None

    def size(self, module: GoModule) -> int:
        """Bytes on disk of the present build (a hard link counts once)."""
        found = {}
        for path in self.folder(module).rglob("*"):
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                found[info.st_ino] = info.st_size
        return sum(found.values())

    def find_damage(self, module: GoModule, manifest: Manifest, *, full: bool = False) -> str:
        """What is wrong with the present build, in a few words; "" when it is as built."""
        folder = self.folder(module)
        expected = {folder / name: digest for name, digest in manifest.files.items()}
        return self.find_mismatch(expected, full=full)

    def find_mismatch(self, expected: dict[Path, str], *, full: bool = False) -> str:
        """Compare files with their SHA-256; "" when all agree.

        Hashing the 600 MB of a lab's programs takes more than a second, a third of a
        warm start.  So a file is hashed when it is first seen, and trusted from then on
        while its size, modification and change times and inode stay as they were.  No
        ordinary program can write to a file and keep its change time: a truncated
        download, a half-restored backup or an edited binary is noticed.  What this does
        not notice is a disk that decays silently, for which ``full`` hashes again
        (``labkit programs get`` does), and someone who can write to your cache folder,
        who could as well change the hashes.
        """
        seals = self._read_seals()
        changed = False
        for path, digest in expected.items():
            try:
                mark = _mark(path)
            except OSError as error:
                return f"{path.name}: {error.strerror}"
            if not full and seals.get(str(path)) == [digest, *mark]:
                continue
            try:
                found = sha256_of(path)
            except OSError as error:
                return f"{path.name}: {error.strerror}"
            if found != digest:
                return f"{path} has SHA-256 {found[:12]}…, not {digest[:12]}…"
            seals[str(path)] = [digest, *mark]
            changed = True
        if changed:
            self._write_seals(seals)
        return ""

    def digest_of(self, path: Path) -> str:
        """The SHA-256 of a file that nothing vouches for, computed once."""
        seal = self._read_seals().get(str(path))
        if seal and seal[1:] == _mark(path):
            return str(seal[0])
        digest = sha256_of(path)
        self.find_mismatch({path: digest})
        return digest

    def _read_seals(self) -> dict[str, list[str | int]]:
        try:
            seals = json.loads(self._seals.read_text())
        except (OSError, ValueError):
            return {}
        return seals if isinstance(seals, dict) else {}

    def _write_seals(self, seals: dict[str, list[str | int]]) -> None:
        if not self._remember:
            return
        # Two processes may overwrite each other's: all that is lost is a hash to redo.
        present = {path: seal for path, seal in seals.items() if Path(path).exists()}
        with contextlib.suppress(OSError):  # a read-only cache is verified anew each time
            write_private(self._seals, json.dumps(present, indent=1))

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Hold the lock of build ``name`` if it is free; yields whether it is held."""
        make_private_dir(self.programs)
        with _flock(self.programs / f".{name}.lock", fcntl.LOCK_EX) as held:
            yield held

    @contextlib.contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Hold the lock of build ``name``, however long another process has it."""
        while True:
            with self.locked(name) as held:
                if held:
                    yield
                    return
            time.sleep(_PAUSE)

    @contextlib.contextmanager
    def using_go_caches(self) -> Iterator[None]:
        """Keep other processes from removing Go's caches while they are in use."""
        make_private_dir(self.go)
        while True:
            with _flock(self.go / ".lock", fcntl.LOCK_SH) as held:
                if held:
                    yield
                    return
            time.sleep(_PAUSE)

    @contextlib.contextmanager
    def aside(self, module: GoModule) -> Iterator[Path]:
        """A new folder to build into, gone when the block ends, whichever way it does.

        Call it with the build's lock held: what an earlier, killed build has left there
        is removed first.
        """
        home = make_private_dir(self.programs / module.name)
        for left in home.glob(f"{_ASIDE}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = home / f"{_ASIDE}{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, module: GoModule, built: Path, *, go: str, seconds: float) -> Manifest:
        """Make the folder ``built`` the present build of ``module``.

        1. Hash every file, and see that it is on the disk.
        2. Write the manifest.
        3. Move away what is in the way (a build that was found damaged).
        4. Rename into place, and remember the files as verified.
        5. Remove builds older than the one before this.
        """
        files = {}
        for path in sorted(built.rglob("*")):
            if path.is_file():
                files[str(path.relative_to(built))] = sha256_of(path, sync=True)  # 1
        manifest = Manifest(
            lock=module.lock_digest(),
            go=go,
            seconds=round(seconds, 1),
            built_at=round(time.time(), 1),
            files=files,
        )
        write_private(built / _MANIFEST, json.dumps(asdict(manifest), indent=1))  # 2
        folder = self.folder(module)
        if folder.exists():
            damaged = folder.with_name(f"{_ASIDE}damaged-{secrets.token_hex(4)}")
            folder.rename(damaged)  # 3
            shutil.rmtree(damaged, ignore_errors=True)
        built.rename(folder)  # 4
        seals = self._read_seals()
        for name, digest in files.items():
            seals[str(folder / name)] = [digest, *_mark(folder / name)]
        self._write_seals(seals)
        for old in self._older(folder)[_KEPT_VERSIONS - 1 :]:  # 5
            shutil.rmtree(old, ignore_errors=True)
        return manifest

    def _older(self, folder: Path) -> list[Path]:
        """The other builds of the same program, newest first."""
        others = [
            path
            for path in folder.parent.iterdir()
            if path != folder and not path.name.startswith(".")
        ]
        return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)

    def keep_go_caches(self, keep: bool | None) -> None:
        """Remember whether Go's caches are to stay after a build (None: as it was)."""
        marker = self.go / "keep"
        if keep:
            make_private_dir(self.go)
            marker.touch()
        elif keep is False:
            marker.unlink(missing_ok=True)

    def remove_go_caches(self) -> None:
        """Remove Go's caches, unless they are to be kept or another build uses them."""
        if not self.go.exists() or (self.go / "keep").exists():
            return
        with _flock(self.go / ".lock", fcntl.LOCK_EX) as held:
            if held:
                for path in self.go.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)


def sha256_of(path: Path, *, sync: bool = False) -> str:
    """The SHA-256 of a file, hex.  ``sync`` waits until its bytes are on the disk."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_bytes(folder: Path) -> int:
    """Bytes that the files below ``folder`` take on the disk (0 when it is not there)."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - fast
    return total


def _mark(path: Path) -> list[str | int]:
    info = path.stat()
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


@contextlib.contextmanager
def _flock(path: Path, kind: int) -> Iterator[bool]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
