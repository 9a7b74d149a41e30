"""What the witnesses wrote down of rotations: each hop of one, with its time and its proof.

The six hops, in order: ``vault-write``, ``eso-read``, ``secret-updated``,
``file-swapped``, ``app-reloaded``, ``page-updated``.  The time of each is taken from
the program that did it (an audit log, the node's journal, the app's own event), never
from when somebody noticed.  A hop without evidence is left out.

The logs are read once for any number of rotations; making a rotation happen, and waiting
for it, is left to ``journey`` and ``lanes``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit import vault
from labkit.kube import Kube, Object
from labkit.vault import AuditEntry

HOPS = (
    "vault-write",
    "eso-read",
    "secret-updated",
    "file-swapped",
    "app-reloaded",
    "page-updated",
)
_BLOCK = 1 << 20  # bytes of a log that are read at a time, from its end
_DISORDER = 1.0  # seconds: lines of requests that were answered together change places


@dataclass(frozen=True)
class Witnesses:
    """Where evidence of an embedded lab is kept.  On another cluster neither file
    exists; then a watch on the Secret and the file's own time stand in for them."""

    api_audit: Path | None
    node_journal: Path | None
    sync: str


@dataclass(frozen=True)
class Proof:
    """That something happened ``at`` this time (unix seconds), and who says so."""

    at: float
    evidence: str


@dataclass(frozen=True)
class Rotation:
    """What was written, and where it is on its way to.

    ``key`` (below the KV mount) and ``version`` are Vault's; ``volumes`` are those of the
    pod that hold ``secret``; ``started`` is a moment before the write (unix seconds).
    """

    key: str
    version: int
    namespace: str
    secret: str
    pod_uid: str
    volumes: frozenset[str]
    started: float


def volumes_of(pod: Object, secret: str) -> frozenset[str]:
    """The pod's volumes that hold this Secret, alone or among other things."""
    return frozenset(
        volume["name"]
        for volume in pod["spec"].get("volumes") or []
        if (volume.get("secret") or {}).get("secretName") == secret
        or any(
            (source.get("secret") or {}).get("name") == secret
            for source in (volume.get("projected") or {}).get("sources") or []
        )
    )


@dataclass(frozen=True)
class Trail:
    """All that Vault, the API server and the node wrote down since some moment."""

    vault: tuple[AuditEntry, ...]
    api: tuple[Object, ...]
    node: tuple[Object, ...]

    @classmethod
    def read(cls, kube: Kube, witnesses: Witnesses, since: float) -> Trail:
        """Read the three logs.  Raises VaultError when Vault's cannot be read."""
        return cls(
            tuple(vault.audit(kube, since=since)),
            tuple(_lines_since(witnesses.api_audit, since, key="stageTimestamp")),
            tuple(_lines_since(witnesses.node_journal, since, key="at")),
        )

    def proofs(self, rotation: Rotation) -> dict[str, Proof]:
        """The first four hops of one rotation, as far as they are proven.

        1. Vault's answer to the write tells the version that it made.
        2. ESO's read is the first one by somebody else that was answered with this version.
        3. The Secret's update is the first one after that read.
        4. The file's swap is the first one of the pod's volume after that read.
        """
        found: dict[str, Proof] = {}
        path = f"{vault.MOUNT}/data/{rotation.key}"
        writer = ""
        for entry in self.vault:  # 1, 2
            if (
                entry.type != "response"
                or entry.path != path
                or entry.error
                or entry.version != rotation.version
            ):
                continue
            if entry.operation in {"update", "create"}:
                writer = entry.identity
                found["vault-write"] = Proof(
                    entry.at, f"Vault's audit log: write by {entry.identity}"
                )
            elif entry.operation == "read" and entry.identity != writer:
                found["eso-read"] = Proof(entry.at, f"Vault's audit log: read by {entry.identity}")
                break
        since = max([rotation.started, *(proof.at for proof in found.values())])
        if update := next(self._updates(rotation, since), None):  # 3
            who = update["user"]["username"].removeprefix("system:serviceaccount:")
            found["secret-updated"] = Proof(
                _unix(update["stageTimestamp"]),
                f"the API server's audit log: {update['verb']} by {who}",
            )
        if swap := next(self._swaps(rotation, since), None):  # 4
            found["file-swapped"] = Proof(
                swap["at"], f"the node: rename of ..data in {swap['volume']}"
            )
        return found

    def _swaps(self, rotation: Rotation, since: float) -> Iterator[Object]:
        for entry in self.node:
            if (
                entry.get("event") == "volume-swapped"
                and entry.get("uid") == rotation.pod_uid
                and entry.get("volume") in rotation.volumes
                and entry["at"] >= since
            ):
                yield entry

    def _updates(self, rotation: Rotation, since: float) -> Iterator[Object]:
        for entry in self.api:
            about = entry.get("objectRef") or {}
            if (
                entry.get("verb") in {"create", "update", "patch"}
                and about.get("resource") == "secrets"
                and about.get("name") == rotation.secret
                and about.get("namespace") == rotation.namespace
                and (entry.get("responseStatus") or {}).get("code", 500) < 300
                and _unix(entry["stageTimestamp"]) >= since
            ):
                yield entry


def app_proofs(
    history: Iterable[Mapping[str, Any]], *, after: int, since: float
) -> dict[str, Proof]:
    """The last two hops, from the app's own history: the first version later than
    ``after`` that it loaded at or after ``since`` (unix seconds), and its first
    acknowledgement by a page."""
    found: dict[str, Proof] = {}
    version = 0
    for event in history:
        if event["at"] < since or event.get("version", 0) <= after:
            continue
        if event["event"] in {"loaded", "reloaded"} and not version:
            version = event["version"]
            found["app-reloaded"] = Proof(event["at"], f"the app: version {version}")
        elif event["event"] == "ack" and version and event["version"] >= version:
            found["page-updated"] = Proof(event["at"], f"acknowledged by {event.get('client')}")
            break
    return found


def in_order(proofs: Mapping[str, Proof]) -> dict[str, Proof]:
    """The proofs by hop, none later than the one of the hop that it caused.

    A witness writes its line when it has acted: the API server's audit log after the
    answer, by when the node may have heard of the change already.  So a line can be later
    than the next one by a millisecond or two, and the act was before both.
    """
    ordered: dict[str, Proof] = {}
    bound = float("inf")
    for name in reversed(HOPS):
        if name in proofs:
            bound = min(bound, proofs[name].at)
            ordered[name] = Proof(bound, proofs[name].evidence)
    return {name: ordered[name] for name in HOPS if name in ordered}


def _lines_since(file: Path | None, since: float, *, key: str) -> list[Object]:
    """The JSON lines whose time is not before ``since``, read from the file's end."""
    if file is None:
        return []
    found: list[Object] = []
    try:
        with file.open("rb") as stream:
            for line in _backwards(stream.fileno(), stream.seek(0, 2)):
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the last line may be half written
                at = _unix(entry.get(key, 0))
                if at < since - _DISORDER:
                    break
                if at >= since:
                    found.append(entry)
    except FileNotFoundError:
        return []
    return found[::-1]


def _backwards(fd: int, end: int) -> Iterator[bytes]:
    """The lines of a file before ``end``, last one first."""
    rest = b""
    while end > 0:
        start = max(0, end - _BLOCK)
        first, *lines = (os.pread(fd, end - start, start) + rest).split(b"\n")
        yield from reversed(lines)
        rest, end = first, start
    yield rest


def _unix(stamp: float | str) -> float:
    return datetime.fromisoformat(stamp).timestamp() if isinstance(stamp, str) else float(stamp)
