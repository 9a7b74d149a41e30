"""What the network needs to know of a Service, an EndpointSlice and a pod, as plain data.

Reads the API's JSON into small frozen records and keeps nothing.  Which record wins
when a name is asked for is decided in ``directory``.  It is apart from it so that the
field names of the Kubernetes API stand in one place.

Sources: the API reference of ``v1.Service`` and ``discovery.k8s.io/v1.EndpointSlice``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True)
class ServicePort:
    """One TCP port of a Service.  ``node_port`` is 0 when it has none."""

    name: str
    port: int
    node_port: int = 0


@dataclass(frozen=True)
class Service:
    """A Service.  ``external_name`` is "" unless it is of that type."""

    namespace: str
    name: str
    ports: tuple[ServicePort, ...] = ()
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    external_name: str = ""
    publish_not_ready: bool = False
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Endpoint:
    """One address behind a Service.

    ``hostname`` is set for pods that have a name of their own below a headless Service.
    """

    address: str
    hostname: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass(frozen=True)
class Slice:
    """An EndpointSlice: ``ports`` maps a Service port's name to the pods' port number."""

    namespace: str
    name: str
    service: str
    ports: Mapping[str, int]
    endpoints: tuple[Endpoint, ...]
    uid: str = ""


@dataclass(frozen=True)
class Pod:
    """A pod of this node: ``ports`` maps each containerPort to the real loopback port."""

    ip: str
    name: str
    namespace: str
    ports: Mapping[int, int]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(obj: Json) -> tuple[str, str]:
    """The namespace and name of any namespaced API object."""
    meta = obj["metadata"]
    return meta["namespace"], meta["name"]


def uid_of(obj: Json) -> str:
    """The object's uid, "" if it has none."""
    return str(obj["metadata"].get("uid") or "")


def read_service(obj: Json) -> Service:
    """The Service in an API object; ports that are not TCP are left out."""
    namespace, name = key_of(obj)
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    external = spec.get("type") == "ExternalName"
    return Service(
        namespace=namespace,
        name=name,
        ports=tuple(
            ServicePort(port.get("name") or "", port["port"], port.get("nodePort") or 0)
            for port in spec.get("ports") or ()
            if _is_tcp(port)
        ),
        cluster_ips=tuple(ip for ip in addresses if ip and ip != "None"),
        headless=not external and "None" in addresses,
        external_name=(spec.get("externalName") or "?") if external else "",
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
        uid=uid_of(obj),
    )


def read_slice(obj: Json) -> Slice:
    """The EndpointSlice in an API object.

    A slice that belongs to no Service, or holds no IPv4 addresses, has no endpoints for
    us.  A condition left out means "true" for ``ready`` and ``serving`` (the API says
    that consumers should read it so) and "false" for ``terminating``.
    """
    namespace, name = key_of(obj)
    labels = obj["metadata"].get("labels") or {}
    usable = obj.get("addressType", "IPv4") == "IPv4"
    return Slice(
        namespace=namespace,
        name=name,
        service=labels.get(SERVICE_NAME_LABEL, ""),
        ports={
            port.get("name") or "": port["port"]
            for port in obj.get("ports") or ()
            if _is_tcp(port) and port.get("port")
        },
        endpoints=tuple(
            endpoint
            for item in (obj.get("endpoints") or () if usable else ())
            for endpoint in _endpoints(item)
        ),
        uid=uid_of(obj),
    )


def _endpoints(item: Json) -> list[Endpoint]:
    conditions = item.get("conditions") or {}
    ready = conditions.get("ready")
    serving = conditions.get("serving")
    is_ready = ready is None or bool(ready)
    return [
        Endpoint(
            address=address,
            hostname=item.get("hostname") or "",
            ready=is_ready,
            serving=is_ready if serving is None else bool(serving),
            terminating=bool(conditions.get("terminating")),
        )
        for address in item.get("addresses") or ()
    ]


def _is_tcp(port: Json) -> bool:
    return (port.get("protocol") or "TCP") == "TCP"
