"""The client of a lab in somebody else's cluster: it marks what it makes, and leaves alone
what it did not make.

It is ``Kube`` in everything else, so that what stands above needs not know where it is.  What
counts as the lab's: whatever carries its labels; whatever is in a namespace of its own; and
what a learner made with kubectl, which carries nothing: namespaces by the course's names, and
cluster-wide stores, if they are younger than the lab.
"""

from __future__ import annotations

from pathlib import Path

from labkit.foreign.claim import Brought, Claim
from labkit.kube import Applied, Kube, Object

NAMESPACES = ("demo", "latency", "playground", "shop", "team-blue", "warehouse")
"""The namespaces that lessons make (those with the platform's are more: see ``ground``)."""
STORES = ("vault-backend", "no-namespace", "wrong-role")
"""The ClusterSecretStores that lessons make; others of this Vault's count as well."""
_VAULT = "http://vault.vault:8200"


class Held(Kube):
    """``claim`` is the lab's."""

    is_shared = True

    def __init__(self, kube: Kube, claim: Claim) -> None:
        self.__dict__.update(kube.__dict__)  # the same connections and credentials
        self.claim = claim
        self._begun = ""

    @classmethod
    def open(cls, path: Path, claim: Claim) -> Held:
        """Connect as the kubeconfig at ``path`` says.  Raises UsageError."""
        return cls(Kube.from_kubeconfig(path), claim)

    @property
    def labels(self) -> dict[str, str]:
        """What the lab's own objects carry."""
        return self.claim.labels

    def owns(self, obj: Object) -> bool:
        """Whether the object is the lab's, to change and to take away."""
        meta, kind = obj["metadata"], obj.get("kind", "")
        if kind == "Namespace" and meta["name"] == self.claim.namespace:
            return False  # it goes last, and by ``removal`` alone
        if self.claim.is_on(obj):
            return True
        if kind == "Namespace":
            return self._is_younger(obj) and self._is_known(meta["name"], NAMESPACES)
        if kind == "ClusterSecretStore":
            provider = (obj.get("spec") or {}).get("provider") or {}
            is_ours = (provider.get("vault") or {}).get("server") == _VAULT
            return self._is_younger(obj) and (is_ours or self._is_known(meta["name"], STORES))
        return bool(meta.get("namespace")) and self.is_own_namespace(meta["namespace"])

    def is_own_namespace(self, name: str) -> bool:
        """Whether the namespace ``name`` is the lab's, with all that is in it."""
        space = self.get("v1", "Namespace", name)
        return space is not None and self.owns(space)

    def own_namespaces(self) -> list[str]:
        """The lab's namespaces, but the one with its list."""
        spaces = self.list("v1", "Namespace")
        return sorted(space["metadata"]["name"] for space in spaces if self.owns(space))

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, *, labels: str = ""
    ) -> list[Object]:
        """As ``Kube.list``; each object says its kind, which an API server leaves out."""
        found = super().list(api_version, kind, namespace, labels=labels)
        return [{"apiVersion": api_version, "kind": kind, **obj} for obj in found]

    def apply(self, obj: Object, *, namespace: str | None = None) -> Applied:
        """Server-side apply of what is the lab's or not there yet; the rest stays as it is."""
        resource, name, where = self._address(obj, namespace)
        before = self.get(obj["apiVersion"], obj["kind"], name, where)
        if before is not None and not self.owns(before):
            return Applied(resource.kind, where, name, "unchanged")
        if before is None and not (where and self.is_own_namespace(where)):
            self.claim.note(
                self, Brought(obj["apiVersion"], obj["kind"], name, where if where else "")
            )
        meta = obj["metadata"]
        labels = {**(meta.get("labels") or {}), **self.claim.labels}
        return super().apply({**obj, "metadata": {**meta, "labels": labels}}, namespace=namespace)

    def _is_known(self, name: str, known: tuple[str, ...]) -> bool:
        return name in known or name in self.claim.names(self)

    def _is_younger(self, obj: Object) -> bool:
        if not self._begun:
            self._begun = self.claim.since(self)
        # Both are the API server's, in one format and one zone: they compare as texts.
        return bool(self._begun) and str(obj["metadata"]["creationTimestamp"]) >= self._begun
