"""What a lab is at one moment, as immutable data: what every view is drawn from.

Names, states and times only: no value of a Secret ever comes in here, but for what the
app's page shows to everybody (passwords are dots there).  ``watcher`` makes snapshots;
what they look like is the views' business.  Times are in unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from labkit import argocd

Health = Literal["ok", "progressing", "bad", "unknown"]
LabState = Literal["up", "unreachable", "stopped"]
VaultState = Literal["open", "sealed", "new", "starting", "stopped", "missing"]
Progress = Literal["done", "under way", "stalled", "overtaken", "unproven"]


@dataclass(frozen=True)
class Link:
    """What a thing refers to without owning it: an ExternalSecret ``reads`` a store and
    ``writes`` a Secret, a Pod ``mounts`` one (or has it as ``env``), a store ``asks`` a
    Vault.  ``namespace`` is "" for what has none."""

    relation: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Thing:
    """One object of the cluster.  ``owners`` are uids; ``message`` says the health in a
    few words; ``changed_at`` is when something about it last changed that matters (a
    refresh that found nothing new does not).  ``owned_by`` names the owners
    (``ReplicaSet.apps/NAME``); ``tracking`` is what Argo CD's annotation on it says."""

    kind: str
    namespace: str
    name: str
    uid: str
    health: Health
    message: str
    changed_at: float
    owners: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    owned_by: tuple[str, ...] = ()
    tracking: str = ""


@dataclass(frozen=True)
class Managed:
    """One object that an Application manages, as Argo CD tells of it: ``sync`` is Synced,
    OutOfSync or Unknown, ``health`` as argocd.Application has it ("" for kinds that have
    none).  ``wave`` is its sync wave; ``is_surplus``: it is no longer in Git, and waits to
    be pruned; ``is_hook``: it is run at a sync, and not compared."""

    group: str
    kind: str
    namespace: str
    name: str
    sync: str
    health: str
    message: str = ""
    wave: int = 0
    is_surplus: bool = False
    is_hook: bool = False


@dataclass(frozen=True)
class Deployed:
    """What one Application has Argo CD deploy: ``app`` is what is said of it as a whole,
    ``wave`` its own sync wave, for whoever deploys Applications."""

    app: argocd.Application
    wave: int = 0
    managed: tuple[Managed, ...] = ()


@dataclass(frozen=True)
class Vault:
    """Vault itself: ``open`` serves requests, ``sealed`` waits for its key, ``new`` was
    never initialised (or forgot), ``stopped`` is scaled to zero, ``missing`` is not there."""

    state: VaultState = "missing"
    version: str = ""
    engine: str = ""
    pod: str = ""


@dataclass(frozen=True)
class Value:
    """One value on the app's page, as it is ``shown`` there (a password as dots), and the
    line of the file it was read from."""

    key: str
    shown: str
    path: str
    line: int


@dataclass(frozen=True)
class OtherSource:
    """A second way to the password (``env`` or a subPath ``file``) and what became of it:
    ``matches_file`` is None while nothing can be said."""

    kind: str
    where: str
    matches_file: bool | None
    changed_since_start: bool | None
    error: str


@dataclass(frozen=True)
class App:
    """The demo app as its page shows it.  ``version`` counts the files that this process
    has read, 0 for none; ``target`` is where ``..data`` pointed when it read."""

    pod: str = ""
    pod_uid: str = ""
    answers: bool = False
    version: int = 0
    values: tuple[Value, ...] = ()
    others: tuple[OtherSource, ...] = ()
    stale: bool = False
    error: str = ""
    loaded_at: float | None = None
    file_path: str = ""
    file_changed_at: float | None = None
    target: str = ""
    started_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True)
class Swap:
    """The node renamed a volume's ``..data``: the one moment in which its files change.
    ``resource_version`` is that of the Secret; ``target`` the folder that it points to
    since then, "" where that is no longer known."""

    at: float
    first: bool
    files: tuple[str, ...]
    resource_version: str
    target: str = ""


@dataclass(frozen=True)
class Volume:
    """A pod's volume that holds a Secret; ``swaps`` are the last ones, newest last."""

    namespace: str
    pod: str
    pod_uid: str
    name: str
    secret: str
    path: str
    target: str
    swaps: tuple[Swap, ...]


@dataclass(frozen=True)
class Hop:
    """One of the six hops (``trail.HOPS``): ``at`` and ``seconds`` since the write are None
    while nothing proves it; ``evidence`` names the witness."""

    name: str
    at: float | None = None
    seconds: float | None = None
    evidence: str = ""


@dataclass(frozen=True)
class Rotation:
    """One write to the app's key in Vault and how far it has come.

    ``forced``: somebody changed the ExternalSecret after the write, so ESO read at once.
    ``waits_for`` is the first hop without proof ("" when done) and ``why`` says what it
    waits for, or what keeps it; ``due`` is when that is expected at the latest, if known.
    ``overtaken``: the next version took its place on the way.  ``unproven``: its witness
    is gone (a pod that was replaced, say).
    """

    version: int
    started: float
    writer: str
    forced: bool
    hops: tuple[Hop, ...]
    progress: Progress
    waits_for: str = ""
    why: str = ""
    due: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the write to the page, or None when that is not proven."""
        return self.hops[-1].seconds if self.hops else None


@dataclass(frozen=True)
class Snapshot:
    """All of it.  ``lab`` says whether the lab runs, ``problem`` why not; the rest is then
    as it was last seen.  ``rotations`` are the last ones, newest last; ``refresh_interval``
    is the ExternalSecret's ("" without one); ``current`` the lesson that the lab is in;
    ``argocd``: the lab has Argo CD, and ``deployed`` is what that deploys."""

    name: str
    lab: LabState = "stopped"
    problem: str = ""
    things: tuple[Thing, ...] = ()
    vault: Vault = Vault()
    app: App = App()
    volumes: tuple[Volume, ...] = ()
    rotations: tuple[Rotation, ...] = ()
    sync: str = ""
    refresh_interval: str = ""
    current: int | None = None
    argocd: bool = False
    deployed: tuple[Deployed, ...] = ()
    at: float = field(default=0.0, compare=False)
    """When it was taken: no difference by itself."""

    @property
    def volume(self) -> Volume | None:
        """The app's own volume."""
        mine = [each for each in self.volumes if each.pod_uid == self.app.pod_uid]
        return mine[0] if mine else None

    def thing(self, kind: str, namespace: str, name: str) -> Thing | None:
        """The object of that name, if it is there (``namespace`` "" for what has none)."""
        wanted = (kind, namespace, name)
        return next((t for t in self.things if (t.kind, t.namespace, t.name) == wanted), None)
