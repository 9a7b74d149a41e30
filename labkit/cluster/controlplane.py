"""One lab's control plane: started, kept running, stopped.

It makes the certificates and files, starts etcd, the API server and the controller
manager in the order that their ``needs`` give, and makes the few objects that the lab's
own parts rely on.  What the programs are told is in ``components``; what happens when
one dies later is in ``keeper``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit.cluster import components, golden, kubeconfig, manifests, policies, rbac
from labkit.cluster.admin import Admin
from labkit.cluster.certs import Authority, TokenKey
from labkit.cluster.components import Component, ProgramFile
from labkit.cluster.keeper import Keeper, OnChange
from labkit.errors import ProcessError
from labkit.host import free_ports
from labkit.paths import LabPaths, make_private_dir, write_private
from labkit.record import Program

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
_PORT_ATTEMPTS = 5
_KUBELET_CLIENT = "kube-apiserver-kubelet-client"


class ControlPlane:
    """The control plane of the lab at ``paths``; also an async context manager.

    ``run``: a private folder with a short path, for unix sockets.  ``egress_socket``:
    where the lab's network takes the API server's connections to nodes, pods and
    Services (None: it dials them directly).  ``golden``: a snapshot to begin with (None:
    an empty cluster).  ``controllers`` False leaves the controller manager out.

    After ``start``: ``server`` (URL), ``ca``, ``admin`` (cluster-admin), the identities
    ``node_client`` (the agent) and ``scheduler_client`` towards the API server, and
    ``node_serving``, the agent's towards callers, who must show a certificate of ``ca``
    for ``kubelet_caller``.
    """

    kubelet_caller = _KUBELET_CLIENT

    def __init__(
        self,
        paths: LabPaths,
        programs: Mapping[str, ProgramFile],
        *,
        run: Path,
        node_port_range: str = "30000-32767",
        egress_socket: Path | None = None,
        golden: Path | None = None,
        controllers: bool = True,
        node_name: str | None = None,
        on_change: OnChange = lambda status: None,
    ) -> None:
        self.paths = paths
        self.run = run
        self._programs = programs
        self._node_ports = node_port_range
        self._egress = egress_socket
        self._golden = golden
        self._controllers = controllers
        self._node_name = node_name or paths.name
        self._on_change = on_change
        self._keepers: dict[str, Keeper] = {}
        self._client: Admin | None = None
        self.server = ""

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def statuses(self) -> list[Program]:
        """Each program as it is now, in start order."""
        return [keeper.status for keeper in self._keepers.values()]

    @property
    def client(self) -> Admin:
        """The admin's client, while the control plane is started."""
        if self._client is None:
            raise RuntimeError("the control plane is not started")
        return self._client

    @property
    def etcd_socket(self) -> Path:
        return self.run / "etcd.sock"

    async def start(self) -> None:
        """Start everything and wait until the API answers and the rights are in place.

        Raises ProcessError or ClusterError; nothing is left running then.
        """
        try:
            await self.start_api()
            await self.start_controllers()
        except BaseException:
            await self.stop()
            raise

    async def start_api(self) -> None:
        """The first half of ``start``: what a node needs to begin.

        Raises as ``start`` does, and leaves what it has begun to ``stop``.
        """
        self._prepare()
        await self._start_programs("etcd", "kube-apiserver")
        for manifest in rbac.OBJECTS:
            await manifests.apply(self.client, self.server, manifest)

    async def start_controllers(self) -> None:
        """The second half of ``start``, with the same exceptions as the first."""
        await self._start_programs("kube-controller-manager")

    async def stop(self) -> None:
        """Kill all, dependents first; safe to repeat.

        Nothing is waited for: the API server's own stop drains watches for many seconds,
        and a stopped lab's data is not read again.  From three running programs to none:
        40 ms.
        """
        for keeper in reversed(self._keepers.values()):
            await keeper.stop()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def stop_program(self, name: str, *, grace: float) -> None:
        """Stop one program, with time to finish in good order; it is not restarted."""
        await self._keepers[name].stop(grace=grace)

    def _prepare(self) -> None:
        for folder in (self.paths.root, self.paths.logs, self.run):
            make_private_dir(folder)
        shutil.rmtree(self.paths.etcd, ignore_errors=True)
        if self._golden is not None:
            golden.restore(self._golden, self.paths.etcd)
        authority = Authority(self.paths.pki, self.paths.name)
        self.ca = authority.ca
        self.admin = authority.client("admin", user="labkit-admin", groups=["system:masters"])
        self.node_client = authority.client(
            "node-agent", user=f"system:node:{self._node_name}", groups=["system:nodes"]
        )
        self.scheduler_client = authority.client("kube-scheduler", user="system:kube-scheduler")
        self.node_serving = authority.server("node", [self._node_name, "127.0.0.1"])
        self._manager = authority.client(
            "kube-controller-manager", user=policies.CONTROLLER_MANAGER
        )
        self._files = components.ApiServerFiles(
            ca=authority.ca,
            serving=authority.server("kube-apiserver", components.SERVER_HOSTS),
            kubelet_client=authority.client(_KUBELET_CLIENT, user=_KUBELET_CLIENT),
            tokens=TokenKey.create(self.paths.pki),
            audit_policy=self._write("audit-policy.json", policies.AUDIT_POLICY),
            egress=self._write("egress.json", policies.egress_selector(self._egress)),
        )
        self._client = Admin(ca=self.ca, client=self.admin)

    def _write(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.paths.pki / name
        write_private(path, json.dumps(content))
        return path

    async def _start_programs(self, *names: str) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            try:
                for component in components.start_order(self._components(free_ports(2))):
                    if component.name in names and component.name not in self._keepers:
                        await self._start(component)
                return
            except ProcessError as error:
                # Between finding a free port and listening on it, another program was faster.
                if "address already in use" not in error.seen or attempt == _PORT_ATTEMPTS:
                    raise

    async def _start(self, component: Component) -> None:
        keeper = Keeper(
            component,
            log=self.paths.logs / f"{component.name}.log",
            healthy=self.client.healthy,
            on_change=self._on_change,
        )
        await keeper.start()
        self._keepers[component.name] = keeper
        if component.name == "kube-apiserver":
            self.server = f"https://127.0.0.1:{component.health.port}"
            self._write_kubeconfigs()

    def _components(self, ports: list[int]) -> Iterable[Component]:
        api_port, manager_port = ports
        etcd = components.etcd(self._programs["etcd"], data=self.paths.etcd, run=self.run)
        api = components.api_server(
            self._programs["kube-apiserver"],
            files=self._files,
            etcd_socket=self.etcd_socket,
            port=api_port,
            node_ports=self._node_ports,
            audit_log=self.paths.logs / "audit.log",
        )
        yield etcd
        yield api
        if self._controllers:
            yield components.controller_manager(
                self._programs["kube-controller-manager"],
                kubeconfig=self.paths.pki / "kube-controller-manager.kubeconfig",
                ca=self.ca,
                serving=self._files.serving,
                tokens=self._files.tokens,
                port=manager_port,
            )

    def _write_kubeconfigs(self) -> None:
        kubeconfig.write(
            self.paths.pki / "kube-controller-manager.kubeconfig",
            server=self.server,
            ca=self.ca,
            client=self._manager,
        )
        kubeconfig.write(
            self.paths.kubeconfig,
            server=self.server,
            ca=self.ca,
            client=self.admin,
            name=f"labkit-{self.paths.name}",
        )
