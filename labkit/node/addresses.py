"""Addresses of pods, and the loopback ports behind their container ports.

A pod's address is a name more than a place: nothing listens on it, the cluster network
knows which loopback port stands for which of its ports.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

POD_CIDR = "10.244.0.0/16"
NODE_IP = "10.244.255.1"


class Addresses:
    """Hands out pod addresses; one that was given back is not used again soon."""

    def __init__(self, cidr: str = POD_CIDR, *, reserved: Iterable[str] = (NODE_IP,)) -> None:
        network = ipaddress.ip_network(cidr)
        self._first = int(network.network_address) + 2
        self._count = network.num_addresses - 3
        self._next = 0
        self._used = set(reserved)

    def take(self, wanted: str | None = None) -> str:
        """A free address: ``wanted`` if that is free."""
        if wanted and wanted not in self._used:
            self._used.add(wanted)
            return wanted
        while True:
            address = str(ipaddress.ip_address(self._first + self._next % self._count))
            self._next += 1
            if address not in self._used:
                self._used.add(address)
                return address

    def give_back(self, address: str) -> None:
        self._used.discard(address)


def is_free(port: int) -> bool:
    """Whether a program could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: a port whose old connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
