"""Look for the lab's own secrets where none may be: files, Git's whole history, processes.

The secrets are known (they are in Vault, in Kubernetes Secrets and in the lab's 0600
files), so this does not guess by patterns: it searches for exactly these values, plain and
in the forms in which they usually escape.  What it reports names a place and a secret, and
never shows one.

Searching for secrets that nobody has told it of is left to scanners made for that.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
from hvac.exceptions import InvalidPath

from labkit import git
from labkit.errors import LabError, UsageError
from labkit.kube import Kube

if TYPE_CHECKING:
    import hvac

SHOWN_ON_PURPOSE = frozenset(
    {"username", "user", "url", "host", "port", "db_user", "db_con", "cache-host", "motto"}
)
"""Fields of the course's secrets that lessons show: user names and addresses."""
_PUBLIC = frozenset({"ca.crt", "tls.crt", "admin.passwordMtime"})
"""Certificates, which stand beside their keys and are shown to whoever connects; a date."""
_SHORTEST = 6  # characters; less is found everywhere
_LARGEST_FILE = 64_000_000  # bytes
_SKIPPED = {".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache"}

KEPT_BY_DESIGN = {
    "etcd": "Kubernetes keeps its Secrets there",
    "node/pods": "Secrets mounted into pods: the files that applications read",
    "vault-token": "the root token, or the administrator's, 0600",
    "vault-unseal-key": "the key share, 0600",
    "git-credentials": "the Git server's password, as git keeps it, 0600",
    "proxy-url": "the network's credential, 0600",
    "kubeconfig": "the learner's own credential, 0600",
    "pki": "private keys, 0600",
    "run": "the programs' own configuration, 0600",
}
"""Where in a lab's state folder secrets belong, and why."""


@dataclass(frozen=True)
class Needle:
    """One secret to look for; ``what`` says which, for people."""

    what: str
    value: str = field(repr=False)

    def forms(self) -> tuple[bytes, ...]:
        """The value as it may stand in a file: plain, URL-quoted, in JSON, in Base64.

        Inside a longer Base64 text a value looks one of three ways, by where it begins.
        """
        raw = self.value.encode()
        found = {raw, quote(self.value, safe="").encode(), json.dumps(self.value)[1:-1].encode()}
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + raw)
            # The characters at both ends depend on what stands around the value.
            begin = (0, 2, 3)[shift]
            end = len(coded) - (4 if (shift + len(raw)) % 3 else 0)
            if end - begin >= _SHORTEST:
                found |= {
                    coded[begin:end],
                    coded[begin:end].replace(b"+", b"-").replace(b"/", b"_"),
                }
        return tuple(sorted(found))


@dataclass(frozen=True)
class Leak:
    """A secret where none may be: ``where`` is a file with its line, an object, a process."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Searched:
    """What was looked through, and what was found there."""

    files: int = 0
    objects: int = 0
    processes: int = 0
    leaks: tuple[Leak, ...] = ()

    def __add__(self, other: Searched) -> Searched:
        return Searched(
            self.files + other.files,
            self.objects + other.objects,
            self.processes + other.processes,
            self.leaks + other.leaks,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data (the contract of ``labkit scan --json``)."""
        return {
            "files": self.files,
            "git_objects": self.objects,
            "processes": self.processes,
            "leaks": [{"where": leak.where, "what": leak.what} for leak in self.leaks],
        }


# -- what to look for -----------------------------------------------------------------


def needles(kube: Kube, client: hvac.Client, files: Iterable[Path] = ()) -> tuple[Needle, ...]:
    """Every secret of a lab: each version in Vault, each Kubernetes Secret, each of ``files``.

    Raises VaultError and ApiError when they cannot be asked.
    """
    found = [*_in_vault(client), *_in_cluster(kube)]
    for file in files:
        if file.exists():
            found += _of(f"the content of {file.name}", file.read_text().strip())
    return tuple({needle.value: needle for needle in found}.values())


def _of(what: str, value: object) -> Iterator[Needle]:
    text = str(value).strip()
    if len(text) >= _SHORTEST:
        yield Needle(what, text)


def _in_vault(client: hvac.Client) -> Iterator[Needle]:
    mounts = client.sys.list_mounted_secrets_engines()["data"]
    for path, mount in mounts.items():
        if mount["type"] == "kv" and (mount.get("options") or {}).get("version") == "2":
            name = path.rstrip("/")
            for key in _keys(client, name, ""):
                yield from _versions(client, name, key)


def _keys(client: hvac.Client, mount: str, folder: str) -> Iterator[str]:
    try:
        # Not hvac's LIST: the API server's proxy passes no such method on.
        listed = client.adapter.get(f"/v1/{mount}/metadata/{folder}", params={"list": "true"})
    except InvalidPath:
        return
    for key in listed["data"]["keys"]:
        if key.endswith("/"):
            yield from _keys(client, mount, folder + key)
        else:
            yield folder + key


