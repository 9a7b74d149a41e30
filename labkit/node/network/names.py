"""How a host name is to be understood, before any table is asked.

A pod's resolver would try a name with each suffix of its search path (``ndots:5``);
this does the same in one step, with no DNS.  What a name turns out to mean depends on
the Services there are, so the answer is a list of readings, to be tried in order.

Source: the Kubernetes DNS specification, 1.1.0, and a pod's ``/etc/resolv.conf``
(``search <ns>.svc.cluster.local svc.cluster.local cluster.local``).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from labkit.node.network.route import outside

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_NUMERIC = re.compile(r"\d+|0x[0-9a-f]*")
_THIS_MACHINE = re.compile(r"(.*\.)?localhost")


@dataclass(frozen=True)
class Reading:
    """One thing that a name can mean: a Service, or one pod of it by ``hostname``."""

    service: str
    namespace: str
    hostname: str = ""


@dataclass(frozen=True)
class Name:
    """A host, understood.

    Exactly one of these holds: ``address`` is an IPv4 address (``namespace`` is then ""
    or the one that its pod must be in), ``bare`` is a Service's name with no namespace
    to look in, or ``readings`` are to be tried in order.  ``certain``: the name can only
    be the cluster's, so that an unknown one is a mistake and not an outside host.
    """

    host: str
    address: str = ""
    namespace: str = ""
    bare: str = ""
    readings: tuple[Reading, ...] = ()
    certain: bool = False


def understand(host: str, *, namespace: str | None = None) -> Name:
    """Read ``host``; ``namespace`` is the caller's own.  Raises Refused if it is outside.

    1. A dotted IPv4 address is itself.  All other ways to write one are outside: IPv6,
       and any name that ends in a number (``127.1``, ``2130706433``, ``0x7f000001``).
    2. ``a-b-c-d.ns.pod[.cluster.local]`` is a pod by its address.
    3. ``[host.]svc.ns.svc[.cluster.local]`` is complete as it stands.
    4. Otherwise, and in this order: in the caller's namespace, ``svc`` or ``host.svc``;
       then ``svc.ns`` or ``host.svc.ns``.
    5. A single label without a namespace is ``bare``.
    """
    host = host.lower()
    text = host.removesuffix(".")
    try:  # 1
        return Name(host, address=str(ipaddress.IPv4Address(text)))
    except ValueError:
        pass
    labels = text.split(".")
    if not _HOST.fullmatch(text) or _NUMERIC.fullmatch(labels[-1]):
        raise outside(host)
    if _THIS_MACHINE.fullmatch(text):
        raise outside(host, why="it is this machine itself")
    complete = labels[-2:] == ["cluster", "local"]
    if complete:
        labels = labels[:-2]
        if not 3 <= len(labels) <= 4:
            raise outside(host, why="a full name is <service>.<namespace>.svc.cluster.local")
    if len(labels) == 3 and labels[2] == "pod":  # 2
        return Name(host, address=labels[0].replace("-", "."), namespace=labels[1], certain=True)
    if len(labels) in (3, 4) and labels[-1] == "svc":  # 3
        return Name(host, readings=(_reading(labels[:-1]),), certain=True)
    if complete or len(labels) > 3:
        raise outside(host)
    readings = []
    if namespace and len(labels) <= 2:  # 4
        readings.append(_reading([*labels, namespace]))
    if len(labels) >= 2:
        readings.append(_reading(labels))
    if not readings:  # 5
        return Name(host, bare=labels[0], certain=True)
    return Name(host, readings=tuple(readings), certain=len(labels) == 1)


def _reading(labels: list[str]) -> Reading:
    """``[host,] service, namespace`` as a Reading."""
    return Reading(labels[-2], labels[-1], labels[0] if len(labels) == 3 else "")
