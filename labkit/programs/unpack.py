"""Install programs from a pack: every file compared with the lock in the repository.

A pack is read once, from its start, and nothing that it says is believed: a file whose name
or SHA-256 is not locked (see ``packlock``) is not used, whatever the pack's own index tells.
A build appears in the cache whole, as one that was compiled here does.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import tarfile
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from labkit.errors import ProgramError
from labkit.programs.build import free_bytes, link_name
from labkit.programs.catalogue import GIGABYTE, GoModule
from labkit.programs.pack import FORMAT, INDEX
from labkit.programs.packlock import PackLock, Pinned
from labkit.programs.progress import Event, Progress
from labkit.programs.store import Store

_CHUNK = 1 << 20
_LARGEST_INDEX = 8 << 20  # bytes
_TITLE = "Pack"


def unpack(
    pack: Path,
    modules: Iterable[GoModule],
    store: Store,
    lock: PackLock,
    *,
    progress: Progress,
    free: Callable[[Path], int] = free_bytes,
) -> list[str]:
    """Install those of ``modules`` that the file ``pack`` has; their names.

    1. Read the index: is it for this platform, and of these versions?
    2. See that there is room.
    3. Write each build aside, hashing; compare with the lock; rename it into place.

    Raises ProgramError, naming what was wrong and what to do.  What is not as locked is never
    seen in the cache; builds that came before it in the pack, and are, stay.
    """
    wanted = {module.name: module for module in modules}
    with _reading(pack) as archive:
        index = _read_index(archive, pack, lock)  # 1
        present = _choose(index, wanted, lock, pack)
        needed = sum(_sizes(index, name) for name in present)
        if free(store.root) < needed:  # 2
            raise ProgramError(
                "There is too little room for the programs",
                seen=f"{needed / GIGABYTE:.1f} GB are needed, "
                f"{free(store.root) / GIGABYTE:.1f} GB are free at {store.root}",
                todo="Free some, or set LABKIT_CACHE to a folder on a disk with room.",
            )
        done: list[str] = []
        for name, members in _builds(archive, present):  # 3
            progress(Event(_TITLE, f"unpacking {name}", done=len(done), total=len(present)))
            _install(present[name], archive, members, store, lock.builds[name])
            done.append(name)
            if len(done) == len(present):
                break
    missing = [name for name in present if name not in done]
    if missing:
        raise _broken(pack, f"{', '.join(missing)} is not in it, though its index says so")
    progress(Event(_TITLE, "ready", detail=", ".join(done), ended=True))
    return done


# -- reading ----------------------------------------------------------------------------


@contextmanager
def _reading(pack: Path) -> Iterator[tarfile.TarFile]:
    """The archive as a stream; whatever it trips over becomes one clear error."""
    import zstandard

    try:
        with (
            pack.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise _broken(pack, str(error)) from error
    except zstandard.ZstdError as error:
        with pack.open("rb") as raw:
            begins = raw.read(40)
        if begins.lstrip()[:1] in (b"<", b"{"):  # a login page, a proxy's error
            raise ProgramError(
                "What came is not a pack, so nothing was installed",
                seen=f"{pack} begins with {begins[:40].decode(errors='replace')!r}",
                todo="Something on the way answered in its place (a proxy, a login page): look "
                "at the address in a browser.",
            ) from error
        raise _broken(pack, str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProgramError(
                "The disk filled up while the pack was unpacked",
                seen=f"{error.filename or ''} {error.strerror}".strip(),
                todo="Free some, or set LABKIT_CACHE to a folder on a disk with room.",
            ) from error
        raise ProgramError(
            "The pack could not be unpacked",
            seen=f"{error.filename or pack}: {error.strerror}",
            todo="Name a file that you may read, and a cache that you may write (LABKIT_CACHE).",
        ) from error


def _broken(pack: Path, seen: str) -> ProgramError:
    return ProgramError(
        "The pack is truncated or altered; what was wrong in it was not installed",
        seen=f"{pack}: {seen}",
        todo="Fetch it again.",
    )


def _read_index(archive: tarfile.TarFile, pack: Path, lock: PackLock) -> dict[str, Any]:
    member = archive.next()
    if member is None or member.name != INDEX or member.size > _LARGEST_INDEX:
        raise _broken(pack, f"it does not begin with {INDEX}")
    try:
        index: dict[str, Any] = json.loads(_content(archive, member).read())
        format_, platform, builds = index["format"], index["platform"], index["builds"]
        locks = {name: (build["lock"], build["files"]) for name, build in builds.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(pack, f"{INDEX}: {error!r}") from error
    if format_ != FORMAT or not locks:
        raise _broken(pack, f"{INDEX} has format {format_!r}")
    if platform != lock.platform:
        raise ProgramError(
            "The pack is for another platform",
            seen=f"{pack.name} is for {platform}; this is {lock.platform}",
            todo=f"Use the pack for {lock.platform}, or build here: `labkit programs get`.",
        )
    return index


def _choose(
    index: dict[str, Any], wanted: dict[str, GoModule], lock: PackLock, pack: Path
) -> dict[str, GoModule]:
    """The wanted builds that the pack has, each in the version that is pinned here."""
    builds = index["builds"]
    present = {name: module for name, module in wanted.items() if name in builds}
    other = [
        name
        for name, module in present.items()
        if builds[name]["lock"] != module.lock_digest() or lock.find(module) is None
    ]
    if other:
        raise ProgramError(
            "The pack is of another version of the kit",
            seen=f"{pack.name}: {', '.join(other)} is not as this version pins it",
            todo="Use the pack that belongs to this version, or update the kit; "
            "`labkit programs get` builds what is missing.",
        )
    if not present:
        raise ProgramError(
            "The pack has none of the programs that are missing",
            seen=f"{pack.name} has {', '.join(builds)}; missing: {', '.join(wanted)}",
            todo="`labkit programs get` builds them.",
        )
    return present


def _sizes(index: dict[str, Any], name: str) -> int:
    try:
        return sum(int(file["bytes"]) for file in index["builds"][name]["files"].values())
    except (KeyError, TypeError, ValueError, AttributeError):
        return 0  # it is only for a word in time; the hashes decide


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return content


Members = Iterator[tuple[str, tarfile.TarInfo]]


def _builds(archive: tarfile.TarFile, present: Container[str]) -> Iterator[tuple[str, Members]]:
    """Each wanted build with its members, which must be read before the next is asked for."""
    for name, group in itertools.groupby(archive, key=lambda member: _split(member.name)[0]):
        if name in present:
            yield name, ((_split(member.name)[1], member) for member in group)


def _split(name: str) -> tuple[str, str]:
    build, _, path = name.partition("/")
    return build, path


# -- writing ----------------------------------------------------------------------------


def _install(
    module: GoModule, archive: tarfile.TarFile, members: Members, store: Store, pinned: Pinned
) -> None:
    with store.waiting_for(module.name), store.aside(module) as aside:
        made = aside / "made"
        made.mkdir()
        written = set()
        for path, member in members:
            # What is locked is a plain name below the build's folder.
            if path not in pinned.files:
                raise tarfile.ReadError(f"{member.name} does not belong into it")
            if member.islnk():
                _link(made, _split(member.linkname)[1], path, pinned)
            else:
                _write(archive, member, made / path, pinned.files[path])
                (made / path).chmod(0o755 if path in module.names else 0o644)
            written.add(path)
        if missing := sorted(set(pinned.files) - written):
            raise tarfile.ReadError(f"{module.name} lacks {missing[0]}")
        store.publish(module, made, go=pinned.go, seconds=0.0)


def _link(made: Path, first: str, name: str, pinned: Pinned) -> None:
    """Another name of a program that was written already."""
    if not (made / first).is_file() or pinned.files.get(first) != pinned.files[name]:
        raise tarfile.ReadError(f"{name} is a link to {first}, which is another file")
    link_name(made / first, made / name)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, expected: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, content = hashlib.sha256(), _content(archive, member)
    with target.open("wb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != expected:
        raise tarfile.ReadError(
            f"{member.name} has SHA-256 {digest.hexdigest()[:12]}…, not {expected[:12]}…"
        )
