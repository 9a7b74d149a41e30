"""What a watcher has heard so far: takes news of every kind, gives a snapshot at any time.

It is used in one thread and asks nobody anything; ``feeds`` brings the news.  Of Secrets it
gets metadata only, and everything it keeps is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from labkit import app as demo
from labkit import apptree, eso, rotations, vault
from labkit.journey import COURSE, Route
from labkit.kube import Object, has_ready_pod, is_condition
from labkit.position import Position
from labkit.rotations import Circumstances, Evidence
from labkit.snapshot import (
    App,
    Deployed,
    LabState,
    OtherSource,
    Rotation,
    Snapshot,
    Swap,
    Thing,
    Value,
    Vault,
    VaultState,
    Volume,
)
from labkit.things import HIDDEN, KINDS, Mark, mark_of, secret_of, thing_of
from labkit.vault import AuditEntry

KEPT = 10
"""Rotations, and swaps of a volume, that are kept."""
_LINES = 200  # lines of each witness that are kept
_ORDER = {resource.kind: number for number, resource in enumerate(KINDS)}
_VAULT = ("StatefulSet", vault.NAMESPACE, "vault")
_VAULT_POD = ("Pod", vault.NAMESPACE, vault.POD)
_OPERATOR = ("Deployment", eso.NAMESPACE, "external-secrets")


class Board:
    """The present state of one lab.  ``on_change`` is called at every change."""

    def __init__(self, name: str, on_change: Callable[[], None], route: Route = COURSE) -> None:
        self.route = route
        self._name = name
        self._on_change = on_change
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._settled: set[str] = set()
        self._lab: LabState = "stopped"
        self._problem = ""
        self._sync = ""
        self._current: int | None = None
        self.argocd = False
        self._deployed: dict[str, Deployed] = {}
        self._things: dict[str, dict[str, tuple[Thing, Mark]]] = {kind: {} for kind in _ORDER}
        self._raw: dict[tuple[str, str, str], Object] = {}
        self._health: Mapping[str, Any] | None = None
        self._app: Mapping[str, Any] | None = None
        self._app_pod = ""
        self._audit: deque[AuditEntry] = deque(maxlen=_LINES)
        self._reads: set[tuple[str, int | None]] = set()
        self._api: deque[Object] = deque(maxlen=_LINES)
        self._node: deque[Object] = deque(maxlen=_LINES)
        self._events: deque[Mapping[str, Any]] = deque(maxlen=2 * _LINES)
        self._targets: dict[tuple[str, float], str] = {}
        self._words: dict[float, str] = {}
        self._told: dict[float, Rotation] = {}
        self._is_able = False
        self._able_since = 0.0

    # -- waiting for something here --------------------------------------------------------

    async def until(self, is_met: Callable[[], bool]) -> None:
        """Wait until ``is_met`` says so of this board."""
        while not is_met():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (is_met, future)
            self._waiting.append(entry)
            try:
                await future
            finally:
                if entry in self._waiting:
                    self._waiting.remove(entry)

    def changed(self) -> None:
        """Something is news (or its time has come)."""
        for entry in [entry for entry in self._waiting if entry[0]()]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)
        self._on_change()

    def settle(self, feed: str) -> None:
        """This feed has told all that there was when it began."""
        if feed not in self._settled:
            self._settled.add(feed)
            self.changed()

    def is_told(self, feed: str) -> bool:
        """Whether this feed is settled."""
        return feed in self._settled

    @property
    def is_settled(self) -> bool:
        """Whether a snapshot is whole, and not just the first things that came in."""
        if self._lab != "up":
            return True
        wanted = {*_ORDER, "files"}
        if self.is_running(self.vault_pod):
            wanted |= {"vault", "health"}
        if self.is_running(self.app_pod):
            wanted.add("app")
        if self.argocd:
            wanted.add("Application")
        return wanted <= self._settled

    # -- news ------------------------------------------------------------------------------

    def lab(self, state: LabState, problem: str = "", sync: str = "") -> None:
        """How the lab is.  One that begins anew forgets what the last one was."""
        if state == "stopped":
            self._settled.clear()
            self._health = self._app = None
            self._raw.clear()
            self._deployed.clear()
            for kind in self._things.values():
                kind.clear()
        if (state, problem) != (self._lab, self._problem) or (sync and sync != self._sync):
            self._lab, self._problem, self._sync = state, problem, sync or self._sync
            self.changed()

    def place(self, here: Position) -> None:
        """Where in the course the lab is."""
        if (here.lesson, here.argocd) != (self._current, self.argocd):
            self._current, self.argocd = here.lesson, here.argocd
            self.changed()

    def applications(self, objects: list[Object]) -> None:
        """These are all of Argo CD's Applications."""
        self._deployed = {obj["metadata"]["uid"]: apptree.deployed_of(obj) for obj in objects}
        self.settle("Application")
        self.changed()

    def application(self, change: str, obj: Object) -> None:
        """One was ADDED, MODIFIED or DELETED."""
        uid = obj["metadata"]["uid"]
        if change == "DELETED":
            self._deployed.pop(uid, None)
        else:
            self._deployed[uid] = apptree.deployed_of(obj)
        self.changed()

    def all(self, kind: str, objects: list[Object]) -> None:
        """These are all of a kind; what was there before is gone if it is not among them."""
        before, self._things[kind] = self._things[kind], {}
        for key in [key for key in self._raw if key[0] == kind]:
            del self._raw[key]
        for obj in objects:
            self._put(kind, obj, before)
        self.settle(kind)
        self.changed()

    def object(self, change: str, kind: str, obj: Object) -> None:
        """One was ADDED, MODIFIED or DELETED."""
        meta = obj["metadata"]
        if change == "DELETED":
            self._things[kind].pop(meta["uid"], None)
            self._raw.pop((kind, meta.get("namespace", ""), meta["name"]), None)
        else:
            self._put(kind, obj, self._things[kind], now=time.time())
        self.changed()

    def _put(
        self,
        kind: str,
        obj: Object,
        before: Mapping[str, tuple[Thing, Mark]],
        now: float | None = None,
    ) -> None:
        meta = obj["metadata"]
        where = meta.get("namespace", "")
        if where in HIDDEN:
            return
        seen = thing_of(kind, obj)
        mark = mark_of(kind, obj, seen)
        known = before.get(meta["uid"])
        if known and known[1] == mark:
            seen = _at(seen, known[0].changed_at)
        elif now:
            seen = _at(seen, now)
        self._things[kind][meta["uid"]] = (seen, mark)
        if kind in {"Pod", "ExternalSecret"} or (kind, where, meta["name"]) in {_VAULT, _OPERATOR}:
            meta.pop("managedFields", None)
            self._raw[kind, where, meta["name"]] = obj

    def health(self, answer: Mapping[str, Any] | None) -> None:
        """Vault's own account of itself; None while it gives none."""
        if answer != self._health:
            self._health = answer
            self.changed()
        self.settle("health")

    def audit(self, entry: AuditEntry) -> None:
        """A line of Vault's audit device."""
        if entry.type != "response" or entry.path != f"{vault.MOUNT}/data/{self.route.key}":
            return
        if self._audit and entry.at <= self._audit[-1].at:
            return  # a log that was begun anew tells it again
        if entry.operation == "read":
            # Only a version's first read is evidence; ESO reads the same one again and again.
            if (entry.identity, entry.version) in self._reads:
                return
            self._reads.add((entry.identity, entry.version))
        else:
            self._reads.clear()
        self._audit.append(entry)
        self.changed()

    def api_line(self, line: Object) -> None:
        """A line of the API server's audit log."""
        about = line.get("objectRef") or {}
        if (
            line.get("verb") in {"create", "update", "patch"}
            and not about.get("subresource")
            and (about.get("resource"), about.get("namespace"), about.get("name"))
            in {
                ("secrets", self.route.namespace, self.route.secret),
                ("externalsecrets", self.route.namespace, self.route.external_secret),
            }
        ):
            self._api.append(line)
            self.changed()

    def node_line(self, line: Object, target: str) -> None:
        """A line of the node's journal; ``target`` is where ``..data`` points now."""
        if line.get("event") == "volume-swapped" and (line.get("source") or {}).get("kind") == (
            "Secret"
        ):
            before = next((n for n in reversed(self._node) if n["path"] == line["path"]), None)
            if before and self._targets.get((line["path"], before["at"])) == target:
                del self._targets[line["path"], before["at"]]  # it pointed elsewhere then
            self._node.append(line)
            self._targets[line["path"], line["at"]] = target
            while len(self._targets) > _LINES:
                del self._targets[next(iter(self._targets))]
            self.changed()

    def page(self, shown: Mapping[str, Any] | None, pod_uid: str) -> None:
        """What the app's page shows; None when it does not answer."""
        kept = {key: shown[key] for key in shown if key != "now"} if shown else None
        if (kept, pod_uid) != (self._app, self._app_pod):
            self._app, self._app_pod = kept, pod_uid
            self.changed()
        self.settle("app")

    def history(self, events: list[Mapping[str, Any]]) -> None:
        """The app's own events: all of its process, or the newest."""
        new = [event for event in events if event not in self._events]
        if new:
            self._events.extend(new)
            self.changed()

    def words(self, rotation: float, said: str) -> None:
        """What somebody said of the failure that keeps the rotation that started then."""
        if said and self._words.get(rotation) != said:
            self._words = {**dict(list(self._words.items())[-KEPT:]), rotation: said}
            self.changed()

    # -- what feeds must know ----------------------------------------------------------------

    @property
    def vault_pod(self) -> Object | None:
        return self._raw.get(_VAULT_POD)

    @property
    def app_pod(self) -> Object | None:
        """The app's newest pod: one that is ready before others, none that is going."""
        name, _, value = self.route.labels.partition("=")
        pods = [
            obj
            for (kind, where, _), obj in self._raw.items()
            if kind == "Pod"
            and where == self.route.namespace
            and (obj["metadata"].get("labels") or {}).get(name) == value
            and "deletionTimestamp" not in obj["metadata"]
        ]
        return max(
            pods,
            key=lambda pod: (is_condition(pod, "Ready"), pod["metadata"]["creationTimestamp"]),
            default=None,
        )

    @property
    def external(self) -> Object | None:
        """The app's ExternalSecret."""
        key = ("ExternalSecret", self.route.namespace, self.route.external_secret)
        return self._raw.get(key)

    @staticmethod
    def is_running(pod: Object | None) -> bool:
        """Whether a container of the pod runs (ready or not)."""
        statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or []
        return any("running" in (entry.get("state") or {}) for entry in statuses)

    @staticmethod
    def is_ready(obj: Object) -> bool:
        """Whether its condition Ready says True."""
        return is_condition(obj, "Ready")

    def waiting(self) -> Rotation | None:
        """The newest rotation, while it is not done."""
        newest = next(reversed(self._told.values()), None)
        return newest if newest and newest.progress in {"under way", "stalled"} else None

    # -- the snapshot --------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """All of it, now."""
        things = [seen for kind in self._things.values() for seen, _ in kind.values()]
        things.sort(key=lambda seen: (_ORDER[seen.kind], seen.namespace, seen.name, seen.uid))
        external = self.external
        spec = (external or {}).get("spec") or {}
        return Snapshot(
            name=self._name,
            lab=self._lab,
            problem=self._problem,
            things=tuple(things),
            vault=self._vault(),
            app=self._page(),
            volumes=self._volumes(),
            rotations=self._rotations(),
            sync=self._sync,
            refresh_interval=str(spec.get("refreshInterval") or "1h") if external else "",
            current=self._current,
            argocd=self.argocd,
            deployed=tuple(sorted(self._deployed.values(), key=lambda each: each.app.name))
            if self.argocd
            else (),
            at=time.time(),
        )

    def _vault(self) -> Vault:
        owner, pod = self._raw.get(_VAULT), self.vault_pod
        health = self._health or {}
        state: VaultState
        if owner is None:
            state = "missing"
        elif pod is None or "deletionTimestamp" in pod["metadata"]:
            state = "stopped" if owner["spec"].get("replicas") == 0 else "starting"
        elif not self.is_running(pod) or not health:
            state = "starting"
        elif not health.get("initialized"):
            state = "new"
        else:
            state = "sealed" if health.get("sealed") else "open"
        image = owner["spec"]["template"]["spec"]["containers"][0]["image"] if owner else ""
        return Vault(
            state=state,
            version=str(health.get("version") or ""),
            engine=vault.ENGINES["openbao" if "openbao" in image else "hashicorp"].title
            if image
            else "",
            pod=pod["metadata"]["name"] if pod else "",
        )

    def _page(self) -> App:
        pod = self.app_pod
        if pod is None:
            return App()
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        restarts = demo.restarts(pod)
        shown = self._app
        if shown is None or self._app_pod != uid:
            return App(pod=name, pod_uid=uid, restarts=restarts)
        sources = shown.get("sources") or {}
        file = shown.get("file") or {}
        return App(
            pod=name,
            pod_uid=uid,
            answers=True,
            version=int(shown.get("version") or 0),
            values=tuple(
                Value(
                    key,
                    str(value),
                    str((sources.get(key) or {}).get("path", "")),
                    int((sources.get(key) or {}).get("line", 0)),
                )
                for key, value in (shown.get("values") or {}).items()
            ),
            others=tuple(
                OtherSource(
                    str(other["kind"]),
                    str(other["where"]),
                    other.get("matches_file"),
                    other.get("changed_since_start"),
                    str(other.get("error") or ""),
                )
                for other in shown.get("other_sources") or []
            ),
            stale=bool(shown.get("stale")),
            error=str(shown.get("error") or ""),
            loaded_at=shown.get("loaded_at"),
            file_path=str(file.get("path") or ""),
            file_changed_at=shown.get("file_changed_at"),
            target=str(file.get("target") or ""),
            started_at=shown.get("started_at"),
            restarts=restarts,
        )

    def _volumes(self) -> tuple[Volume, ...]:
        """Of the pods that are there; what others had is history."""
        living = {obj["metadata"]["uid"] for key, obj in self._raw.items() if key[0] == "Pod"}
        found: dict[tuple[str, str], list[Object]] = {}
        for line in self._node:
            if line["uid"] in living:
                found.setdefault((line["uid"], line["volume"]), []).append(line)
        return tuple(
            Volume(
                namespace=lines[-1]["namespace"],
                pod=lines[-1]["pod"],
                pod_uid=uid,
                name=name,
                secret=lines[-1]["source"]["name"],
                path=lines[-1]["path"],
                target=self._targets.get((lines[-1]["path"], lines[-1]["at"]), ""),
                swaps=tuple(
                    Swap(
                        line["at"],
                        bool(line["first"]),
                        tuple(line["files"]),
                        str(line["source"].get("resourceVersion", "")),
                        self._targets.get((line["path"], line["at"]), ""),
                    )
                    for line in lines[-KEPT:]
                ),
            )
            for (uid, name), lines in found.items()
        )

    def _rotations(self) -> tuple[Rotation, ...]:
        pod, operator = self.app_pod, self._raw.get(_OPERATOR)
        shown = self._app or {}
        is_able = self._vault().state == "open" and is_condition(operator, "Available")
        if is_able != self._is_able:
            self._is_able, self._able_since = is_able, time.time() if self._told else 0.0
        found = rotations.rotations(
            Evidence(self._audit, self._api, self._node, self._events),
            Circumstances(
                now=time.time(),
                sync=self._sync,
                vault=self._vault(),
                external=self.external,
                operator=has_ready_pod(operator),
                able_since=self._able_since,
                pod_uid=pod["metadata"]["uid"] if pod else "",
                mounted=self._is_mounted(),
                app_error=str(shown.get("error") or ""),
                app_started=shown.get("started_at"),
                words=self._words,
            ),
            self.route,
            most=KEPT,
        )
        # What was proven once stays so when its witness goes (a pod that was replaced).
        kept = {each.started: _better(self._told.get(each.started), each) for each in found}
        self._told = kept
        return tuple(kept.values())

    def _is_mounted(self) -> bool:
        external = self.external
        secret = secret_of(external) if external else self.route.secret
        return any(
            link.relation == "mounts" and link.name == secret
            for seen, _ in self._things["Pod"].values()
            for link in seen.links
            if seen.namespace == self.route.namespace
        )


def _better(before: Rotation | None, now: Rotation) -> Rotation:
    if before is None or now.progress == "overtaken":
        return now
    proven = [sum(hop.at is not None for hop in each.hops) for each in (before, now)]
    return before if proven[0] > proven[1] or before.progress == "done" else now


def _at(seen: Thing, at: float) -> Thing:
    return replace(seen, changed_at=at)
