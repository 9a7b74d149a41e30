"""The golden snapshot: an etcd that already holds what every new lab begins with.

Bootstrapping RBAC and system namespaces and establishing CRDs is the same work each
time.  So it is done once per set of programs and manifests, in a throw-away control
plane, and the store is kept in the cache; a new lab begins with a copy.  Where the cache is
somebody else's, who has made none, it is kept beside the user's labs.

1. A control plane without controllers starts empty; manifests are applied; system
   namespaces and CRDs are waited for.
2. The API server stops.  All keys but those of a short list of kinds are deleted, so
   that nothing of one lab (Secrets, the CA, leases, events, port allocations) can get
   into another.
3. The history is compacted, the file defragmented, etcd stopped in good order.
   ``etcdutl snapshot restore`` makes a data folder of it whose log holds no history.
4. Its two files are copied, the log without its 64 MB of preallocated zeros, with a
   checksum of each, to a folder that is renamed into place when whole.

A lab's start copies the two files and lets the zeros be a hole, which takes 2.5 ms where
``etcdutl snapshot restore`` would take 28 (median of seven).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import host
from labkit.cluster import manifests as objects
from labkit.cluster.components import ETCD_MEMBER, ProgramFile
from labkit.errors import ClusterError
from labkit.paths import LabPaths, cache_dir, make_private_dir, state_root, write_private
from labkit.process import Child, Command

if TYPE_CHECKING:
    from labkit.cluster.controlplane import ControlPlane

Source = Path | Mapping[str, Any]

_FORMAT = 1
"""Raise it when ``components`` or this module change what a fresh store holds."""

_KEPT = (
    "apiextensions.k8s.io/",
    "apiregistration.k8s.io/",
    "clusterrolebindings/",
    "clusterroles/",
    "namespaces/",
    "priorityclasses/",
    "rolebindings/",
    "roles/",
)
"""Kinds (as keys below /registry/) that are the same in every lab and hold nothing secret."""

_SYSTEM_NAMESPACES = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})


def locations(
    programs: Mapping[str, ProgramFile], manifests: Sequence[Source]
) -> tuple[Path, Path]:
    """Where the snapshot for these programs and manifests is, or would be: for all, or for us."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for name in ("etcd", "kube-apiserver"):
        program = programs[name]
        identity = getattr(program, "sha256", "") or f"{program.version} {program.path}"
        digest.update(f"\0{name}\0{identity}".encode())
    for source in manifests:
        content = source.read_bytes() if isinstance(source, Path) else json.dumps(source).encode()
        digest.update(b"\0" + hashlib.sha256(content).digest())
    name = digest.hexdigest()[:24]
    return cache_dir() / "golden" / name, state_root() / ".golden" / name


def find(programs: Mapping[str, ProgramFile], manifests: Sequence[Source]) -> Path | None:
    """The snapshot, if it is there and whole; a damaged one is removed."""
    found = (path for path in locations(programs, manifests) if _is_whole(path))
    return next(found, None)


def _is_whole(path: Path) -> bool:
    if not os.path.isdir(path):  # noqa: PTH112 - nor is what may not be looked at
        return False
    try:
        index = json.loads((path / "index.json").read_text())
        whole = all(_sha256(path / name) == wanted for name, wanted in index["sha256"].items())
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        shutil.rmtree(path, ignore_errors=True)
    return whole


async def prepare(programs: Mapping[str, ProgramFile], manifests: Sequence[Source]) -> Path:
    """The snapshot, made now if it is not there (about 4 s).

    Safe to repeat and to run twice at once.  Raises ProcessError or ClusterError.
    """
    from labkit.cluster.controlplane import ControlPlane  # which restores what is made here

    found = find(programs, manifests)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="labkit-golden-") as temporary:
        root = Path(temporary)
        plane = ControlPlane(
            LabPaths("golden", root), programs, run=root / "run", controllers=False
        )
        async with plane:
            await objects.apply_all(plane.client, plane.server, objects.load(manifests))
            await _wait_for_namespaces(plane)
            await plane.stop_program("kube-apiserver", grace=0)
            await _clean(plane)
            await plane.stop_program("etcd", grace=20)
        restored = root / "restored"
        await _without_history(programs["etcdutl"], plane.paths.etcd, restored)
        everybodys, ours = locations(programs, manifests)
        target = everybodys if _may_write(everybodys.parent) else ours
        return await asyncio.to_thread(_keep, restored, target)


