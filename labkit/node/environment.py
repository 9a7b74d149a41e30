"""What a container finds in its environment, worked out as the kubelet does.

Given a container, its pod and a way to look up Secrets and ConfigMaps, this makes the
variables, once, at start; nobody changes them afterwards.  It also holds the ``$(VAR)``
rule, since commands, arguments and ``subPathExpr`` use the same one.  Which address a
pod has and how an image wants its ports told are others' business.

Source: ``makeEnvironmentVariables`` in ``pkg/kubelet/kubelet_pods.go``, ``pkg/kubelet/
envvars`` and ``third_party/forked/golang/expansion`` of Kubernetes 1.37.  Since 1.34 the
names from ``envFrom`` are taken as they are; the older kubelets' skipping of names that
are not C identifiers is gone, and so it is here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import NodeError
from labkit.node.downward import NodeFacts, field_value, resource_value

Object = Mapping[str, Any]
Lookup = Callable[[str], Object | None]
"""Gives the Secret or ConfigMap of that name in the pod's namespace, or None if there is none."""

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ContainerConfigError(NodeError):
    """A container's configuration cannot be made: its pod waits with this ``reason``.

    The kubelet's own text is in ``message``.  It tries again at its next sync.
    """

    reason = "CreateContainerConfigError"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__("The container cannot be configured", seen=message)


@dataclass(frozen=True)
class ApiServerAddress:
    """Where containers really reach the API server (in place of its ClusterIP)."""

    host: str
    port: int


def base_environment(hostname: str) -> dict[str, str]:
    """The few variables that every container starts with, before its image's and its own.

    HOME is ``/`` as for any user that the image does not know; in rewrite mode ``mounts``
    points it to a folder of the container's own.
    """
    return {"PATH": STANDARD_PATH, "HOME": "/", "HOSTNAME": hostname, "LANG": "C.UTF-8"}


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable's value, once, from left to right.

    ``$$`` stands for one ``$`` (so ``$$(NAME)`` stays literal), an unknown name and a
    reference that is never closed are left as they are.
    """
    return _expand(text, lambda name: env.get(name, f"$({name})"))


def _expand(text: str, value_of: Callable[[str], str]) -> str:
    out: list[str] = []
    position = 0
    while position < len(text):
        dollar = text.find("$", position)
        if dollar < 0 or dollar + 1 == len(text):
            out.append(text[position:])
            break
        out.append(text[position:dollar])
        following = text[dollar + 1]
        close = text.find(")", dollar + 2) if following == "(" else -1
        if close >= 0:
            out.append(value_of(text[dollar + 2 : close]))
            position = close + 1
        else:
            out.append("$" if following == "$" else "$" + following)
            position = dollar + 2
    return "".join(out)


def expand_command(container: Object, env: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The container's ``command`` and ``args`` with their ``$(NAME)`` replaced."""
    return (
        [expand(item, env) for item in container.get("command") or ()],
        [expand(item, env) for item in container.get("args") or ()],
    )


def expand_sub_path(expression: str, env: Mapping[str, str]) -> str:
    """The value of a ``subPathExpr``.  Raises ContainerConfigError for unset or empty names."""
    missing: set[str] = set()

    def value_of(name: str) -> str:
        value = env.get(name, "")
        if not value:
            missing.add(name)
        return value

    result = _expand(expression, value_of)
    if missing:
        raise ContainerConfigError(f"missing value for {', '.join(sorted(missing))}")
    return result


def container_environment(
    container: Object,
    pod: Object,
    *,
    lookup_secret: Lookup,
    lookup_config_map: Lookup,
    services: Mapping[str, str],
    facts: NodeFacts,
) -> dict[str, str]:
    """The variables of ``container``, as the kubelet would set them.

    In rising precedence: ``services`` (see ``service_environment``), ``envFrom`` in its
    order, ``env`` in its order.  A ``$(NAME)`` in a value sees ``envFrom``, the ``env``
    entries before it, and ``services``.  A missing optional reference leaves its variable
    out.  Raises ContainerConfigError, with the kubelet's text, for a missing one.
    """
    namespace = pod["metadata"]["namespace"]
    sources = _Sources(namespace, lookup_secret, lookup_config_map)
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if reference := source.get(key):
                found = sources.get(kind, reference)
                prefix = source.get("prefix") or ""
                result.update({prefix + name: value for name, value in (found or {}).items()})
    for variable in container.get("env") or ():
        name = variable["name"]
        if text := variable.get("value"):
            result[name] = expand(text, {**services, **result})
            continue
        value: str | None = ""
        source = variable.get("valueFrom") or {}
        if "fieldRef" in source or "resourceFieldRef" in source:
            value = _about_itself(source, pod, container, facts)
        elif reference := source.get("configMapKeyRef"):
            value = sources.key("ConfigMap", reference)
        elif reference := source.get("secretKeyRef"):
            value = sources.key("Secret", reference)
        elif source:
            kind = next(iter(source))
            raise ContainerConfigError(f"valueFrom.{kind} is not supported by this node")
        if value is not None:
            result[name] = value
    result = {**services, **result}
    for name, value in result.items():
        if "\0" in value:
            raise ContainerConfigError(f"the value of {name} holds a NUL byte")
    return result


