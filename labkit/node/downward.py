"""What a pod may be told about itself: ``fieldRef`` and ``resourceFieldRef``.

Variables and downwardAPI volumes draw on the same few values; here they are made once,
as text.  Where they go is up to ``environment`` and ``volumes``.

Source: ``pkg/fieldpath``, ``pkg/api/v1/resource/helpers.go`` and
``podFieldSelectorRuntimeValue`` of Kubernetes 1.37.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from labkit.errors import NodeError

Object = Mapping[str, Any]

_SUBSCRIPT = re.compile(r"(?P<path>[^\[]+?)\['(?P<key>.*)'\]", re.DOTALL)
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30),
    "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip


@dataclass(frozen=True)
class NodeFacts:
    """What the node knows and the pod object may not hold yet.

    ``allocatable`` (quantities as the Node object has them) stands in for limits that a
    container does not set.
    """

    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def field_value(path: str, pod: Object, *, facts: NodeFacts | None = None) -> str:
    """The value of a ``fieldRef``.

    Without ``facts`` only what a downwardAPI volume may use (metadata) is known.
    Raises NodeError for a path that Kubernetes does not offer.
    """
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if match := _SUBSCRIPT.fullmatch(path):
        if match["path"] not in ("metadata.labels", "metadata.annotations"):
            raise _unsupported(f'fieldPath "{path}" does not support subscript')
        return str(
            (metadata.get(match["path"].removeprefix("metadata.")) or {}).get(match["key"], "")
        )
    if path in ("metadata.labels", "metadata.annotations"):
        return _format_map(metadata.get(path.removeprefix("metadata.")) or {})
    if path in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata.get(path.removeprefix("metadata."), ""))
    if facts is not None:
        known = {
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.hostIP": next(iter(facts.host_ips), ""),
            "status.hostIPs": ",".join(facts.host_ips),
            "status.podIP": next(iter(facts.pod_ips), ""),
            "status.podIPs": ",".join(facts.pod_ips),
        }
        if path in known:
            return str(known[path])
    raise _unsupported(f"unsupported fieldPath: {path}")


def resource_value(
    reference: Object, pod: Object, container: Object | None, *, facts: NodeFacts
) -> str:
    """The value of a ``resourceFieldRef``: the quantity in units of its divisor, rounded up.

    ``container`` is the one that asks; a ``containerName`` in the reference (required in
    volumes) chooses another of the pod.  Raises NodeError for a resource or container
    that there is not.
    """
    if name := reference.get("containerName"):
        container = _container(pod, name)
    if container is None:
        raise _unsupported("container  not found")
    resource = str(reference["resource"])
    kind, _, what = resource.partition(".")
    plain = what in ("cpu", "memory", "ephemeral-storage")
    if kind not in ("limits", "requests") or not (plain or what.startswith("hugepages-")):
        raise _unsupported(f"unsupported container resource : {resource}")
    divisor = quantity(reference.get("divisor") or "0") or Fraction(1)
    amount = quantity(((container.get("resources") or {}).get(kind) or {}).get(what, "0"))
    if not amount and kind == "limits" and plain:
        amount = quantity(_pod_limit(pod, what) or facts.allocatable.get(what, "0"))
    # Kubernetes rounds both sides up to its own resolution first: a thousandth for cpu, one else.
    step = 1000 if what == "cpu" else 1
    return str(math.ceil(Fraction(math.ceil(amount * step), math.ceil(divisor * step))))


def quantity(text: object) -> Fraction:
    """A Kubernetes quantity (``250m``, ``32Mi``, ``1e3``) as an exact number.  Raises NodeError."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise _unsupported(f"{text!r} is not a quantity")
    number, exponent, suffix = match.groups()
    return Fraction(number + (exponent or "")) * _SUFFIXES.get(suffix or "", Fraction(1))


def _pod_limit(pod: Object, what: str) -> str | None:
    resources = (pod.get("spec") or {}).get("resources") or {}
    value = (resources.get("limits") or {}).get(what)
    return value if value and quantity(value) else None


def _container(pod: Object, name: str) -> Object:
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        if container["name"] == name:
            return container  # type: ignore[no-any-return]
    raise _unsupported(f"container {name} not found")


def _format_map(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_go_quote(values[key])}" for key in sorted(values))


def _go_quote(text: str) -> str:
    """``text`` as Go's strconv.Quote writes it."""
    escapes = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
               "\v": "\\v", "\\": "\\\\", '"': '\\"'}  # fmt: skip
    out = []
    for char in text:
        code = ord(char)
        if char in escapes:
            out.append(escapes[char])
        elif char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _unsupported(seen: str) -> NodeError:
    return NodeError("A value about the pod itself cannot be given", seen=seen)
