"""A small synchronous Kubernetes client: objects are plain dictionaries.

It does what the lab needs above the seam: discovery, server-side apply, reads,
watches, waits, and HTTP through the API server's service proxy.  It exists beside the
official client (``lab.kube``, which lessons use) because importing that one costs half
a second and tens of megabytes in every process that merely wants to apply a file.

Only this module and what a learner runs talk to the API from above the seam.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

from labkit.errors import ApiError, ManifestError, UsageError, WaitTimeout
from labkit.kube import kubeconfig
from labkit.kube.credentials import Renewed
from labkit.kube.objects import Object
from labkit.kube.transport import Transport

FIELD_MANAGER = "labkit"


@dataclass(frozen=True)
class Resource:
    """One resource type of the API: where its objects live."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of the collection, or of one object when ``name`` is given."""
        group = (
            f"/api/{self.api_version}"
            if "/" not in self.api_version
            else (f"/apis/{self.api_version}")
        )
        middle = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        tail = f"/{quote(name)}" if name else ""
        return f"{group}{middle}/{self.plural}{tail}"


@dataclass(frozen=True)
class Applied:
    """What one server-side apply did: ``change`` is created, configured or unchanged."""

    kind: str
    namespace: str | None
    name: str
    change: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name} {self.change}"


class Kube(Transport):
    """A connection to one Kubernetes API with one identity.

    ``namespace`` is the one used where a call names none; the rest is Transport's.
    ``is_shared``: others work in the cluster too, and what is theirs must stay.
    """

    is_shared = False

    @property
    def labels(self) -> dict[str, str]:
        """What the lab's own objects carry: nothing, in a cluster of its own."""
        return {}

    def __init__(
        self,
        server: str,
        *,
        namespace: str = "default",
        ca: str | None = None,
        client_cert: tuple[str, str] | None = None,
        token: str | None = None,
        renewed: Renewed | None = None,
    ) -> None:
        super().__init__(server, ca=ca, client_cert=client_cert, token=token, renewed=renewed)
        self.namespace = namespace
        self._resources: dict[str, dict[str, Resource]] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path, *, context: str | None = None) -> Kube:
        """Connect as the kubeconfig's (current) context says.

        Raises UsageError (see kubeconfig.read).
        """
        access = kubeconfig.read(path, context=context)
        return cls(
            access.server,
            namespace=access.namespace,
            ca=access.ca,
            client_cert=access.client_cert,
            token=access.token,
            renewed=access.renewed,
        )

    def with_token(self, token: str) -> Kube:
        """The same cluster as somebody else: with a ServiceAccount's token, say."""
        return Kube(self.server, namespace=self.namespace, ca=self.ca, token=token)

    def owns(self, obj: Object) -> bool:
        """Whether an object is the lab's, to change and to take away: all are, in a cluster of
        its own (see ``labkit.foreign`` for the other kind)."""
        return True

    # -- discovery ------------------------------------------------------------------

    def resource(self, api_version: str, kind: str) -> Resource:
        """The resource behind ``apiVersion`` and ``kind``.

        Raises ManifestError when the cluster does not serve it, naming what it does.
        """
        known = self._resources.get(api_version, {})
        if kind not in known:
            known = self._discover(api_version)  # again: a CRD may be new since then
        if kind not in known:
            raise self._unknown(api_version, kind)
        return known[kind]

    def _discover(self, api_version: str) -> dict[str, Resource]:
        root = Resource(api_version, "", "", False).path().rstrip("/")
        try:
            listed = self.request("GET", root)
        except ApiError as error:
            if error.status != 404:
                raise
            return {}
        found = {
            entry["kind"]: Resource(api_version, entry["kind"], entry["name"], entry["namespaced"])
            for entry in listed.get("resources", [])
            if "/" not in entry["name"]
        }
        self._resources[api_version] = found
        return found

    def _unknown(self, api_version: str, kind: str) -> ManifestError:
        group = api_version.rpartition("/")[0]
        served = [
            version["groupVersion"]
            for entry in self.request("GET", "/apis").get("groups", [])
            if entry["name"] == group
            for version in entry["versions"]
        ]
        elsewhere = [version for version in served if kind in self._discover(version)]
        todo = (
            f"This cluster serves {kind} as {elsewhere[0]}: change the apiVersion."
            if elsewhere
            else "Check the spelling of apiVersion and kind; `kubectl api-resources` lists all."
        )
        return ManifestError(
            f'No matches for kind "{kind}" in version "{api_version}"', seen=api_version, todo=todo
        )

    def serves(self, group: str) -> bool:
        """Whether the API serves kinds of this group: whether its CRDs are there."""
        groups = self.request("GET", "/apis").get("groups", [])
        return any(entry["name"] == group for entry in groups)

    def find(self, word: str) -> Resource:
        """The resource that ``word`` names as kubectl would: kind, plural, singular or
        short name, with or without its group (``es``, ``externalsecret``,
        ``externalsecrets.external-secrets.io``).  Raises UsageError when none does."""
        wanted, _, group = word.lower().partition(".")
        versions = ["v1"] + [
            entry["preferredVersion"]["groupVersion"]
            for entry in self.request("GET", "/apis").get("groups", [])
            if not group or entry["name"] == group
        ]
        for version in versions:
            listed = self.request("GET", Resource(version, "", "", False).path().rstrip("/"))
            for entry in listed.get("resources", []):
                names = {entry["name"], entry["kind"].lower(), entry.get("singularName", "")}
                if wanted in names | set(entry.get("shortNames", [])) and "/" not in entry["name"]:
                    return Resource(version, entry["kind"], entry["name"], entry["namespaced"])
        raise UsageError(
            f"The cluster has no resource called {word!r}",
            todo="`kubectl api-resources` lists what it has.",
        )

    # -- objects --------------------------------------------------------------------

    def get(
        self, api_version: str, kind: str, name: str, namespace: str | None = None
    ) -> Object | None:
        """The object, or None when there is none of that name."""
        try:
            return self.request("GET", self._path(api_version, kind, name, namespace))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str = "",
    ) -> list[Object]:
        """All objects of a kind, in one namespace or (None) in all of them."""
        path = self.resource(api_version, kind).path(namespace)
        answer = self.request("GET", path, query={"labelSelector": labels} if labels else None)
        return cast("list[Object]", answer.get("items") or [])

    def apply(self, obj: Object, *, namespace: str | None = None) -> Applied:
        """Server-side apply, taking over fields that somebody else set.  Safe to repeat.

        Source: Kubernetes' "Server-Side Apply" (``PATCH`` with
        ``application/apply-patch+yaml``, ``fieldManager`` and ``force``).
        """
        resource, name, where = self._address(obj, namespace)
        path = resource.path(where, name)
        before = None
        try:
            before = self.request("GET", path)["metadata"]["resourceVersion"]
        except ApiError as error:
            if error.status != 404:
                raise
        after = self.request(
            "PATCH",
            path,
            body=obj,
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
        )["metadata"]["resourceVersion"]
        change = "created" if before is None else "unchanged" if before == after else "configured"
        return Applied(resource.kind, where, name, change)

    def patch(
        self, api_version: str, kind: str, name: str, body: Object, namespace: str | None = None
    ) -> Object:
        """JSON merge patch."""
        return self.request(
            "PATCH",
            self._path(api_version, kind, name, namespace),
            body=body,
            content_type="application/merge-patch+json",
        )

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> bool:
        """Delete one object; False when there was none.  Safe to repeat."""
        try:
            self.request("DELETE", self._path(api_version, kind, name, namespace))
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def token(
        self,
        service_account: str,
        namespace: str,
        *,
        audiences: Sequence[str] = (),
        seconds: int = 600,
    ) -> str:
        """A short-lived token of a ServiceAccount (TokenRequest); at least 600 seconds."""
        resource = self.resource("v1", "ServiceAccount")
        answer = self.request(
            "POST",
            f"{resource.path(namespace, service_account)}/token",
            body={"spec": {"audiences": list(audiences), "expirationSeconds": seconds}},
        )
        return cast(str, answer["status"]["token"])

    def service(
        self,
        method: str,
        namespace: str,
        service: str,
        port: str,
        path: str,
        *,
        body: object = None,
    ) -> bytes:
        """HTTP to a Service through the API server's service proxy.

        The same call reaches a Service of the embedded cluster and of any other.
        """
        return self.raw(method, self.service_path(namespace, service, port) + path, body=body)

    @staticmethod
    def service_path(namespace: str, service: str, port: str) -> str:
        """The API server's path to a Service's port (a name or a number)."""
        return f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy"

    def _path(self, api_version: str, kind: str, name: str, namespace: str | None) -> str:
        resource = self.resource(api_version, kind)
        return resource.path(namespace or self.namespace, name)

    def _address(self, obj: Object, namespace: str | None) -> tuple[Resource, str, str | None]:
        resource = self.resource(obj["apiVersion"], obj["kind"])
        where = obj["metadata"].get("namespace") or namespace or self.namespace
        return resource, obj["metadata"]["name"], where if resource.namespaced else None

    # -- waiting --------------------------------------------------------------------

    def watch(
        self, path: str, *, field: str = "", idle: float | None = None, since: str = ""
    ) -> Iterator[tuple[str, Object]]:
        """Events (type, object) of a collection; begins with ADDED for what is there,
        unless ``since`` names a resourceVersion.  Ends after ``idle`` silent seconds."""
        query: dict[str, object] = {"watch": "true", "allowWatchBookmarks": "false"}
        if field:
            query["fieldSelector"] = field
        if since:
            query["resourceVersion"] = since
        for line in self.stream(path, query=query, idle=idle):
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            yield event["type"], event["object"]

    def wait(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        is_met: Callable[[Object | None], bool],
        *,
        awaited: str,
        timeout: float,
    ) -> Object | None:
        """Watch one object until ``is_met`` says so of it (None: it does not exist).

        ``timeout`` is in seconds.  Raises WaitTimeout with the last thing seen: its
        conditions, when it has any.
        """
        deadline = time.monotonic() + timeout
        last: Object | None = None
        while True:
            last = self.get(resource.api_version, resource.kind, name, namespace)
            if is_met(last):
                return last
            left = deadline - time.monotonic()
            if left <= 0:
                raise _wait_timeout(resource, name, namespace, awaited, timeout, last)
            since = last["metadata"]["resourceVersion"] if last else ""
            for event, seen in self.watch(
                resource.path(namespace),
                field=f"metadata.name={name}",
                idle=min(left, 2.0),
                since=since,
            ):
                if is_met(None if event == "DELETED" else seen):
                    break
                if time.monotonic() > deadline:
                    break


def _wait_timeout(
    resource: Resource,
    name: str,
    namespace: str | None,
    awaited: str,
    timeout: float,
    last: Object | None,
) -> WaitTimeout:
    where = f" -n {namespace}" if resource.namespaced and namespace else ""
    if last is None:
        seen = "it does not exist"
    else:
        entries = (last.get("status") or {}).get("conditions") or []
        seen = (
            "; ".join(
                f"{entry.get('type')}={entry.get('status')}"
                + (f" {entry['reason']}" if entry.get("reason") else "")
                + (f": {entry['message']}" if entry.get("message") else "")
                for entry in entries
            )
            or "no conditions yet"
        )
    return WaitTimeout(
        f"{resource.kind} {name} was not {awaited} within {timeout:g} s",
        seen=seen,
        todo=f"See `kubectl{where} describe {resource.plural} {name}`.",
    )
