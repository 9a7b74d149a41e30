"""From the names of the cluster to loopback ports: tables in memory and one question.

``route`` answers "who is vault.vault:8200?" with the local addresses that serve it at
this moment.  The node agent tells which pods there are, watches tell which Services and
EndpointSlices there are, the doors ask.  Nothing here opens a socket or looks up a name:
an address that is not in these tables cannot be reached, however it is written.

Ports follow kube-proxy: on a ClusterIP they are ServicePorts, which the slices turn into
the pods' own.  A headless name is its pods, so there a port is theirs already.

A bare ``svc`` from a caller whose namespace is not known (a notebook, a terminal) is
found when exactly one namespace has it; from a pod it means the pod's own namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from labkit.node.network.names import Name, Reading, understand
from labkit.node.network.records import (
    Endpoint,
    Json,
    Pod,
    Service,
    ServicePort,
    Slice,
    key_of,
    read_service,
    read_slice,
    uid_of,
)
from labkit.node.network.route import Address, Cause, Refused, Route, outside

API_SERVICE = ("default", "kubernetes")
_Record = TypeVar("_Record", Service, Slice)
_PRESENT = ("ADDED", "MODIFIED")


class Directory:
    """The tables.  For one event loop: no locks, and every call returns at once."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], Service] = {}
        self._slices: dict[tuple[str, str], Slice] = {}
        self._pods: dict[str, Pod] = {}
        self._nodes: dict[str, Mapping[int, int]] = {}
        self._api_server: Address | None = None
        self._listeners: list[Callable[[], None]] = []

    def service_uids(self) -> set[str]:
        """The uids of all Services that there are."""
        return {service.uid for service in self._services.values()}

    # Telling

    def on_services(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each event of a Service."""
        self._listeners.append(listener)

    def apply_service(self, event_type: str, obj: Json) -> None:
        """Take in a watch event of a Service (ADDED, MODIFIED, DELETED; others do nothing)."""
        if event_type in _PRESENT:
            self._services[key_of(obj)] = read_service(obj)
        elif event_type == "DELETED":
            _forget(self._services, obj)
        for listener in self._listeners:
            listener()

    def apply_slice(self, event_type: str, obj: Json) -> None:
        """Take in a watch event of an EndpointSlice, as for a Service."""
        if event_type in _PRESENT:
            self._slices[key_of(obj)] = read_slice(obj)
        elif event_type == "DELETED":
            _forget(self._slices, obj)

    def set_pod(self, ip: str, name: str, namespace: str, ports: Mapping[int, int]) -> None:
        """A pod of this node; ``ports`` maps each containerPort to its real loopback port."""
        self._pods[ip] = Pod(ip, name, namespace, dict(ports))

    def remove_pod(self, ip: str) -> None:
        """Forget a pod; fine when it is not known."""
        self._pods.pop(ip, None)

    def set_node(self, names_and_addresses: Iterable[str], ports: Mapping[int, int]) -> None:
        """This node, by every name that the API server may dial; replaces what was said before."""
        self._nodes = {name.lower(): dict(ports) for name in names_and_addresses}

    def set_api_server(self, host: str, port: int) -> None:
        """Where the real API server listens: what ``kubernetes.default.svc`` leads to."""
        self._api_server = (host, port)

    # Asking

    def resolve(
        self, host: str, port: int, *, namespace: str | None = None, nodes: bool = False
    ) -> list[Address]:
        """The local addresses that serve ``host:port`` now, at least one.  As ``route``."""
        return list(self.route(host, port, namespace=namespace, nodes=nodes).endpoints)

    def route(
        self, host: str, port: int, *, namespace: str | None = None, nodes: bool = False
    ) -> Route:
        """Where ``host:port`` leads.

        ``namespace`` is the caller's own, for short names; ``nodes`` also allows this
        node's names and addresses (for the API server).  Raises Refused.
        """
        if nodes and host.lower() in self._nodes:
            return self._to_node(host.lower(), port)
        name = understand(host, namespace=namespace)
        if name.address:
            return self._to_address(name, port)
        service, hostname = self._find(name)
        if hostname:
            return self._to_pods(service, port, hostname)
        return self._to_service(service, port)

    def route_node_port(self, node_port: int) -> Route:
        """Where a Service's nodePort leads.  Raises Refused."""
        found = self.node_ports().get(node_port)
        if found is None:
            raise Refused(Cause.UNKNOWN, f"No Service has the nodePort {node_port}")
        return self._to_service_port(*found)

    def node_ports(self) -> dict[int, tuple[Service, ServicePort]]:
        """Every nodePort that a Service has."""
        return {
            port.node_port: (service, port)
            for service in self._services.values()
            for port in service.ports
            if port.node_port
        }

    # From a name to a Service

    def _find(self, name: Name) -> tuple[Service, str]:
        if name.bare:
            return self._find_anywhere(name.bare), ""
        readings = name.readings
        for reading in readings:
            service = self._service(reading.namespace, reading.service)
            if service and (not reading.hostname or self._has_host(service, reading.hostname)):
                return service, reading.hostname
        last = readings[-1]
        if not name.certain and last.namespace not in self._namespaces():
            raise outside(name.host, why=f"no namespace {last.namespace} has Services")
        raise self._unknown(last)

    def _unknown(self, reading: Reading) -> Refused:
        if self._service(reading.namespace, reading.service):
            what = f"No pod {reading.hostname} in Service {reading.namespace}/{reading.service}"
            return Refused(
                Cause.UNKNOWN, what, todo=f"see: kubectl -n {reading.namespace} get pods"
            )
        return Refused(
            Cause.UNKNOWN,
            f"No Service {reading.service} in namespace {reading.namespace}",
            todo=f"see: kubectl -n {reading.namespace} get services",
        )

    def _find_anywhere(self, bare: str) -> Service:
        found = [service for service in self._services.values() if service.name == bare]
        if not found:
            todo = "see: kubectl get services -A"
            raise Refused(Cause.UNKNOWN, f"No Service {bare} in any namespace", todo=todo)
        if len(found) > 1:
            names = ", ".join(sorted(f"{service.name}.{service.namespace}" for service in found))
            raise Refused(Cause.UNKNOWN, f"{bare} could be any of {names}", todo="say which")
        return found[0]

    def _service(self, namespace: str, name: str) -> Service | None:
        known = self._services.get((namespace, name))
        if known is None and (namespace, name) == API_SERVICE and self._api_server:
            return Service(*API_SERVICE, ports=(ServicePort("https", 443),))
        return known

    def _has_host(self, service: Service, hostname: str) -> bool:
        return service.headless and any(
            endpoint.hostname == hostname for endpoint in self._endpoints(service)
        )

    def _namespaces(self) -> set[str]:
        return {key[0] for key in self._services} | {pod.namespace for pod in self._pods.values()}

    # From what was found to local addresses

    def _to_node(self, host: str, port: int) -> Route:
        ports = self._nodes[host]
        if port not in ports:
            raise Refused(Cause.UNKNOWN, f"Node {host} has no port {port}")
        return Route(f"node {host}", "", (("127.0.0.1", ports[port]),))

    def _to_address(self, name: Name, port: int) -> Route:
        pod = self._pods.get(name.address)
        if pod and name.namespace in ("", pod.namespace):
            if port not in pod.ports:
                raise Refused(Cause.UNKNOWN, _closed(pod, port))
            return Route(f"pod {pod}", pod.namespace, (("127.0.0.1", pod.ports[port]),))
        for service in self._services.values():
            if name.address in service.cluster_ips:
                return self._to_service(service, port)
        if name.certain or name.address.startswith("10.244."):
            raise Refused(
                Cause.UNKNOWN,
                f"No pod has the address {name.host}",
                todo="see: kubectl get pods -A -o wide",
            )
        raise outside(name.host)

    def _to_service(self, service: Service, port: int) -> Route:
        if service.external_name:
            raise Refused(
                Cause.OUTSIDE,
                f"Service {service} is an ExternalName for {service.external_name}",
                todo="this proxy leads only to Services with pods",
            )
        if service.headless:
            return self._to_pods(service, port)
        for candidate in service.ports:
            if candidate.port == port:
                return self._to_service_port(service, candidate)
        known = ", ".join(str(each.port) for each in service.ports) or "none"
        raise Refused(Cause.UNKNOWN, f"Service {service} has no port {port} (it has {known})")

    def _to_service_port(self, service: Service, port: ServicePort) -> Route:
        """A ClusterIP: ready endpoints; when there are none, those that still serve while
        they go away, as kube-proxy does (KEP-1669)."""
        if (service.namespace, service.name) == API_SERVICE and self._api_server:
            return Route("the API server", "", (self._api_server,))
        every = [
            (endpoint, slice_.ports[port.name])
            for slice_ in self._slices_of(service)
            if port.name in slice_.ports
            for endpoint in slice_.endpoints
        ]
        usable = [each for each in every if each[0].ready or service.publish_not_ready]
        usable = usable or [each for each in every if each[0].serving and each[0].terminating]
        return self._locally(f"Service {service}", service.namespace, usable)

    def _to_pods(self, service: Service, port: int, hostname: str = "") -> Route:
        """A headless Service: its pods, or the one with that hostname, at their own port."""
        usable = [
            (endpoint, port)
            for endpoint in self._endpoints(service)
            if (endpoint.ready or service.publish_not_ready)
            and (not hostname or endpoint.hostname == hostname)
        ]
        subject = f"Service {service}" + (f", pod {hostname}" if hostname else "")
        return self._locally(subject, service.namespace, usable)

    def _locally(
        self, subject: str, namespace: str, endpoints: Iterable[tuple[Endpoint, int]]
    ) -> Route:
        found: set[Address] = set()
        closed = ""
        for endpoint, port in endpoints:
            pod = self._pods.get(endpoint.address)
            ports = pod.ports if pod else self._nodes.get(endpoint.address, {})
            if port in ports:
                found.add(("127.0.0.1", ports[port]))
            elif pod:
                closed = _closed(pod, port)
        if not found and closed:
            raise Refused(Cause.UNKNOWN, f"{subject} leads nowhere: {closed}")
        if not found:
            todo = f"see: kubectl -n {namespace} get pods"
            raise Refused(Cause.NOT_READY, f"{subject} has no ready endpoints", todo=todo)
        return Route(subject, namespace, tuple(sorted(found)))

    def _endpoints(self, service: Service) -> Iterator[Endpoint]:
        for slice_ in self._slices_of(service):
            yield from slice_.endpoints

    def _slices_of(self, service: Service) -> list[Slice]:
        owner = (service.namespace, service.name)
        return [s for s in self._slices.values() if (s.namespace, s.service) == owner]


def _forget(table: dict[tuple[str, str], _Record], obj: Json) -> None:
    """Drop ``obj``, but not another one that took its name since (a list may tell late)."""
    known = table.get(key_of(obj))
    if known is not None and known.uid == uid_of(obj):
        del table[key_of(obj)]


def _closed(pod: Pod, port: int) -> str:
    declared = ", ".join(str(number) for number in sorted(pod.ports)) or "none"
    return f"pod {pod} has no containerPort {port} (it has {declared})"
