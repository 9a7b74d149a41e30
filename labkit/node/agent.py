"""The node: watches the API for its pods and has a worker run each of them.

It puts the parts together (registration, scheduler, kubelet API, the cluster network's
tables, one worker a pod) and passes news on; deciding and doing are the parts' own.  It
speaks to the API as ``system:node:NAME``, under the rules for nodes; the scheduler has an
identity of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labkit.cluster.certs import KeyPair
from labkit.errors import ApiError, ClusterError
from labkit.node.addresses import NODE_IP, Addresses
from labkit.node.api import Api, Object, Reflector
from labkit.node.environment import ApiServerAddress
from labkit.node.events import EventRecorder
from labkit.node.images import ImageTable
from labkit.node.journal import Journal
from labkit.node.kitchen import Kitchen
from labkit.node.kubelet_api import KubeletApi
from labkit.node.mounts import Mode, has_pid_namespaces
from labkit.node.network import ClusterNetwork
from labkit.node.objects import Key, ObjectStore
from labkit.node.pod import Pod
from labkit.node.podworker import PodWorker, Surroundings
from labkit.node.probes import Prober
from labkit.node.registration import Registration
from labkit.node.scheduler import Scheduler
from labkit.paths import make_private_dir

log = logging.getLogger(__name__)

_STOP_GRACE = 2.0


@dataclass(frozen=True)
class AgentConfig:
    """Who the node is and where it works.

    ``client`` is its identity towards the API server, ``scheduler`` the scheduler's;
    ``serving`` its identity towards callers of its own API, who must be ``kubelet_caller``.
    ``sync`` is "watch" or "kubelet"; ``version`` the Kubernetes version that it speaks.
    """

    name: str
    root: Path
    server: str
    ca: Path
    client: KeyPair
    scheduler: KeyPair
    serving: KeyPair
    kubelet_caller: str
    sync: str
    mode: Mode
    version: str
    images: ImageTable


class NodeAgent:
    """One node.  ``start`` once, ``stop`` once or more."""

    def __init__(self, config: AgentConfig, *, network: ClusterNetwork, journal: Journal) -> None:
        self._config = config
        self._network = network
        self._directory = network.directory
        self._journal = journal
        self._workers: dict[str, PodWorker] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._services: dict[str, Object] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._surroundings: Surroundings | None = None
        self._api = self._connect(config.client)
        self._scheduler_api = self._connect(config.scheduler)
        self._objects = ObjectStore(self._api, self._object_changed)
        self._prober = Prober(version=config.version.removeprefix("v"))
        self._kubelet = KubeletApi(
            find=self.find, ca=config.ca, serving=config.serving, caller=config.kubelet_caller
        )

    def _connect(self, identity: KeyPair) -> Api:
        return Api.with_certificate(
            self._config.server,
            ca=self._config.ca,
            certificate=identity.cert,
            key=identity.key,
        )

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by its name."""
        for worker in self._workers.values():
            if (worker.pod.namespace, worker.pod.name) == (namespace, name):
                return worker
        return None

    # -- start and stop ------------------------------------------------------------------

    async def start(self) -> None:
        """Register, and begin to run what the API says.  Returns when the node is Ready.

        Raises ClusterError when the API refuses; nothing is left running then.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop(grace=0)
            raise

    async def _start(self) -> None:
        config = self._config
        make_private_dir(config.root)
        await self._kubelet.start()
        address = urlsplit(config.server)
        host, port = address.hostname or "127.0.0.1", address.port or 443
        self._directory.set_api_server(host, port)
        self._directory.set_node([config.name, NODE_IP], {self._kubelet.port: self._kubelet.port})
        registration = Registration(
            self._api, config.name, version=config.version, kubelet_port=self._kubelet.port
        )
        events = EventRecorder(self._api, component="kubelet", host=config.name)
        pids = config.mode == "mounts" and await asyncio.to_thread(has_pid_namespaces)
        self._surroundings = Surroundings(
            api=self._api,
            node_name=config.name,
            root=config.root,
            sync=config.sync,
            directory=self._directory,
            objects=self._objects,
            events=events,
            prober=self._prober,
            addresses=Addresses(),
            journal=self._journal,
            kitchen=Kitchen(
                table=config.images,
                mode=config.mode,
                pids=pids,
                ca=config.ca,
                api_server=ApiServerAddress(host, port),
                services=self._dialable_services,
                proxy_url=self._network.proxy_url_for,
            ),
            allocatable=registration.resources,
        )
        await _patiently(registration.register)
        services = Reflector(self._api, "/api/v1/services", self._on_service)
        slices = Reflector(
            self._api,
            "/apis/discovery.k8s.io/v1/endpointslices",
            self._directory.apply_slice,
        )
        pods = Reflector(
            self._api,
            "/api/v1/pods",
            self._on_pod,
            params={"fieldSelector": f"spec.nodeName={config.name}"},
        )
        for name, work in (
            ("lease", registration.run()),
            ("events", events.run()),
            ("scheduler", Scheduler(self._scheduler_api, config.name).run()),
            ("services", services.run()),
            ("slices", slices.run()),
        ):
            self._begin(name, work)
        # A pod's environment lists the Services, so those are known before any pod is.
        await asyncio.gather(services.synced.wait(), slices.synced.wait())
        self._begin("pods", pods.run())
        await pods.synced.wait()

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_if_it_failed)
        self._tasks.append(task)

    async def stop(self, *, grace: float = _STOP_GRACE) -> None:
        """End every container, with ``grace`` seconds after SIGTERM; safe to repeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        # First those who would start again what has been ended.
        workers, running = list(self._workers.values()), list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(worker.kill(grace) for worker in workers))
        await self._kubelet.stop()
        await self._objects.close()
        await self._prober.close()
        await self._api.close()
        await self._scheduler_api.close()

    def _dialable_services(self, namespace: str) -> list[Mapping[str, Any]]:
        """All Services, those of ``namespace`` with addresses that its pods can dial."""
        return [
            self._network.dialable(item) if item["metadata"]["namespace"] == namespace else item
            for item in self._services.values()
        ]

    # -- news ----------------------------------------------------------------------------

    def _on_service(self, kind: str, item: Object) -> None:
        uid = str(item["metadata"]["uid"])
        if kind == "DELETED":
            self._services.pop(uid, None)
        else:
            self._services[uid] = item
        self._directory.apply_service(kind, item)

    def _on_pod(self, kind: str, item: Object) -> None:
        uid = str(item["metadata"]["uid"])
        worker = self._workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.vanish()
        elif worker is not None:
            worker.update(Pod(item))
        elif self._surroundings is not None:
            worker = PodWorker(Pod(item), self._surroundings)
            self._workers[uid] = worker
            task = asyncio.create_task(worker.run(), name=f"pod {worker.pod.text}")
            self._running[uid] = task
            task.add_done_callback(lambda done: self._gone(uid, done))

    def _gone(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._running.pop(uid, None)
        _tell_if_it_failed(task)

    def _object_changed(self, key: Key, users: frozenset[str]) -> None:
        for uid in users:
            if worker := self._workers.get(uid):
                worker.object_changed(key)


async def _patiently(work: Callable[[], Awaitable[object]], *, attempts: int = 40) -> None:
    """Until the API server has read the rights that were just granted: a moment."""
    for left in range(attempts, -1, -1):
        try:
            await work()
            return
        except ClusterError as error:
            is_refusal = isinstance(error, ApiError) and error.status != 403
            if is_refusal or not left:
                raise
        await asyncio.sleep(0.05)


def _tell_if_it_failed(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        if (error := task.exception()) is not None:
            log.error("%s ended: %s", task.get_name(), error, exc_info=error)