def _about_itself(source: Object, pod: Object, container: Object, facts: NodeFacts) -> str:
    try:
        if reference := source.get("fieldRef"):
            return field_value(reference["fieldPath"], pod, facts=facts)
        return resource_value(source["resourceFieldRef"], pod, container, facts=facts)
    except NodeError as error:
        raise ContainerConfigError(error.seen) from error


class _Sources:
    """The Secrets and ConfigMaps of one namespace, each read once per container."""

    def __init__(self, namespace: str, secret: Lookup, config_map: Lookup) -> None:
        self._namespace = namespace
        self._lookup = {"Secret": secret, "ConfigMap": config_map}
        self._seen: dict[tuple[str, str], dict[str, str] | None] = {}

    def get(self, kind: str, reference: Object) -> dict[str, str] | None:
        """The object's data as text; None if it is missing and may be."""
        name = reference.get("name", "")
        if (kind, name) not in self._seen:
            found = self._lookup[kind](name)
            self._seen[kind, name] = None if found is None else _texts(kind, found)
        data = self._seen[kind, name]
        if data is None and not reference.get("optional"):
            raise ContainerConfigError(f'{kind.lower()} "{name}" not found')
        return data

    def key(self, kind: str, reference: Object) -> str | None:
        """One key's value; None if the key or its object is missing and may be."""
        data = self.get(kind, reference)
        key = reference["key"]
        if data is not None and key in data:
            return data[key]
        if reference.get("optional"):
            return None
        raise ContainerConfigError(
            f"couldn't find key {key} in {kind} {self._namespace}/{reference.get('name', '')}"
        )


def _texts(kind: str, obj: Object) -> dict[str, str]:
    data: Mapping[str, str] = obj.get("data") or {}
    if kind == "ConfigMap":
        return dict(data)
    # surrogateescape: a variable may hold any bytes, and Python hands them through that way.
    return {
        key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()
    }


def service_environment(
    services: Iterable[Object],
    namespace: str,
    *,
    enable_service_links: bool,
    api_server: ApiServerAddress | None = None,
) -> dict[str, str]:
    """``NAME_SERVICE_HOST`` and its kin, for a pod in ``namespace``.

    Always for the Service ``kubernetes`` of namespace ``default``; for the pod's own
    namespace with ``enable_service_links``; never for headless ones.  ``api_server``
    replaces the address of ``kubernetes``, whose ClusterIP nobody here can dial.
    """
    chosen: dict[str, Object] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        if spec.get("clusterIP") in (None, "", "None") or not spec.get("ports"):
            continue
        name = metadata["name"]
        if metadata["namespace"] == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
        elif metadata["namespace"] == namespace and enable_service_links:
            chosen[name] = service
    result: dict[str, str] = {}
    for name, service in chosen.items():
        is_api = name == "kubernetes" and service["metadata"]["namespace"] == "default"
        host, ports = service["spec"]["clusterIP"], service["spec"]["ports"]
        if is_api and api_server is not None:
            host, ports = api_server.host, [{**ports[0], "port": api_server.port}]
        result.update(_service_variables(name, host, ports))
    return result


def _service_variables(name: str, host: str, ports: Sequence[Object]) -> dict[str, str]:
    prefix = _variable_name(name)
    dialled = f"[{host}]" if ":" in host else host
    result = {f"{prefix}_SERVICE_HOST": host, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for index, entry in enumerate(ports):
        port, protocol = entry["port"], entry.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{dialled}:{port}"
        if entry.get("name"):
            result[f"{prefix}_SERVICE_PORT_{_variable_name(entry['name'])}"] = str(port)
        if index == 0:
            result[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port}_{protocol.upper()}"
        result |= {
            link: url,
            f"{link}_PROTO": protocol.lower(),
            f"{link}_PORT": str(port),
            f"{link}_ADDR": host,
        }
    return result


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()
