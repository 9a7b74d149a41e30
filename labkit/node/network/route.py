"""The two answers to "where does this lead?": a route, or a refusal in one line.

They are apart from ``directory`` because every door handles them and none should need
to know how a name is looked up.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from labkit.errors import NodeError

Address = tuple[str, int]


class Cause(enum.IntEnum):
    """Why a name is refused, as the HTTP status that a door answers with.

    An unknown Service is 502 and never 404, which to a client of Vault would mean
    "no such secret".
    """

    OUTSIDE = 403
    UNKNOWN = 502
    NOT_READY = 503


class Refused(NodeError):
    """The network does not lead there.  ``str()`` is the one line that callers see."""

    def __init__(self, cause: Cause, what: str, *, todo: str = "") -> None:
        super().__init__(what, todo=todo)
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.what}; {self.todo}" if self.todo else self.what


@dataclass(frozen=True)
class Route:
    """What a host and port lead to.

    ``subject`` names it for people (``Service vault/vault``), ``namespace`` says where
    to look for its pods ("" for a node or the API server), ``endpoints`` are real local
    addresses, at least one, in a stable order.
    """

    subject: str
    namespace: str
    endpoints: tuple[Address, ...]


def outside(host: str, *, why: str = "") -> Refused:
    """The refusal of a ``host`` that is not part of the cluster."""
    shown = host if len(host) <= 80 else f"{host[:77]}..."
    because = f" ({why})" if why else ""
    return Refused(
        Cause.OUTSIDE,
        f"{shown} is not in this cluster{because}, and this proxy does not lead out of it",
        todo="a Service is <service>.<namespace>, see: kubectl get services -A",
    )