def _versions(client: hvac.Client, mount: str, key: str) -> Iterator[Needle]:
    about = client.secrets.kv.v2.read_secret_metadata(path=key, mount_point=mount)["data"]
    for number in about["versions"]:
        try:
            found = client.secrets.kv.v2.read_secret_version(
                path=key, version=int(number), mount_point=mount, raise_on_deleted_version=True
            )["data"]["data"]
        except InvalidPath:
            continue  # deleted or destroyed
        for name, value in found.items():
            if name not in SHOWN_ON_PURPOSE:
                yield from _of(f"{name} of {mount}/{key}, version {number}", value)


def _in_cluster(kube: Kube) -> Iterator[Needle]:
    for secret in kube.list("v1", "Secret"):
        where = f"{secret['metadata']['namespace']}/{secret['metadata']['name']}"
        for key, coded in (secret.get("data") or {}).items():
            text = base64.b64decode(coded).decode(errors="replace")
            if key not in SHOWN_ON_PURPOSE | _PUBLIC:
                yield from _of(f"{key} of the Secret {where}", text)


# -- where to look --------------------------------------------------------------------


class Searcher:
    """Looks for all needles at once."""

    def __init__(self, wanted: Sequence[Needle]) -> None:
        forms = {form: needle.what for needle in wanted for form in needle.forms()}
        self._forms = forms
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)) or b"(?!)")

    def in_bytes(self, data: bytes, where: str) -> list[Leak]:
        """Leaks in ``data``, one for each line and secret."""
        found: dict[Leak, None] = {}
        for match in self._pattern.finditer(data):
            line = data.count(b"\n", 0, match.start()) + 1
            leak = Leak(f"{where}:{line}", self._forms[match.group()])
            found[leak] = None
        return list(found)

    def in_files(self, root: Path, *, skip: Iterable[str] = ()) -> Searched:
        """Every file below ``root`` (or the file itself); ``skip`` are paths below it.

        Raises UsageError when there is no such file or folder.
        """
        if not root.exists():
            raise UsageError(f"There is nothing at {root}", todo="Give a file or a folder.")
        skipped = tuple(root / path for path in skip)
        count, leaks = 0, []
        for file in _walk(root, skipped):
            try:
                data = file.read_bytes()
            except OSError:
                continue  # a socket, or gone by now
            count += 1
            leaks += self.in_bytes(data, str(file))
        return Searched(files=count, leaks=tuple(leaks))

    def in_git(self, folder: Path) -> Searched:
        """Every object of the Git repository that ``folder`` is in, reachable or not.

        Deleting a file in a new commit removes it from no history: that is why.  Raises
        LabError when Git cannot read them.
        """
        if not _is_repository(folder):
            return Searched()
        names = _object_names(folder)
        command = ["git", "-C", str(folder), "cat-file", "--batch", "--batch-all-objects"]
        count, leaks = 0, []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as git:
            assert git.stdout is not None  # noqa: S101 - it was asked for just above
            while header := git.stdout.readline():
                name, kind, size = header.decode().split()
                data = git.stdout.read(int(size) + 1)
                count += 1
                where = f"git {kind} {name[:12]}" + (
                    f" ({path})" if (path := names.get(name)) else ""
                )
                leaks += self.in_bytes(data, where)
        if git.returncode:
            raise LabError("Git cannot read its own objects", todo=f"Try `git -C {folder} fsck`.")
        return Searched(objects=count, leaks=tuple(leaks))

    def in_processes(self) -> Searched:
        """The arguments of every process that may be seen."""
        count, leaks = 0, []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            count += 1
            found = self.in_bytes("\0".join(words).encode(), f"arguments of process {process.pid}")
            leaks += [Leak(leak.where.rpartition(":")[0], leak.what) for leak in found]
        return Searched(processes=count, leaks=tuple(leaks))


def _walk(root: Path, skipped: tuple[Path, ...]) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.iterdir()):
        if path.is_symlink() or path in skipped:
            continue
        if path.is_dir():
            if path.name not in _SKIPPED:
                yield from _walk(path, skipped)
        elif path.is_file() and path.stat().st_size <= _LARGEST_FILE:
            yield path


def _is_repository(folder: Path) -> bool:
    return folder.is_dir() and git.attempt("rev-parse", "--git-dir", folder=folder).returncode == 0


def _object_names(folder: Path) -> dict[str, str]:
    """The path under which each object was committed, where it was."""
    listed = git.text(
        git.attempt("rev-list", "--all", "--objects", folder=folder, timeout=None).stdout
    )
    return {
        name: path
        for name, _, path in (line.partition(" ") for line in listed.splitlines())
        if path
    }
