"""Home, state, cache and temp: can they be written, is there room, do their paths fit?"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labkit import leftovers
from labkit.doctor.cache import missing_builds
from labkit.doctor.finding import Remark, note, ok, problem
from labkit.errors import LabError
from labkit.paths import DEFAULT_LAB, cache_dir, state_root

_LEAST_STATE = 150_000_000  # bytes: what `launch` wants before it begins
_LEAST_CACHE = 1_000_000_000  # bytes: all programs, made
_BUILD = 9_000_000_000  # bytes: all programs while they are made
_LEAST_TEMP = 50_000_000  # bytes
_LEAST_FILES = 2_000
_BUILD_FILES = 150_000

_SET_BOTH = "Set LABKIT_STATE and LABKIT_CACHE to folders of yours."


def home() -> list[Remark]:
    """Whether there is a home folder, and a usable one.  A lab itself writes nothing there."""
    fix = f"Set HOME to a folder of yours. {_SET_BOTH}"
    named = os.environ.get("HOME")
    if not named:
        return [note("HOME is not set", fix)]
    found = Path(named)
    if not found.is_dir():
        return [note(f"{found} is no folder", fix)]
    if not os.access(found, os.W_OK | os.X_OK):
        return [note(f"{found} cannot be written", fix)]
    return [ok(str(found))]


def folders() -> list[Remark]:
    """Whether state and cache can be written, programs run from there, and sockets fit."""
    try:
        state, cache = state_root(), cache_dir()
    except LabError as error:
        return [problem(f"{error.what} ({error.seen})", error.todo)]
    return [*_state(state), *_cache(cache)] or [ok(f"state in {state}, cache in {cache}")]


def temporary() -> Path | None:
    """The folder for temporary files; None when none can be written, on a full disk say."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def _state(state: Path) -> list[Remark]:
    fix = "Set LABKIT_STATE to a folder of yours."
    refusal = _refusal(state)
    if refusal:
        return [problem(f"state: {refusal}", fix)]
    # The longest name that a run folder inside has is chosen by `leftovers`.
    inside = state.absolute() / DEFAULT_LAB / f"{leftovers.RUN_PREFIX}0000"
    if leftovers.has_room_for_sockets(inside):
        return []
    shorter = "Set LABKIT_STATE to a folder with a path of at most 40 characters."
    try:
        leftovers.choose_run_folder(state.absolute() / DEFAULT_LAB)
    except OSError:
        seen = f"state: {state} is too long a path for unix sockets, and so is TMPDIR's"
        return [problem(seen, shorter)]
    seen = f"state: {state} is too long a path for unix sockets; they go to the temp folder"
    return [note(seen, f"{shorter} Nothing has to be done while that folder is not cleared.")]


def _cache(cache: Path) -> list[Remark]:
    fix = "Set LABKIT_CACHE to a folder of yours."
    existing = _existing(cache)
    refusal = _refusal(cache)
    if not existing.is_dir():
        return [problem(f"cache: {refusal}", fix)]
    if os.statvfs(existing).f_flag & getattr(os, "ST_NOEXEC", 0):
        seen = f"cache: programs may not be run from {existing} (it is mounted noexec)"
        return [problem(seen, "Set LABKIT_CACHE to a folder on another disk.")]
    if not refusal:
        return []
    if missing_builds():
        return [problem(f"cache: {refusal}", fix)]
    kept = "That cache has what a lab needs; whoever can write there can renew it."
    return [note(f"cache: {refusal}", kept)]


def _refusal(folder: Path) -> str:
    """Why nothing can be written in ``folder``, which need not exist; "" if it can."""
    existing = _existing(folder)
    if not existing.is_dir():
        return f"{existing} is no folder"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written"


@dataclass(frozen=True)
class _Place:
    """A use of a disk, and how much it wants (bytes, files)."""

    use: str
    folder: Path
    least: int
    files: int = _LEAST_FILES
    fix: str = ""


def disk() -> list[Remark]:
    """Free space, and free inodes where the file system counts them; each disk once."""
    builds = bool(missing_builds())
    temp = temporary()
    places = [
        _Place("state", state_root(), _LEAST_STATE, fix="set LABKIT_STATE to a folder with room"),
        _Place(
            "cache",
            cache_dir(),
            _LEAST_CACHE if builds else 20_000_000,
            fix="set LABKIT_CACHE to a folder with room",
        ),
    ]
    remarks = [*map(_room, places)]
    free = shutil.disk_usage(_existing(cache_dir())).free
    if builds and _LEAST_CACHE <= free < _BUILD:
        seen = f"{free / 1e9:.1f} GB free for the cache, and programs are still to be made"
        fix = "Building all of them takes about 9 GB for a while; 1.2 GB stays."
        remarks.append(note(seen, f"{fix} A pack of built programs takes less."))
    if builds and 0 <= _free_files(cache_dir()) < _BUILD_FILES:
        seen = f"{_free_files(cache_dir())} free inodes at {_existing(cache_dir())}"
        remarks.append(note(seen, "A build makes about 150000 files for a while: free some."))
    if temp is None:
        seen = "no folder for temporary files can be written"
        remarks.append(note(seen, "Free some space, or set TMPDIR to a folder of yours."))
    elif shutil.disk_usage(temp).free < _LEAST_TEMP:
        seen = f"{shutil.disk_usage(temp).free / 1e6:.0f} MB free in {temp} (temp)"
        remarks.append(note(seen, "Free some, or set TMPDIR to a folder with room."))
    return remarks


def _room(place: _Place) -> Remark:
    folder = _existing(place.folder)
    free = shutil.disk_usage(folder).free
    size = f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.0f} MB"
    seen = f"{size} free at {folder} ({place.use})"
    if free < place.least:
        return problem(seen, f"Free some, or {place.fix}.")
    if 0 <= _free_files(folder) < place.files:
        seen = f"{_free_files(folder)} free inodes at {folder} ({place.use})"
        return problem(seen, f"Remove files that you do not need, or {place.fix}.")
    return ok(seen)


def _free_files(folder: Path) -> int:
    """How many files may still be made; -1 where the file system does not count them."""
    found = os.statvfs(_existing(folder))
    return found.f_favail if found.f_files else -1


def _existing(folder: Path) -> Path:
    """``folder``, or what of its path is there."""
    folder = folder.absolute()
    # What lies in a folder that may not be entered counts as not there.
    return next(parent for parent in (folder, *folder.parents) if os.access(parent, os.F_OK))
