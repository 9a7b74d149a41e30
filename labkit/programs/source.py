"""Where a pack for this version of the kit may be had: a file, a folder, an address.

``LABKIT_PACKS`` names it (``none``: nowhere).  Without it, the releases of the repository
that this kit was cloned from or that its distribution names are tried.  A pack from the wrong
place does no harm: what it may bring is locked (see ``packlock``).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from labkit import git
from labkit.errors import LabError, ProgramError
from labkit.programs.catalogue import GoModule
from labkit.programs.download import download
from labkit.programs.packlock import PackLock, prefix
from labkit.programs.progress import Progress
from labkit.programs.store import Store

VARIABLE = "LABKIT_PACKS"
DISTRIBUTION = "gitops-secrets-lab"
TAG = "programs-"
DOWNLOADS = "downloads"
_FORGE = re.compile(r"(?:https://|git@|ssh://git@)(github\.com)[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def default() -> str:
    """The place to try when none is named: what LABKIT_PACKS says, or the releases of the
    kit's repository; "" when there is none."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return "" if named in ("", "none") else named
    return releases_of(_origin() or _project_url())


def releases_of(repository: str) -> str:
    """Where a repository's releases are, by its address; "" for a host that is not known to
    have any."""
    match = _FORGE.fullmatch(repository.strip())
    return f"https://{match[1]}/{match[2]}/releases/download/" if match else ""


def obtain(
    place: str, modules: Iterable[GoModule], lock: PackLock, store: Store, *, progress: Progress
) -> Path:
    """The pack with ``modules`` from ``place``, as a file; fetched if need be.

    ``place`` is a pack's file or address, a folder with packs, or an address that ends with a
    slash, below which a release of the pack's own name has it.  Raises ProgramError.
    """
    name = lock.pack_name(modules)
    if "://" in place:
        url = place
        if place.endswith("/"):
            release = f"{TAG}{name.removeprefix(prefix(lock.platform)).partition('.')[0]}/"
            url = f"{place}{release if place.endswith('/download/') else ''}{name}"
        target = store.root / DOWNLOADS / Path(urlsplit(url).path).name
        if not target.exists():
            download(url, target, progress=progress)
        return target
    path = Path(place).expanduser()
    if path.is_dir():
        return _in_folder(path, name, lock.platform)
    if not path.is_file():
        raise ProgramError(
            "There is no such pack",
            seen=str(path),
            todo="Name a pack, a folder with packs, or an http(s) address.",
        )
    return path


def discard(file: Path, store: Store) -> None:
    """Remove a pack that was fetched; one of the user's own stays."""
    if file.parent == store.root / DOWNLOADS:
        file.unlink(missing_ok=True)


def _in_folder(folder: Path, name: str, platform: str) -> Path:
    if (folder / name).is_file():
        return folder / name
    packs = sorted(folder.glob(f"{prefix('*')}*.tar.zst"))
    fitting = [path for path in packs if path.name.startswith(prefix(platform))]
    if len(fitting) == 1:
        return fitting[0]  # of another version, perhaps: whoever unpacks it says so
    raise ProgramError(
        f"The folder has no pack for {platform} and this version of the kit",
        seen=", ".join(path.name for path in packs) or f"{folder}: no pack at all",
        todo=f"It would be called {name}.",
    )


def _origin() -> str:
    """The address that the checkout of the kit was cloned from; "" when it is none."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        return git.output("config", "--get", "remote.origin.url", folder=root).decode().strip()
    except LabError:
        return ""


def _project_url() -> str:
    """The repository that the installed distribution names; "" when it names none."""
    try:
        urls = importlib.metadata.metadata(DISTRIBUTION).get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    known = dict(str(url).split(", ", 1) for url in urls if ", " in url)
    return known.get("Repository", "")
