"""One pod, from its binding to its removal: asks ``plan`` what is next, and does it.

A worker is a single task that sleeps until something happens (the pod or a Secret
changed, a container ended, a probe spoke, a pause is over), asks for a plan and carries
it out.  Whatever may take long (fetching volumes, starting containers in order, stopping
them) runs beside it, so that a deletion is never kept waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from labkit.errors import ApiError, ClusterError, ProcessError
from labkit.host import free_ports
from labkit.node import logs
from labkit.node.addresses import NODE_IP, Addresses, is_free
from labkit.node.api import Api
from labkit.node.container import ContainerRun, Recipe
from labkit.node.downward import NodeFacts
from labkit.node.events import EventRecorder
from labkit.node.journal import Journal
from labkit.node.objects import Key, ObjectStore
from labkit.node.plan import (
    UNSEEN,
    Backoff,
    Exit,
    Moment,
    Plan,
    Seen,
    Waiting,
    begun,
    decide,
    ended,
    refused,
)
from labkit.node.pod import Json, Pod, parse_timestamp
from labkit.node.podvolumes import PodVolumes, environment_keys, volume_keys
from labkit.node.probes import Prober
from labkit.node.publisher import Publisher
from labkit.node.status import Facts, pod_status, seen_from_status

log = logging.getLogger(__name__)

# The kubelet looks at each pod again every 60 s, stretched by up to half.
SYNC_PERIOD = 60.0
_MOUNT_RETRY, _MOUNT_RETRY_MAX = 0.5, 122.0
_CONFIG_RETRY = 10.0


class Directory(Protocol):
    """The cluster network's tables, as far as a pod is concerned."""

    def set_pod(self, ip: str, name: str, namespace: str, ports: Mapping[int, int]) -> None: ...
    def remove_pod(self, ip: str) -> None: ...
    def resolve(self, host: str, port: int) -> list[tuple[str, int]]: ...


