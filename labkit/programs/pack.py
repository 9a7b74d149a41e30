"""Write a pack: every built program of the course for this platform, in one archive.

A pack is a tar file, compressed with zstd.  Its first member, ``pack.json``, says what is in
it, how each program was built and under which licence; the licences of everything that is
linked into a program follow, then the files of each build below its name.  Names are sorted
and times are zero, so the same builds give the same archive.  ``unpack`` is the way back.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import ProgramError
from labkit.programs import golang, packlock
from labkit.programs.catalogue import CATALOGUE, GO_FLAGS, Entry, GoModule
from labkit.programs.licences import licences_of
from labkit.programs.packlock import PackLock, Pinned
from labkit.programs.progress import Event, Progress
from labkit.programs.store import Manifest, Store

INDEX = "pack.json"
FORMAT = 1
LEVEL = 19
WINDOW_LOG = 27
"""128 MiB: what it takes to unpack, and how far back a Go program repeats another."""


@dataclass(frozen=True)
class Written:
    """A pack that was written: ``size`` in bytes, of ``unpacked`` bytes of programs."""

    path: Path
    size: int
    unpacked: int
    builds: tuple[str, ...]


def lock_of(modules: Iterable[GoModule], store: Store) -> PackLock:
    """What the builds in ``store`` are, to be locked for everyone.

    Raises ProgramError for a build that is missing or damaged, or that another Go made than
    the pinned one: others could not make the same bytes.
    """
    builds = {}
    for module in modules:
        manifest = _manifest(module, store)
        if manifest.go != golang.WHEEL_VERSION:
            raise ProgramError(
                f"{module.name} was built with another Go than the pinned {golang.WHEEL_VERSION}",
                seen=f"Go {manifest.go}",
                todo="Build for a pack in a cache of its own: `LABKIT_CACHE=FOLDER "
                "LABKIT_GO=pinned labkit programs get`, then pack with the same LABKIT_CACHE.",
            )
        builds[module.name] = Pinned(manifest.lock, manifest.go, manifest.files)
    return PackLock(packlock.platform_name(), builds)


def write(
    modules: Iterable[GoModule],
    store: Store,
    lock: PackLock,
    folder: Path,
    *,
    catalogue: Mapping[str, Entry] = CATALOGUE,
    progress: Progress,
    level: int = LEVEL,
) -> Written:
    """Write the pack of ``modules`` into ``folder``, whole or not at all.

    Raises ProgramError when a build is not what ``lock`` says.
    """
    builds = {module: _check(module, store, lock) for module in modules}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / lock.pack_name(builds)
    aside = target.with_name(f".{target.name}.part")
    try:
        unpacked = _write(builds, store, catalogue, aside, progress, level)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return Written(target, target.stat().st_size, unpacked, tuple(each.name for each in builds))


def _manifest(module: GoModule, store: Store) -> Manifest:
    manifest = store.read(module)
    damage = store.find_damage(module, manifest, full=True) if manifest else "it is not here"
    if manifest is None or damage:
        raise ProgramError(
            f"{module.name} cannot be packed", seen=damage, todo="Run `labkit programs get`."
        )
    return manifest


def _check(module: GoModule, store: Store, lock: PackLock) -> Manifest:
    """What the build is, if it is whole and as locked."""
    manifest, pinned = _manifest(module, store), lock.find(module)
    if pinned is None:
        raise ProgramError(
            f"{module.name} is not in the lock of packs as it is pinned now",
            seen=f"packs.lock for {lock.platform}",
            todo="Run `labkit programs pack --lock`, and commit packs.lock.",
        )
    if dict(manifest.files) != dict(pinned.files):
        names = sorted(manifest.files.keys() | pinned.files.keys())
        name = next(n for n in names if manifest.files.get(n) != pinned.files.get(n))
        raise ProgramError(
            f"{module.name} is not the build that is locked, so it was not packed",
            seen=f"{name}: {manifest.files.get(name, 'missing')[:12]}…, built with Go "
            f"{manifest.go}; locked: {pinned.files.get(name, 'missing')[:12]}…, Go {pinned.go}",
            todo="Build it with the pinned Go: `LABKIT_GO=pinned labkit programs get`, in a "
            "cache of its own (LABKIT_CACHE).",
        )
    return manifest


def _write(
    builds: Mapping[GoModule, Manifest],
    store: Store,
    catalogue: Mapping[str, Entry],
    target: Path,
    progress: Progress,
    level: int,
) -> int:
    import zstandard

    texts: dict[str, bytes] = {}
    index: dict[str, Any] = {"format": FORMAT, "platform": packlock.platform_name(), "builds": {}}
    for module, manifest in builds.items():
        title = f"{module.name} {catalogue[module.name].version}"
        progress(Event(title, "collecting licences"))
        found = licences_of(module, store)
        texts |= found.texts
        index["builds"][module.name] = _describe(module, manifest, catalogue, store, found.of)
    sizes = {module: store.size(module) for module in builds}
    total, done = sum(sizes.values()), 0
    params = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=WINDOW_LOG, enable_ldm=True, write_checksum=True, threads=-1
    )
    with (
        target.open("wb") as raw,
        zstandard.ZstdCompressor(compression_params=params).stream_writer(raw) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add_text(archive, INDEX, json.dumps(index, indent=1).encode())
        for name, text in sorted(texts.items()):
            _add_text(archive, name, text)
        for module, manifest in builds.items():
            progress(Event("Pack", f"adding {module.name}", done=done >> 20, total=total >> 20))
            _add_build(archive, module, manifest, store.folder(module))
            done += sizes[module]
    progress(Event("Pack", "written", ended=True))
    return total


def _describe(
    module: GoModule,
    manifest: Manifest,
    catalogue: Mapping[str, Entry],
    store: Store,
    licences: list[str],
) -> dict[str, Any]:
    return {
        "programs": {name: catalogue[name].version for name in module.names},
        "lock": manifest.lock,
        "built": {
            "module": module.module,
            "package": module.package,
            "go": manifest.go,
            "flags": list(GO_FLAGS),
            "variables": dict(module.variables),
            "edits": [list(edit) for edit in module.edits],
        },
        "licence": catalogue[module.name].licence,
        "licences": licences,
        "files": {
            name: {"sha256": digest, "bytes": (store.folder(module) / name).stat().st_size}
            for name, digest in sorted(manifest.files.items())
        },
    }


def _add_text(archive: tarfile.TarFile, name: str, text: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    info.mode = 0o644
    archive.addfile(info, io.BytesIO(text))


def _add_build(
    archive: tarfile.TarFile, module: GoModule, manifest: Manifest, folder: Path
) -> None:
    """The files of one build; a program's further names are links to its first."""
    first = [name for name in module.names if name in manifest.files]
    for name in first + sorted(set(manifest.files) - set(first)):
        path = folder / name
        info = tarfile.TarInfo(f"{module.name}/{name}")
        info.mode = 0o755 if name in first else 0o644
        if name in first[1:] and manifest.files[name] == manifest.files[first[0]]:
            info.type, info.linkname = tarfile.LNKTYPE, f"{module.name}/{first[0]}"
            archive.addfile(info)
            continue
        info.size = path.stat().st_size
        with path.open("rb") as file:
            archive.addfile(info, file)
