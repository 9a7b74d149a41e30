"""Follow one rotation from Vault to the page, each hop with evidence of its own.

The six hops, in order: ``vault-write``, ``eso-read``, ``secret-updated``,
``file-swapped``, ``app-reloaded``, ``page-updated``.  The time of each is taken from
the program that did it (an audit log, the node's journal, the app's own event), never
from when somebody noticed.  A hop without evidence is reported as not proven.

Collecting evidence is done here; what it means is left to the lesson.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hvac

from labkit import app as demo
from labkit import eso, vault
from labkit.errors import LabError, WaitTimeout
from labkit.kube import Kube

HOPS = (
    "vault-write",
    "eso-read",
    "secret-updated",
    "file-swapped",
    "app-reloaded",
    "page-updated",
)


@dataclass(frozen=True)
class Hop:
    """One hop: ``at`` in unix seconds and ``seconds`` since the first hop, both None
    when nothing proves that it happened; ``evidence`` names the witness."""

    name: str
    at: float | None
    seconds: float | None
    evidence: str


@dataclass(frozen=True)
class Journey:
    """One rotation.  ``pod_restarts`` counts those during it; ``same_pod`` is whether
    the pod before and after is one and the same."""

    hops: tuple[Hop, ...]
    pod: str
    pod_restarts: int
    same_pod: bool
    forced: bool
    sync: str

    def to_json(self) -> dict[str, Any]:
        """The journey as plain data (the contract of ``labkit tour --json``)."""
        return {
            **asdict(self),
            "hops": [asdict(hop) for hop in self.hops],
            "seconds": self.seconds,
        }

    @property
    def seconds(self) -> float | None:
        """From the write in Vault to the page, or None when the end is not proven."""
        return self.hops[-1].seconds

    def __str__(self) -> str:
        lines = [
            f"{hop.name:<15} "
            + (f"+{hop.seconds:6.3f} s" if hop.seconds is not None else "not proven")
            + f"  {hop.evidence}"
            for hop in self.hops
        ]
        same = "same pod" if self.same_pod else "another pod"
        how = "forced sync" if self.forced else "at its refreshInterval"
        return "\n".join(
            [*lines, f"{how}, node sync mode {self.sync}; {same}, {self.pod_restarts} restarts"]
        )


@dataclass(frozen=True)
class Witnesses:
    """Where evidence of an embedded lab is kept.  On another cluster neither file
    exists, and the hops are proven by watches alone."""

    api_audit: Path | None
    node_journal: Path | None
    sync: str


def rotate(
    kube: Kube,
    client: hvac.Client,
    values: Mapping[str, str],
    *,
    witnesses: Witnesses,
    forced: bool = True,
    timeout: float = 60.0,
    client_name: str = "labkit-tour",
    on_hop: Callable[[Hop], None] | None = None,
) -> Journey:
    """Write ``values`` to Vault and follow them to the app's page.

    ``forced`` asks ESO to read at once; without it the ExternalSecret's
    refreshInterval decides.  ``timeout`` is in seconds.  ``client_name`` is what the
    page stand-in calls itself when it acknowledges.  Raises WaitTimeout when the page
    never shows the new version, naming the first hop without evidence.
    """
    application = demo.App(kube, "")
    before = application.wait_answering(timeout=timeout)
    pod = application.pod()
    if pod is None:
        raise LabError("The app has no pod", todo="Run `labkit reset` to deploy it again.")
    with _SecretWatch(kube) as secret, application.page(client_name) as is_open:
        if not is_open.wait(5.0):
            raise WaitTimeout(
                "The app's event stream did not open within 5 s",
                seen=application.pod_state(),
                todo=f"See `kubectl -n {demo.NAMESPACE} logs -l {demo.LABELS}`.",
            )
        started = time.time()
        vault.write(client, values)
        if forced:
            eso.force_sync(kube, demo.EXTERNAL_SECRET, demo.NAMESPACE)
        found = _Evidence(kube, application, secret, witnesses, pod["metadata"]["uid"], started)
        deadline = time.monotonic() + timeout
        while not found.is_complete(before["version"]) and time.monotonic() < deadline:
            time.sleep(0.05)
    hops = found.hops()
    if on_hop:
        for hop in hops:
            on_hop(hop)
    after = application.pod()
    journey = Journey(
        hops=hops,
        pod=pod["metadata"]["name"],
        pod_restarts=(demo.restarts(after) if after else 0) - demo.restarts(pod),
        same_pod=bool(after and after["metadata"]["uid"] == pod["metadata"]["uid"]),
        forced=forced,
        sync=witnesses.sync,
    )
    missing = next((hop.name for hop in hops if hop.at is None), None)
    if missing:
        raise WaitTimeout(
            f"The new value did not reach the page within {timeout:g} s",
            seen=f"no evidence of {missing}; "
            + (eso.last_warning(kube, demo.EXTERNAL_SECRET, demo.NAMESPACE) or "no warning events"),
            todo=f"See `kubectl -n {demo.NAMESPACE} describe externalsecret "
            f"{demo.EXTERNAL_SECRET}`.",
        )
    return journey


class _Evidence:
    """The hops found so far; asks each witness only until it has answered."""

    def __init__(
        self,
        kube: Kube,
        application: demo.App,
        secret: _SecretWatch,
        witnesses: Witnesses,
        pod_uid: str,
        started: float,
    ) -> None:
        self._kube = kube
        self._app = application
        self._secret = secret
        self._witnesses = witnesses
        self._pod_uid = pod_uid
        self._started = started
        self._found: dict[str, tuple[float, str]] = {}

    def is_complete(self, before: int) -> bool:
        """Ask for what is missing, from the far end back; whether all six are found."""
        if "page-updated" not in self._found:
            self._ask_app(before)
            if "page-updated" not in self._found:
                return False
        self._ask_node()
        self._ask_api()
        self._ask_vault()
        return len(self._found) == len(HOPS)

    def hops(self) -> tuple[Hop, ...]:
        if len(self._found) < len(HOPS):  # the page never came: what do the others say?
            self._ask_node()
            self._ask_api()
            self._ask_vault()
        first = self._found.get(HOPS[0], (self._started, ""))[0]
        return tuple(
            Hop(name, found[0], round(found[0] - first, 6), found[1])
            if (found := self._found.get(name))
            else Hop(name, None, None, "not proven")
            for name in HOPS
        )

    def _add(self, name: str, at: float, evidence: str) -> None:
        self._found.setdefault(name, (at, evidence))

    def _ask_app(self, before: int) -> None:
        for event in self._app.history():
            if event["at"] < self._started or event.get("version", 0) <= before:
                continue
            if event["event"] in {"loaded", "reloaded"}:
                self._add("app-reloaded", event["at"], f"the app: version {event['version']}")
            elif event["event"] == "ack":
                self._add("page-updated", event["at"], f"acknowledged by {event.get('client')}")

    def _ask_node(self) -> None:
        journal = self._witnesses.node_journal
        if journal is None or "file-swapped" in self._found:
            return
        for entry in _lines_since(journal, self._started, key="at"):
            if entry.get("event") == "volume-swapped" and entry.get("uid") == self._pod_uid:
                self._add(
                    "file-swapped", entry["at"], f"the node: rename of ..data in {entry['volume']}"
                )

    def _ask_api(self) -> None:
        if "secret-updated" in self._found:
            return
        audit = self._witnesses.api_audit
        if audit is None:
            if self._secret.changed_at:
                self._add("secret-updated", self._secret.changed_at, "a watch on the Secret")
            return
        for entry in _lines_since(audit, self._started, key="stageTimestamp"):
            about = entry.get("objectRef") or {}
            if (
                entry.get("verb") in {"create", "update", "patch"}
                and about.get("resource") == "secrets"
                and about.get("name") == demo.SECRET
                and about.get("namespace") == demo.NAMESPACE
                and (entry.get("responseStatus") or {}).get("code", 500) < 300
            ):
                who = entry["user"]["username"].removeprefix("system:serviceaccount:")
                self._add(
                    "secret-updated",
                    _unix(entry["stageTimestamp"]),
                    f"the API server's audit log: {entry['verb']} by {who}",
                )

    def _ask_vault(self) -> None:
        if "vault-write" in self._found and "eso-read" in self._found:
            return
        path = f"{vault.MOUNT}/data/{vault.KEY}"
        for entry in vault.audit(self._kube, since=self._started):
            if entry.type != "response" or entry.path != path or entry.error:
                continue
            if entry.operation in {"update", "create"}:
                self._add("vault-write", entry.at, f"Vault's audit log: write by {entry.identity}")
            elif entry.operation == "read" and "vault-write" in self._found:
                self._add("eso-read", entry.at, f"Vault's audit log: read by {entry.identity}")


class _SecretWatch:
    """Watches the app's Secret from before the write, for clusters without an audit log."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.changed_at: float | None = None

    def __enter__(self) -> _SecretWatch:
        path = self._kube.resource("v1", "Secret").path(demo.NAMESPACE)
        listed = self._kube.request("GET", path, query={"limit": 1})
        since = listed["metadata"]["resourceVersion"]

        def follow() -> None:
            for _ in self._kube.watch(
                path, field=f"metadata.name={demo.SECRET}", since=since, idle=120
            ):
                self.changed_at = self.changed_at or time.time()
                return

        threading.Thread(target=follow, name="secret-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do: the thread ends with its first event or its idle limit."""


def _lines_since(file: Path, since: float, *, key: str) -> list[dict[str, Any]]:
    """The JSON lines whose time is not before ``since``, read from the file's end."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 4_000_000))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line may be cut, the last one half written
        if _unix(entry.get(key, 0)) < since:
            break
        found.append(entry)
    return found[::-1]


def _unix(stamp: float | str) -> float:
    return datetime.fromisoformat(stamp).timestamp() if isinstance(stamp, str) else float(stamp)
