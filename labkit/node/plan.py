"""Decide what a pod needs next: its spec and what its containers did, to actions.

Everything here is pure: no clock, no process, no API.  ``decide`` is asked after
anything happened and answers with the containers to start and to stop now, what the
others wait for, and when to ask again.  The rules are the kubelet's
(pkg/kubelet/kuberuntime ``computePodActions`` and ``doBackOff``); doing them is left to
``podworker``, telling them to ``status``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from labkit.node.pod import Json, Pod, is_sidecar

MIN_GRACE = 2.0
"""Seconds that a container has at least between SIGTERM and SIGKILL, as with the kubelet."""


@dataclass(frozen=True)
class Waiting:
    """Why a container is not running, in the words that ``kubectl get pods`` shows."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Exit:
    """How a run of a container ended.  Times are unix seconds."""

    code: int
    reason: str
    started_at: float
    finished_at: float
    id: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """A run that goes on."""

    id: str
    image: str
    started_at: float
    started: bool = False  # its postStart hook is done and its startup probe has passed
    ready: bool = False


@dataclass(frozen=True)
class Condemned:
    """A running container must be stopped and begun again; ``grace`` None: the pod's."""

    message: str
    grace: float | None = None


@dataclass(frozen=True)
class Seen:
    """What is known of one container of a pod."""

    restarts: int = 0
    running: Running | None = None
    exit: Exit | None = None  # of the last run that ended
    before: Exit | None = None  # of the run before that
    failed: Waiting | None = None  # why the last attempt to start it came to nothing
    retry_at: float = 0.0  # not to be tried again before, after such an attempt
    backoff: float = 0.0  # seconds that the next restart has to wait
    backoff_at: float = 0.0
    condemned: Condemned | None = None

    @property
    def ran(self) -> bool:
        return self.running is not None or self.exit is not None


UNSEEN = Seen()


@dataclass(frozen=True)
class Backoff:
    """The pause before a restart: ``base`` seconds, doubled each time, at most ``cap``.

    The first restart is immediate.  It begins anew once a container ran for twice
    ``cap``.  The defaults are the kubelet's: 10 s to 5 min, forgotten after 10 min.
    """

    base: float = 10.0
    cap: float = 300.0

    def pause(self, seen: Seen) -> float:
        """Seconds after its last exit before this container may run again."""
        return 0.0 if self._forgotten(seen) else seen.backoff

    def next(self, seen: Seen) -> float:
        """The pause after the run that is about to begin."""
        if not seen.backoff or self._forgotten(seen):
            return self.base
        return min(2 * seen.backoff, self.cap)

    def _forgotten(self, seen: Seen) -> bool:
        return seen.exit is not None and seen.exit.finished_at - seen.backoff_at > 2 * self.cap


@dataclass(frozen=True)
class Stop:
    """Stop a running container: preStop, SIGTERM, and SIGKILL after ``grace`` seconds."""

    name: str
    grace: float
    message: str


@dataclass(frozen=True)
class Ending:
    """The node itself ends the pod, as Failed."""

    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """The answer of ``decide``."""

    start: tuple[str, ...] = ()  # one after the other, in this order
    stop: tuple[Stop, ...] = ()  # all at once
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    ending: Ending | None = None
    winding_down: bool = False  # nothing will be started any more
    done: bool = False  # and nothing runs any more
    wake_at: float | None = None


@dataclass(frozen=True)
class Moment:
    """When ``decide`` is asked, and what it needs to know beside the containers."""

    now: float
    began_at: float  # the pod's startTime
    prepared: bool = True  # its volumes and its address are there
    deleting_since: float | None = None


def decide(
    pod: Pod,
    seen: Mapping[str, Seen],
    moment: Moment,
    *,
    backoff: Backoff = Backoff(),
) -> Plan:
    """What to do for ``pod`` now."""
    seen = {each["name"]: seen.get(each["name"], UNSEEN) for each in pod.all_containers}
    ending = _overdue(pod, moment)
    if pod.deleting or moment.deleting_since is not None or ending is not None or pod.finished:
        since = moment.now if moment.deleting_since is None else moment.deleting_since
        left = pod.grace - (moment.now - since)
        return replace(_wind_down(pod, seen, left), ending=ending)
    draft = _Draft(pod, seen, moment, backoff)
    if draft.run_init_containers() and draft.run_main_containers():
        return _wind_down(pod, seen, pod.grace)
    if draft.hopeless:
        return _wind_down(pod, seen, pod.grace)
    draft.stop_condemned()
    deadline = pod.spec.get("activeDeadlineSeconds")
    if deadline is not None:
        draft.wake(moment.began_at + float(deadline))
    return Plan(
        start=tuple(draft.start),
        stop=tuple(draft.stop),
        waiting=draft.waiting,
        wake_at=draft.wake_at,
    )


