"""The cluster's network: Service names and pod addresses, led to loopback ports.

Containers here are ordinary local programs on loopback ports, and nothing else listens:
no bridge, no iptables, no DNS.  This package is what stands in their place, one table
(``Directory``) behind four doors (``ClusterNetwork``): a forward proxy for people and
pods, a unix socket for the API server, NodePorts, and ports for Services whose clients know
no proxy.  Who fills the table is not its business.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from labkit.node.network.connections import Connections
from labkit.node.network.directory import Directory
from labkit.node.network.egress import EgressDoor
from labkit.node.network.forward import USER, ForwardProxy
from labkit.node.network.nodeports import NodePorts, PortBlock
from labkit.node.network.records import Json
from labkit.node.network.route import Cause, Refused, Route
from labkit.node.network.servicedoors import ServiceDoors
from labkit.node.network.wire import Dialler, Limits

__all__ = ["Cause", "ClusterNetwork", "Directory", "Limits", "PortBlock", "Refused", "Route"]


class ClusterNetwork:
    """The four doors over one ``directory``.

    ``egress_socket`` is where the API server's socket will be, in a folder of its own.
    The ports of ``port_block`` are held from the moment that it was made (the API server
    needs their range to start) until ``stop``.  ``credential`` is made when not given.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        egress_socket: Path,
        port_block: PortBlock,
        credential: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self.directory = directory
        self.port_block = port_block
        self._credential = credential or secrets.token_urlsafe(32)
        self._connections = Connections(limits)
        shared = (directory, self._connections, Dialler(limits))
        self._forward = ForwardProxy(self._credential, *shared, limits=limits)
        self._egress = EgressDoor(egress_socket, *shared, limits=limits)
        self._node_ports = NodePorts(port_block, *shared, limits=limits)
        self._services = ServiceDoors(*shared, limits=limits)

    @property
    def proxy_url(self) -> str:
        """The forward proxy for people and tools, credential included.  Not for logs."""
        return self.proxy_url_for(None)

    def proxy_url_for(self, namespace: str | None) -> str:
        """As ``proxy_url``, for a pod of ``namespace``: its short names are looked up there."""
        user = f"{USER}.{namespace}" if namespace else USER
        return f"http://{user}:{self._credential}@127.0.0.1:{self._forward.port}"

    @property
    def egress_socket(self) -> Path:
        """The unix socket for kube-apiserver's EgressSelectorConfiguration."""
        return self._egress.path

    @property
    def open_node_ports(self) -> frozenset[int]:
        """The ports of the block that take connections now."""
        return self._node_ports.open

    def dialable(self, service: Json) -> Json:
        """``service`` with addresses that a pod can dial, where it needs such; to be called
        in the event loop.  See ``ServiceDoors``."""
        return self._services.dialable(service)

    async def start(self) -> None:
        """Open the doors; safe to repeat.  What started is closed if one fails.

        Raises NodeError (a socket path that is too long) and OSError.
        """
        try:
            await self._forward.start()
            await self._egress.start()
            await self._node_ports.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the doors, drop open connections, give the ports back; safe to repeat.

        It is final: make a new one to start again.
        """
        await self._forward.stop()
        await self._egress.stop()
        await self._node_ports.stop()
        await self._services.stop()
        await self._connections.stop()
        self.port_block.release()
