"""The lab's mark in a cluster, and the list of what it brought, kept in the cluster itself.

A namespace of its own (``labkit-NAME``) holds one ConfigMap with a line for each object that
the lab made outside of its own namespaces.  A line is written before the object is made, so
that whatever was interrupted can be taken away, from another machine too.  Whatever the lab
makes carries the same labels; a line alone proves nothing, a label does.

Making and removing objects is left to ``held`` and ``removal``.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from labkit.errors import ApiError, LabError
from labkit.kube import Kube, Object

MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "labkit"
LAB = "labkit.dev/lab"
_LIST = "brought"
_MARK = "owner"
_NAMES = "names"
_MAKER = "made-by"


@dataclass(frozen=True)
class Brought:
    """One object that the lab made, or was about to make."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True)
class Claim:
    """The lab ``lab``'s claim.  ``owner`` is a random word that the lab's folder has too, so
    that two labs of the same name are told apart."""

    lab: str
    owner: str

    @classmethod
    def new(cls, lab: str) -> Claim:
        return cls(lab, secrets.token_hex(8))

    @property
    def namespace(self) -> str:
        return f"labkit-{self.lab}"

    @property
    def labels(self) -> dict[str, str]:
        """What every object of the lab carries."""
        return {MANAGED: MANAGER, LAB: self.lab}

    def is_on(self, obj: Object) -> bool:
        """Whether the object carries this lab's labels."""
        labels = obj["metadata"].get("labels") or {}
        return bool(labels.get(MANAGED) == MANAGER and labels.get(LAB) == self.lab)

    def stake(self, kube: Kube) -> None:
        """Take the place; safe to repeat by the same owner.

        Raises LabError when another lab of this name has it.
        """
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": self.labels},
        }
        try:
            kube.request("POST", "/api/v1/namespaces", body=body)
        except ApiError as error:
            if error.status != 409:
                raise
            there = kube.get("v1", "Namespace", self.namespace)
            if there is not None and not self.is_on(there):
                raise taken(kube, self.lab) from error
        here = found(kube, self.lab)
        if here is None:
            config_map = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": _LIST, "labels": self.labels},
                "data": {_MARK: self.owner, _MAKER: _whoever()},
            }
            kube.request("POST", _path(self.namespace), body=config_map)
        elif here != self:
            raise taken(kube, self.lab)

    def note(self, kube: Kube, brought: Brought) -> None:
        """Put an object on the list; safe to repeat."""
        parts = (brought.api_version, brought.kind, brought.namespace, brought.name)
        key = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
        self._patch(kube, {key: "|".join(parts)})

    def _patch(self, kube: Kube, data: dict[str, str]) -> None:
        kube.request(
            "PATCH",
            f"{_path(self.namespace)}/{_LIST}",
            body={"data": data},
            content_type="application/merge-patch+json",
        )

    def brought(self, kube: Kube) -> tuple[Brought, ...]:
        """The list; empty where there is none any more."""
        listed = []
        for key, line in _data(kube, self.namespace).items():
            if key not in (_MARK, _NAMES, _MAKER) and line.count("|") == 3:
                api_version, kind, namespace, name = line.split("|")
                listed.append(Brought(api_version, kind, name, namespace))
        return tuple(sorted(listed, key=str))

    def names(self, kube: Kube) -> frozenset[str]:
        """What learners have called a lesson's things, other than the course does."""
        return frozenset(_data(kube, self.namespace).get(_NAMES, "").split())

    def learn(self, kube: Kube, names: Iterable[str]) -> None:
        """Remember names of a lesson's things; safe to repeat."""
        known = self.names(kube)
        if new := known | set(names):
            self._patch(kube, {_NAMES: " ".join(sorted(new))})

    def since(self, kube: Kube) -> str:
        """When the place was taken, as the cluster has it; "" where it is not."""
        space = kube.get("v1", "Namespace", self.namespace)
        return str(space["metadata"]["creationTimestamp"]) if space else ""


def found(kube: Kube, lab: str) -> Claim | None:
    """The claim of a lab called ``lab`` that is in the cluster, whoever made it."""
    mark = _data(kube, f"labkit-{lab}").get(_MARK)
    return Claim(lab, mark) if mark else None


def taken(kube: Kube, lab: str) -> LabError:
    """The refusal of a place that another lab of this name has."""
    maker = _data(kube, f"labkit-{lab}").get(_MAKER)
    return LabError(
        f"Another lab called {lab} is in this cluster already, and nothing was changed",
        seen=f"the namespace labkit-{lab} is not this lab's"
        + (f"; {maker} made that one" if maker else ""),
        todo=f"Choose another cluster; or, if it is a lab of yours whose folder is lost, take it "
        f"away: `labkit down --name {lab} --kubeconfig FILE --context NAME`.",
    )


def _whoever() -> str:
    """Who makes a lab, for others who find it."""
    try:
        return f"{getpass.getuser()} on {socket.gethostname()}"
    except (OSError, KeyError):  # a user without a name
        return f"user {os.getuid()} on {socket.gethostname()}"


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def _data(kube: Kube, namespace: str) -> dict[str, str]:
    config_map = kube.get("v1", "ConfigMap", _LIST, namespace)
    return dict((config_map or {}).get("data") or {})
