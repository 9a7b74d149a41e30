"""The pinned programs: are they here and whole, and what else takes room in their cache?

Whether they may be written or run there is `folders`' question.  Nothing is fetched, and
what was verified is not written down.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labkit.doctor.finding import Remark, note, ok, problem
from labkit.errors import LabError
from labkit.paths import cache_dir
from labkit.programs.catalogue import (
    CATALOGUE,
    GoModule,
    builds_of,
    needed_by_a_lab,
    needed_by_the_course,
    variable_of,
)
from labkit.programs.resolve import resolve
from labkit.programs.source import DOWNLOADS
from labkit.programs.store import Store

_TO_VERIFY = 1.2  # seconds
_PATIENCE = 0.5  # seconds to count what a folder takes
_WORTH_TELLING = 100_000_000  # bytes


def missing_builds() -> list[str]:
    """The programs every lab needs that are still to be built (or taken from a pack)."""
    store = Store(cache_dir(), remember=False)
    modules = builds_of(name for name in needed_by_a_lab() if not _is_own(name))
    return [module.name for module in modules if store.read(module) is None]


def _is_own(name: str) -> bool:
    """Whether a variable names another file for it."""
    return bool(os.environ.get(variable_of(name)))


def programs_of_a_lab() -> list[Remark]:
    """The same as ``programs``, of what every lab needs alone; a start has verified these."""
    return programs(needed_by_a_lab(), tell_unseen=False)


def programs(names: Sequence[str] = (), *, tell_unseen: bool = True) -> list[Remark]:
    """Whether each program of ``names`` (none: what the course needs) is here, as pinned.

    ``tell_unseen``: name those for which there was no time.
    """
    cache = cache_dir()
    every_lab = needed_by_a_lab()
    wrong, unseen = _wrong(names or needed_by_the_course(), time.monotonic() + _TO_VERIFY)
    remarks = []
    for name, error in wrong.items():
        # What comes in a wheel, or is the user's own, `up` cannot make.
        is_made = isinstance(CATALOGUE[name].source, GoModule) and not _is_own(name)
        if not is_made and name in every_lab:
            remarks.append(problem(_words(error), error.todo))
        elif "damaged" in error.what or not is_made:
            remarks.append(note(_words(error), error.todo))
    told = [name for name, error in wrong.items() if "not here yet" in error.what]
    missing = [name for name in told if name in every_lab]
    later = [name for name in told if name not in every_lab]
    if missing:
        fix = "Run `labkit programs get` (`labkit up` does it, too; a build takes minutes)."
        remarks.append(note(f"not here yet: {', '.join(missing)}", fix))
    elif later:
        fix = "Run `labkit programs get` while you have time and a good network."
        seen = f"every lab's are there; lesson 07 will want {', '.join(later)}"
        remarks.append(note(seen, fix))
    if unseen and tell_unseen:
        fix = "`labkit programs get` takes the time (so does `labkit up`, once)."
        remarks.append(note(f"not verified for lack of time: {', '.join(unseen)}", fix))
    return remarks or [ok(f"all there and verified, in {cache}")]


def _wrong(names: Iterable[str], until: float) -> tuple[dict[str, LabError], list[str]]:
    """Which of ``names`` cannot be run, each with the reason, and those not looked at.

    Hashing what was never verified takes a while: after ``until`` (``time.monotonic``)
    nothing more is looked at.
    """
    wrong, unseen = {}, []
    for name in names:
        if time.monotonic() > until:
            unseen.append(name)
            continue
        try:
            resolve(name, remember=False)
        except LabError as error:
            wrong[name] = error
    return wrong, unseen


def _words(error: LabError) -> str:
    return f"{error.what}: {error.seen}" if error.seen else error.what


def room() -> list[Remark]:
    """What the cache holds that no lab needs: older builds, and Go's own caches."""
    store = Store(cache_dir(), remember=False)
    until = time.monotonic() + _PATIENCE
    remarks = []
    old = list(_old_builds(store))
    size, is_all = _size(old, until)
    if size > _WORTH_TELLING:
        seen = f"{_about(size, is_all)} of older builds, {len(old)} of them"
        folders = " ".join(shlex.quote(str(folder)) for folder in old)
        fix = f"Where no lab runs on them: `rm -r {folders}`."
        remarks.append(note(seen, fix))
    left = [path for path in (store.root / DOWNLOADS).glob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in left)
    if size > _WORTH_TELLING:
        seen = f"{_about(size, True)} of packs in {store.root / DOWNLOADS}"
        fix = f"`labkit programs get` goes on with a download, or `rm -r {store.root / DOWNLOADS}`."
        remarks.append(note(seen, fix))
    go = [store.go] if store.go.is_dir() else []
    size, is_all = _size(go, until)
    if size > _WORTH_TELLING and (store.go / "keep").exists():
        remarks.append(ok(f"{_about(size, is_all)} of Go's caches in {store.go}, kept on request"))
    elif size > _WORTH_TELLING:
        seen = f"{_about(size, is_all)} of Go's caches in {store.go}"
        fix = (
            "A build is under way, or was broken off: `labkit programs get` ends it and removes "
            "them."
        )
        remarks.append(note(seen, fix))
    return remarks or [ok("holds what is needed and no more")]


def _old_builds(store: Store) -> Iterator[Path]:
    """Builds of other versions, and what killed builds have left."""
    present = {store.folder(module) for module in builds_of(CATALOGUE)}
    for home in sorted(store.programs.glob("[!.]*/")):
        yield from (path for path in sorted(home.iterdir()) if path not in present)


def _size(folders: Iterable[Path], until: float) -> tuple[int, bool]:
    """Bytes on the disk, and whether all was counted by ``until`` (``time.monotonic``)."""
    total = 0
    seen = set()
    for folder in folders:
        for parent, _, files in os.walk(folder):
            if time.monotonic() > until:
                return total, False
            for name in files:
                try:
                    info = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - fast
                except OSError:
                    continue
                if info.st_ino not in seen:  # one program may have several names
                    seen.add(info.st_ino)
                    total += info.st_blocks * 512
    return total, True


def _about(size: int, is_all: bool) -> str:
    return f"{'' if is_all else 'more than '}{size / 1e9:.1f} GB"