class CannotStart(Exception):
    """A container could not be started; ``reason`` and ``message`` are for its status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Kitchen(Protocol):
    """What makes a recipe of a container: kept apart, as it draws on images and mounts."""

    def make(self, worker: PodWorker, container: Json, run: int) -> Recipe:
        """The recipe for run number ``run`` of a container.  Raises CannotStart."""

    def image_id(self, image: str) -> str: ...
    def ports(self, container: Json) -> frozenset[int]: ...
    def fixed_ports(self, container: Json) -> frozenset[int]: ...


@dataclass(frozen=True)
class Surroundings:
    """What all workers of a node share."""

    api: Api
    node_name: str
    root: Path
    sync: str  # "watch" or "kubelet"
    directory: Directory
    objects: ObjectStore
    events: EventRecorder
    prober: Prober
    addresses: Addresses
    journal: Journal
    kitchen: Kitchen
    allocatable: Mapping[str, str] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)


class PodWorker:
    """Runs one pod.  Start ``run()`` as a task, tell it news with ``update``."""

    def __init__(self, pod: Pod, node: Surroundings) -> None:
        self.pod = pod
        self.node = node
        self.folder = node.root / "pods" / pod.uid
        now = time.time()
        self.seen: dict[str, Seen] = seen_from_status(pod, now)
        self.ip: str | None = None
        self.ports: dict[int, int] = {}
        self.volumes = PodVolumes(
            self.folder / "volumes",
            node.root / "claims",
            api=node.api,
            objects=node.objects,
            facts=lambda: self.facts,
            journal=node.journal,
        )
        # An address that the API has already is kept over a restart of the node.
        self._wanted_ip = None if pod.finished else pod.status.get("podIP")
        if self._wanted_ip:
            self._wanted_ip = node.addresses.take(self._wanted_ip)
        self._began_at = now
        if pod.status.get("startTime"):
            self._began_at = parse_timestamp(pod.status["startTime"])
        self._plan = Plan()
        self._runs: dict[str, ContainerRun] = {}
        self._wake = asyncio.Event()
        self._deleting_since: float | None = None
        self._vanished = False
        self._stale = True
        self._preparing: asyncio.Task[None] | None = None
        self._prepare_at = 0.0
        self._prepare_tries = 0
        self._starting: asyncio.Task[None] | None = None
        self._start_tries: dict[str, int] = {}
        self._told_backoff: dict[str, int] = {}
        self._resync_at = now + self._resync_period()
        self._publisher = Publisher(node.api, pod)
        self._released = False

    # -- news ----------------------------------------------------------------------------

    def update(self, pod: Pod) -> None:
        """The API has a newer version of the pod."""
        before, self.pod = self.pod, pod
        changed = (
            before.spec != pod.spec
            or before.deleting != pod.deleting
            or before.grace != pod.grace
            or any(
                before.metadata.get(key) != pod.metadata.get(key)
                for key in ("labels", "annotations")
            )
        )
        gates = pod.spec.get("readinessGates") and before.status != pod.status
        if changed or gates:
            self._stale = True
            self.wake()

    def vanish(self) -> None:
        """The API has the pod no more: end it as quickly as is decent."""
        metadata = {
            **self.pod.metadata,
            "deletionTimestamp": "now",
            "deletionGracePeriodSeconds": 0,
        }
        self.pod = Pod({**self.pod.object, "metadata": metadata})
        self._vanished = True
        self.wake()

    def object_changed(self, key: Key) -> None:
        """A Secret or ConfigMap that this pod refers to has changed."""
        if self.node.sync != "watch" and self._ever_prepared:
            return  # the kubelet's way: seen at the next look
        self._stale = True
        self._prepare_at = 0.0
        for name, seen in self.seen.items():
            if seen.failed is not None and seen.failed.reason == "CreateContainerConfigError":
                self.seen[name] = replace(seen, retry_at=0.0)
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    # -- what others ask -----------------------------------------------------------------

    @property
    def facts(self) -> NodeFacts:
        return NodeFacts(
            host_ips=(NODE_IP,),
            pod_ips=(self.ip,) if self.ip else (),
            allocatable=self.node.allocatable,
        )

    @property
    def done(self) -> bool:
        return self._plan.winding_down and self._plan.done

    def current_run(self, name: str) -> ContainerRun | None:
        """The run of a container that goes on now."""
        return self._runs.get(name)

    @property
    def status(self) -> Json:
        """The pod's status as it is told, or as the API remembers it."""
        return self._publisher.status or self.pod.status

    def log_folder(self, name: str) -> Path:
        return self.folder / "logs" / name

    @property
    def _ever_prepared(self) -> bool:
        return self.ip is not None

    # -- the loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the pod until it is gone from the API."""
        publisher = asyncio.create_task(self._publisher.run(), name=f"status {self.pod.name}")
        self.node.objects.hold(
            self.pod.uid,
            [] if self.pod.finished else {*volume_keys(self.pod), *environment_keys(self.pod)},
        )
        try:
            while True:
                self._wake.clear()
                wake_at = await self._step()
                if self.done and await self._finish():
                    return
                timeout = None if wake_at is None else max(0.0, wake_at - time.time())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), timeout)
        finally:
            helpers = [publisher, self._preparing, self._starting]
            left = [task for task in helpers if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _step(self) -> float | None:
        """Look, decide, act.  Returns when to look again."""
        now = time.time()
        if self.pod.deleting and self._deleting_since is None:
            self._deleting_since = now
        for name, run in self._runs.items():
            self.seen[name] = replace(self.seen[name], running=run.running, condemned=run.condemned)
        moment = Moment(
            now=now,
            began_at=self._began_at,
            prepared=self._ever_prepared,
            deleting_since=self._deleting_since,
        )
        self._plan = plan = decide(self.pod, self.seen, moment, backoff=self.node.backoff)
        if plan.winding_down:
            await self._abandon_starts()
        elif not self._ever_prepared:
            self._prepare(now)
        else:
            await self._refresh_volumes(now)
        for stop in plan.stop:
            run_ = self._runs.get(stop.name)
            if run_ is not None:
                run_.stop(stop.grace, stop.message)
        if plan.start and self._starting is None and not plan.winding_down:
            self._starting = asyncio.create_task(
                self._start_all(plan.start), name=f"start {self.pod.name}"
            )
        self._tell_backoffs(plan)
        self._tell()
        return self._next_look(plan)

    def _next_look(self, plan: Plan) -> float | None:
        times: list[float] = [] if plan.wake_at is None else [plan.wake_at]
        if not plan.winding_down:
            if not self._ever_prepared:
                if self._preparing is None:
                    times.append(self._prepare_at)
            else:
                if self.node.sync == "kubelet":
                    times.append(self._resync_at)
                if self.volumes.renew_at is not None:
                    times.append(self.volumes.renew_at)
        return min(times, default=None)

    async def _abandon_starts(self) -> None:
        for task in (self._starting, self._preparing):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._starting = self._preparing = None

    # -- volumes and address -------------------------------------------------------------

    def _prepare(self, now: float) -> None:
        if self._preparing is None and now >= self._prepare_at:
            self._preparing = asyncio.create_task(self._set_up(), name=f"prepare {self.pod.name}")

    async def _set_up(self) -> None:
        """Set up the volumes; with all of them there, give the pod its address."""
        try:
            await self.node.objects.ready({*volume_keys(self.pod), *environment_keys(self.pod)})
            self._stale = False
            problems = await self.volumes.refresh(self.pod)
            if problems:
                for problem in problems:
                    self.node.events.pod(self.pod, "FailedMount", problem.text, warning=True)
                pause = min(_MOUNT_RETRY * 2**self._prepare_tries, _MOUNT_RETRY_MAX)
                self._prepare_tries += 1
                # News that came while this was under way are not to be slept over.
                self._prepare_at = 0.0 if self._stale else time.time() + pause
                return
            self.ip = self._wanted_ip or self.node.addresses.take()
            self._assign_ports()
        except Exception:
            log.exception("preparing %s failed", self.pod.text)
            self._prepare_at = time.time() + 5
        finally:
            self._preparing = None
            self.wake()

    def _assign_ports(self) -> None:
        """A loopback port for each port listened on; those that still serve are kept."""
        ports = self.node.kitchen.ports
        listened = {port for container in self.pod.all_containers for port in ports(container)}
        busy = {port for name in self._runs for port in ports(self.pod.container(name))}
        wanted = [
            port
            for port in sorted(listened)
            if port not in self.ports or (port not in busy and not is_free(self.ports[port]))
        ]
        self.ports |= dict(zip(wanted, free_ports(len(wanted)), strict=True))
        fixed = self.node.kitchen.fixed_ports
        self.ports |= {port: port for each in self.pod.all_containers for port in fixed(each)}
        if self.ip is not None:
            self.node.directory.set_pod(self.ip, self.pod.name, self.pod.namespace, self.ports)

    async def _refresh_volumes(self, now: float) -> None:
        renew_at = self.volumes.renew_at
        due = renew_at is not None and now >= renew_at
        if self.node.sync == "kubelet":
            # As the kubelet: whatever made it look at the pod, volumes are looked at too.
            due = True
            if now >= self._resync_at:
                self._resync_at = now + self._resync_period()
        if not due and not self._stale:
            return
        self._stale = False
        for problem in await self.volumes.refresh(self.pod):
            self.node.events.pod(self.pod, "FailedMount", problem.text, warning=True)

    def _resync_period(self) -> float:
        return SYNC_PERIOD * random.uniform(1.0, 1.5)  # noqa: S311

    # -- containers ----------------------------------------------------------------------

    async def _start_all(self, names: Iterable[str]) -> None:
        try:
            for name in names:
                await self._start(name)
        except Exception:
            log.exception("starting a container of %s failed", self.pod.text)
            await asyncio.sleep(1)
        finally:
            self._starting = None
            self.wake()

    async def _start(self, name: str) -> None:
        container = self.pod.container(name)
        seen = self.seen.get(name, UNSEEN)
        number = seen.restarts + 1 if seen.exit is not None else seen.restarts
        try:
            self._assign_ports()
            recipe = self.node.kitchen.make(self, container, number)
        except CannotStart as error:
            self._could_not_start(name, seen, error)
            return
        self._event(
            name, "Pulled", f'Container image "{container["image"]}" already present on machine'
        )
        run = ContainerRun(
            self.pod,
            recipe,
            prober=self.node.prober,
            resolver=self.node.directory,
            events=self.node.events,
            on_change=self.wake,
            on_exit=self._exited,
        )
        try:
            await run.start()
        except ProcessError as error:
            self._could_not_start(
                name, seen, CannotStart("RunContainerError", error.seen or error.what)
            )
            return
        self._start_tries.pop(name, None)
        self._runs[name] = run
        self.seen[name] = begun(seen, run.running, self.node.backoff)
        self._event(name, "Created", "Container created")
        self._event(name, "Started", "Container started")
        self._record("container-started", name, restart=number, pid=run.pid)
        logs.prune(self.log_folder(name), last_run=number)
        self.wake()
        await run.post_start()

    def _could_not_start(self, name: str, seen: Seen, error: CannotStart) -> None:
        tries = self._start_tries.get(name, 0)
        self._start_tries[name] = tries + 1
        image = self.pod.container(name)["image"]
        pause = _CONFIG_RETRY
        if error.reason == "ErrImagePull":
            pause = min(self.node.backoff.base * 2**tries, self.node.backoff.cap)
            self._event(
                name, "Failed", f'Failed to pull image "{image}": {error.message}', warning=True
            )
            self._event(name, "Failed", "Error: ErrImagePull", warning=True)
        else:
            self._event(name, "Failed", f"Error: {error.message}", warning=True)
        self.seen[name] = refused(seen, Waiting(error.reason, error.message), time.time() + pause)

    def _exited(self, run: ContainerRun, how: Exit) -> None:
        name = run.name
        self._runs.pop(name, None)
        self.seen[name] = ended(self.seen[name], how)
        self._record("container-exited", name, code=how.code)
        self.wake()

    def _tell_backoffs(self, plan: Plan) -> None:
        for name, waiting in plan.waiting.items():
            restarts = self.seen[name].restarts
            if waiting.reason == "CrashLoopBackOff" and self._told_backoff.get(name) != restarts:
                self._told_backoff[name] = restarts
                self._event(
                    name,
                    "BackOff",
                    f"Back-off restarting failed container {name} in pod {self.pod.text}",
                    warning=True,
                )

    def _event(self, name: str, reason: str, message: str, *, warning: bool = False) -> None:
        self.node.events.pod(self.pod, reason, message, container=name, warning=warning)

    def _record(self, event: str, container: str, **more: Any) -> None:
        self.node.journal(
            {
                "event": event,
                "namespace": self.pod.namespace,
                "pod": self.pod.name,
                "uid": self.pod.uid,
                "container": container,
                **more,
            }
        )

    # -- status --------------------------------------------------------------------------

    def _tell(self) -> None:
        facts = Facts(
            seen=self.seen,
            plan=self._plan,
            now=time.time(),
            began_at=self._began_at,
            host_ip=NODE_IP,
            ip=self.ip,
            image_ids={
                each["image"]: self.node.kitchen.image_id(each["image"])
                for each in self.pod.all_containers
            },
        )
        self._publisher.tell(pod_status(self.pod, facts, self.status))

    # -- the end -------------------------------------------------------------------------

    async def _finish(self) -> bool:
        """Nothing runs and nothing will.  True when the pod is gone for good."""
        self._release()
        if self._vanished:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
            return True
        if self.pod.deleting:
            await self._publisher.wait_told()
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.pod.uid}}
            try:
                await self.node.api.delete(self.pod.path, body)
            except ApiError as error:
                if error.status not in (404, 409):
                    log.warning("%s", error)
                    await asyncio.sleep(1)
                    self.wake()
            except ClusterError:
                await asyncio.sleep(1)
                self.wake()
        return False

    def _release(self) -> None:
        """Give back what a pod that has ended needs no more; its logs stay."""
        if self._released:
            return
        self._released = True
        self.node.objects.hold(self.pod.uid, ())
        if self.ip is not None:
            self.node.directory.remove_pod(self.ip)
        if address := self.ip or self._wanted_ip:
            self.node.addresses.give_back(address)
        for part in ("volumes", "containers"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    async def kill(self, grace: float) -> None:
        """The lab goes down: end all containers, and tell nobody."""
        await asyncio.gather(
            *(run.kill(grace) for run in list(self._runs.values())), return_exceptions=True
        )