class _Draft:
    """A plan in the making, for a pod that is to run."""

    def __init__(
        self, pod: Pod, seen: Mapping[str, Seen], moment: Moment, backoff: Backoff
    ) -> None:
        self.pod = pod
        self.seen = seen
        self.moment = moment
        self.backoff = backoff
        self.start: list[str] = []
        self.stop: list[Stop] = []
        self.waiting: dict[str, Waiting] = {}
        self.wake_at: float | None = None
        self.hopeless = False

    def wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def run_init_containers(self) -> bool:
        """Start what the init sequence needs; True when the main containers' turn has come."""
        if any(self.seen[each["name"]].ran for each in self.pod.containers):
            # Initialised once and for all; only the sidecars are still looked after.
            for container in self.pod.init_containers:
                if is_sidecar(container) and self.seen[container["name"]].running is None:
                    self.try_to_start(container)
            return True
        for container in self.pod.init_containers:
            seen = self.seen[container["name"]]
            if seen.running is not None:
                if is_sidecar(container) and seen.running.started:
                    continue
                return False
            if not is_sidecar(container) and seen.exit is not None:
                if seen.exit.code == 0:
                    continue
                if not should_restart(self.pod, container, seen.exit.code):
                    self.hopeless = True
                    return False
            self.try_to_start(container)
            return False
        return True

    def run_main_containers(self) -> bool:
        """Start the main containers; True when all have ended and none will run again."""
        over = True
        for container in self.pod.containers:
            seen = self.seen[container["name"]]
            if seen.running is not None:
                over = False
            elif seen.exit is None or should_restart(self.pod, container, seen.exit.code):
                over = False
                self.try_to_start(container)
        return over

    def try_to_start(self, container: Json) -> None:
        """Start it now, or say what it waits for."""
        name = container["name"]
        seen = self.seen[name]
        now = self.moment.now
        if not self.moment.prepared:
            return
        if seen.failed is not None and now < seen.retry_at:
            self.waiting[name] = seen.failed
            self.wake(seen.retry_at)
            return
        if seen.exit is not None:
            pause = self.backoff.pause(seen)
            if now < seen.exit.finished_at + pause:
                self.waiting[name] = Waiting(
                    "CrashLoopBackOff",
                    f"back-off {duration(pause)} restarting failed container={name} "
                    f"pod={self.pod.text}",
                )
                self.wake(seen.exit.finished_at + pause)
                return
        self.start.append(name)

    def stop_condemned(self) -> None:
        """Stop what a probe gave up on, and what now has another image."""
        for container in self.pod.all_containers:
            seen = self.seen[container["name"]]
            if seen.running is None:
                continue
            name = container["name"]
            if seen.condemned is not None:
                grace = seen.condemned.grace
                self.stop.append(
                    Stop(name, self.pod.grace if grace is None else grace, seen.condemned.message)
                )
            elif seen.running.image != container["image"]:
                self.stop.append(
                    Stop(
                        name,
                        self.pod.grace,
                        f"Container {name} definition changed, will be restarted",
                    )
                )


def _overdue(pod: Pod, moment: Moment) -> Ending | None:
    deadline = pod.spec.get("activeDeadlineSeconds")
    if deadline is None or moment.now < moment.began_at + float(deadline):
        return None
    return Ending(
        "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
    )


def _wind_down(pod: Pod, seen: Mapping[str, Seen], grace_left: float) -> Plan:
    """Stop everything: sidecars after the others, the last one first."""
    sidecars = [each["name"] for each in pod.init_containers if is_sidecar(each)]
    running = [name for name, each in seen.items() if each.running is not None]
    first = [name for name in running if name not in sidecars] or running[-1:]
    return Plan(
        stop=tuple(
            Stop(name, max(grace_left, MIN_GRACE), f"Stopping container {name}") for name in first
        ),
        winding_down=True,
        done=not running,
    )


def should_restart(pod: Pod, container: Json, code: int) -> bool:
    """Whether a container that exited with ``code`` is to run again.

    A container's own ``restartPolicyRules`` come first, then its ``restartPolicy``,
    then the pod's.  An init container that exited with 0 is never asked about.
    """
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = code in (codes.get("values") or ())
        if codes.get("operator") == ("In" if listed else "NotIn"):
            return bool(rule.get("action") == "Restart")
    policy = container.get("restartPolicy") or pod.restart_policy
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def begun(seen: Seen, running: Running, backoff: Backoff) -> Seen:
    """A run has begun."""
    if seen.exit is None:
        return replace(seen, running=running, failed=None, condemned=None)
    return replace(
        seen,
        running=running,
        restarts=seen.restarts + 1,
        backoff=backoff.next(seen),
        backoff_at=running.started_at,
        failed=None,
        condemned=None,
    )


def ended(seen: Seen, how: Exit) -> Seen:
    """The run has ended."""
    return replace(seen, running=None, exit=how, before=seen.exit, condemned=None)


def refused(seen: Seen, why: Waiting, retry_at: float) -> Seen:
    """An attempt to start it failed before anything ran."""
    return replace(seen, failed=why, retry_at=retry_at)


def duration(seconds: float) -> str:
    """Seconds as Go prints a duration: ``10s``, ``2m40s``, ``5m0s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
