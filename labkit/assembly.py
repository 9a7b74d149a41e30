"""The parts of a lab put together: control plane, cluster network, node agent.

It knows what needs what, and so what can be done side by side: most of a start is waiting
for the API server.  What each part does is the part's own business; the process around
them, its signals and its record are the supervisor's.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import host, programs
from labkit.chronicle import Chronicle
from labkit.cluster import controlplane, golden
from labkit.cluster.controlplane import ControlPlane
from labkit.errors import UsageError
from labkit.node.images import ImageTable, load_table
from labkit.node.journal import JournalFile
from labkit.node.mounts import Mode, has_pid_namespaces
from labkit.node.network import ClusterNetwork, Directory, PortBlock
from labkit.paths import LabPaths, state_root, write_private
from labkit.tasks import together

if TYPE_CHECKING:
    from labkit.node.agent import NodeAgent

log = logging.getLogger(__name__)

_AGENT = "labkit.node.agent"
_PROGRAMS = (*controlplane.PROGRAMS, "etcdutl", "external-secrets")
_CONTAINER_GRACE = 2.0  # seconds; the whole of `down` is to take no more than 3


class Parts:
    """The parts of one lab.  ``start`` once, ``stop`` once or more."""

    def __init__(self, paths: LabPaths, run: Path, chronicle: Chronicle) -> None:
        self._paths = paths
        self._run = run
        self._chronicle = chronicle
        self._stops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []

    async def start(self) -> None:
        """Bring all up; returns when the API answers and the node is Ready.

        Raises LabError and OSError; nothing is left running then.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        step = self._chronicle.step
        step("Looking at the programs")
        images = load_table(state_root())
        # What mostly waits goes side by side with the rest.
        probing = asyncio.create_task(asyncio.to_thread(_probe))
        loading = asyncio.create_task(asyncio.to_thread(importlib.import_module, _AGENT))
        try:
            found = await asyncio.to_thread(_find_programs)
            self._chronicle.change(versions={name: each.version for name, each in found.items()})
            network = await self._start_network()
            snapshot = await self._find_snapshot(found)
            step("Starting etcd, the API server and the controllers")
            plane = ControlPlane(
                self._paths,
                found,
                run=self._run,
                node_port_range=network.port_block.range,
                egress_socket=network.egress_socket,
                golden=snapshot,
                on_change=self._chronicle.program,
            )
            self._stops.append(("the control plane", plane.stop))
            await plane.start_api()
            step("Starting the node")
            mode = await probing
            await loading
            self._chronicle.change(server=plane.server, mode=mode)
            agent = self._make_agent(plane, network, mode, images)
            self._stops.append(("the node", lambda: agent.stop(grace=_CONTAINER_GRACE)))
            await together(plane.start_controllers(), agent.start())
        finally:
            await asyncio.gather(probing, loading, return_exceptions=True)

    async def _start_network(self) -> ClusterNetwork:
        network = ClusterNetwork(
            Directory(), egress_socket=self._run / "egress.sock", port_block=PortBlock.reserve()
        )
        self._stops.append(("the network", network.stop))
        await network.start()
        write_private(self._paths.proxy_url, network.proxy_url)
        return network

    async def _find_snapshot(self, found: Mapping[str, programs.Program]) -> Path:
        crds = found["external-secrets"].assets / "crds" / "bundle.yaml"
        manifests = [crds] if crds.is_file() else []
        snapshot = golden.find(found, manifests)
        if snapshot is None:
            self._chronicle.step("Preparing what every lab begins with (only this time)")
            snapshot = await golden.prepare(found, manifests)
        return snapshot

    def _make_agent(
        self, plane: ControlPlane, network: ClusterNetwork, mode: Mode, images: ImageTable
    ) -> NodeAgent:
        from labkit.node.agent import AgentConfig, NodeAgent  # loaded while etcd starts

        config = AgentConfig(
            name=self._paths.name,
            root=self._paths.node,
            server=plane.server,
            ca=plane.ca,
            client=plane.node_client,
            scheduler=plane.scheduler_client,
            serving=plane.node_serving,
            kubelet_caller=plane.kubelet_caller,
            sync=self._chronicle.record.sync,
            mode=mode,
            version=f"v{programs.CATALOGUE['kube-apiserver'].version}",
            images=images,
        )
        return NodeAgent(config, network=network, journal=JournalFile(self._paths.journal))

    async def stop(self) -> None:
        """Take all down, what came last first.  A part that fails to is logged, no more."""
        while self._stops:
            name, stop = self._stops.pop()
            try:
                await stop()
            except Exception:
                log.exception("%s did not stop in good order", name)


def _find_programs() -> dict[str, programs.Program]:
    return {name: programs.resolve(name) for name in _PROGRAMS}


def _probe() -> Mode:
    mode = choose_mode()
    if mode == "mounts":
        has_pid_namespaces()  # remembered for the node
    return mode


def choose_mode() -> Mode:
    """How containers see their volumes here; ``LABKIT_MODE`` decides where it is set.

    Raises UsageError for another word.
    """
    wanted = os.environ.get("LABKIT_MODE")
    match wanted or ("mounts" if host.can_mount_namespace() else "rewrite"):
        case "mounts":
            return "mounts"
        case "rewrite":
            return "rewrite"
    raise UsageError(
        "LABKIT_MODE names no way to show volumes to a container",
        seen=str(wanted),
        todo="Set it to mounts or rewrite, or unset it.",
    )
