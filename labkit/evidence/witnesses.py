"""What the witnesses wrote, read as data: the API server's audit log, the node's journal.

Reading only; what a line means is left to ``passage``.  Both are files of an embedded
lab.  On another cluster there are none that we can read, and that is an answer too: None.
Vault's audit device is read by ``vault.audit``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class ApiCall:
    """One line of the API server's audit log: who asked for what, and the answer.

    ``asked`` and ``answered`` are in unix seconds.  ``resource`` has its subresource
    (``serviceaccounts/token``); ``code`` is the HTTP code; ``manager`` the field manager
    that the writer called itself, if any.  The log holds no bodies.
    """

    asked: float
    answered: float
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    manager: str

    @property
    def ok(self) -> bool:
        return self.code < 300

    def is_about(self, resource: str, namespace: str, name: str) -> bool:
        return (self.resource, self.namespace, self.name) == (resource, namespace, name)

    def __str__(self) -> str:
        """As a learner would look for it: ``update secrets/x -n demo: 200``."""
        what, _, part = self.resource.partition("/")
        told = "/".join(word for word in (what, self.name, part) if word)
        where = f" -n {self.namespace}" if self.namespace else ""
        return f"{self.verb} {told}{where}: {self.code}"


def api_calls(audit: Path | None) -> tuple[ApiCall, ...] | None:
    """The audit log's calls, oldest first, what was rotated away included.

    None when there is no such log.  A watch counts from its beginning: it may not be
    answered for many minutes.  Source: the Event of ``audit.k8s.io/v1``.
    """
    if audit is None or not audit.exists():
        return None
    # The API server renames a full log to audit-<time>.log, which sorts by time.
    files = [*sorted(audit.parent.glob(f"{audit.stem}-*{audit.suffix}")), audit]
    return tuple(
        call for file in files for entry in _lines(file) if (call := _call(entry)) is not None
    )


def _call(entry: dict[str, Any]) -> ApiCall | None:
    wanted = "ResponseStarted" if entry.get("verb") == "watch" else "ResponseComplete"
    if entry.get("stage") != wanted:
        return None
    about = entry.get("objectRef") or {}
    parts = (about.get("resource", ""), about.get("subresource", ""))
    manager = parse_qs(urlsplit(entry["requestURI"]).query).get("fieldManager", [""])[0]
    return ApiCall(
        asked=datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp(),
        answered=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource="/".join(part for part in parts if part),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=int((entry.get("responseStatus") or {}).get("code", 0)) or 500,
        manager=manager,
    )


@dataclass(frozen=True)
class Rename:
    """The node swapped a volume's ``..data``: the one moment in which files change.

    ``version`` is the resourceVersion of the Secret that it wrote.
    """

    at: float
    volume: str
    files: tuple[str, ...]
    version: str


def renames(journal: Path | None, *, pod_uid: str, secret: str) -> tuple[Rename, ...] | None:
    """The renames for one Secret in one pod, oldest first; None without a journal."""
    if journal is None or not journal.exists():
        return None
    return tuple(
        Rename(entry["at"], entry["volume"], tuple(entry["files"]), source["resourceVersion"])
        for entry in _lines(journal)
        if entry.get("event") == "volume-swapped"
        and entry.get("uid") == pod_uid
        and (source := entry.get("source") or {}).get("kind") == "Secret"
        and source.get("name") == secret
    )


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        stream = file.open("rb")
    except FileNotFoundError:  # rotated away since it was listed
        return
    with stream:
        for line in stream:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line may be half written
            if isinstance(entry, dict):
                yield entry