def _may_write(folder: Path) -> bool:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return os.access(there, os.W_OK | os.X_OK)


async def _wait_for_namespaces(plane: ControlPlane, *, limit: float = 60) -> None:
    missing = set(_SYSTEM_NAMESPACES)
    try:
        async with asyncio.timeout(limit):
            while missing:
                _, answer = await plane.client.call("GET", f"{plane.server}/api/v1/namespaces")
                missing -= {item["metadata"]["name"] for item in answer["items"]}
                await asyncio.sleep(0.05 if missing else 0)
    except TimeoutError as error:
        raise ClusterError(
            "System namespaces were not made in time", seen=", ".join(sorted(missing))
        ) from error


async def _clean(plane: ControlPlane) -> None:
    """Steps 2 and 3.  Source: etcd's rpc.proto (KV.Range, DeleteRange, Compact; Defragment)."""
    client, socket = plane.client, plane.etcd_socket
    everything = {"key": _base64(b"\0"), "range_end": _base64(b"\0")}
    found = await client.store(socket, "/v3/kv/range", {**everything, "keys_only": True})
    for entry in found["kvs"]:
        key = base64.b64decode(entry["key"]).decode(errors="replace")
        if not key.removeprefix("/registry/").startswith(_KEPT):
            await client.store(socket, "/v3/kv/deleterange", {"key": entry["key"]})
    left = await client.store(socket, "/v3/kv/range", {**everything, "keys_only": True})
    revision = left["header"]["revision"]
    await client.store(socket, "/v3/kv/compaction", {"revision": revision, "physical": True})
    await client.store(socket, "/v3/maintenance/defragment", {})


async def _without_history(etcdutl: ProgramFile, data: Path, target: Path) -> None:
    argv = (
        str(etcdutl.path),
        "snapshot",
        "restore",
        str(data / "member" / "snap" / "db"),
        "--skip-hash-check",  # a copied file carries no hash, unlike a streamed snapshot
        f"--data-dir={target}",
        *ETCD_MEMBER,
    )
    child = await Child.spawn(Command("etcdutl", argv, {}), log=target.with_suffix(".log"))
    if await child.wait() != 0:
        raise child.early_exit()


def _keep(data: Path, target: Path) -> Path:
    """Step 4."""
    make_private_dir(target.parent)
    for left in target.parent.glob(".making-*"):  # by one that was killed
        maker = left.name.split("-")[1]
        if not (maker.isdecimal() and host.process_start_time(int(maker))):
            shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".making-{os.getpid()}-", dir=target.parent))
    try:
        logs = sorted((data / "member" / "wal").glob("*.wal"))
        if len(logs) != 1:
            raise ClusterError("etcd's log has more than one piece", seen=str(len(logs)))
        write_private(aside / "db", (data / "member" / "snap" / "db").read_bytes())
        log = logs[0].read_bytes()
        write_private(aside / "wal", log.rstrip(b"\0") + b"\0" * 8)
        index = {
            "wal": {"name": logs[0].name, "size": len(log)},
            "sha256": {name: _sha256(aside / name) for name in ("db", "wal")},
        }
        write_private(aside / "index.json", json.dumps(index))
        with contextlib.suppress(OSError):  # another was faster, with the same content
            aside.rename(target)
        return target
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def restore(golden: Path, data: Path) -> None:
    """Lay the snapshot out as the data folder of a new etcd."""
    index = json.loads((golden / "index.json").read_text())
    for name in ("snap", "wal"):
        make_private_dir(data / "member" / name)
    shutil.copyfile(golden / "db", _private(data / "member" / "snap" / "db"))
    log = _private(data / "member" / "wal" / index["wal"]["name"])
    shutil.copyfile(golden / "wal", log)
    os.truncate(log, index["wal"]["size"])  # grows it: the rest is a hole that reads as zeros


def _private(path: Path) -> Path:
    path.touch(mode=0o600)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
