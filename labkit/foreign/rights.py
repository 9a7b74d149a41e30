"""May this identity do all that a lab will do?  Asked of the cluster itself, before anything.

Source: SelfSubjectAccessReview of ``authorization.k8s.io/v1``; it is answered to everybody
and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from labkit.errors import ApiError, LabError
from labkit.kube import Kube, Object

_ALL = "get list watch create patch delete"
_NEEDED = (
    ("", "namespaces", _ALL),
    ("", "configmaps secrets services serviceaccounts pods", _ALL),
    ("", "events", "list"),
    ("", "pods/log", "get"),
    ("", "pods/portforward", "get create"),  # by websocket it is a get, and counts as both
    ("", "pods/proxy", "get create"),
    ("", "services/proxy", "get create update patch delete"),
    ("", "serviceaccounts/token", "create"),
    ("apps", "deployments statefulsets replicasets", _ALL),
    ("apps", "daemonsets", "list"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("rbac.authorization.k8s.io", "roles rolebindings clusterroles clusterrolebindings", _ALL),
    ("external-secrets.io", "externalsecrets secretstores clustersecretstores", _ALL),
    ("external-secrets.io", "clusterexternalsecrets pushsecrets", "get list delete"),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies mutatingadmissionpolicybindings",
        _ALL,
    ),
)
_CRDS = (("apiextensions.k8s.io", "customresourcedefinitions", _ALL),)


@dataclass(frozen=True)
class Right:
    """To do ``verb`` with a resource (``pods/log`` with its subresource), in any namespace."""

    verb: str
    resource: str
    group: str = ""

    @property
    def thing(self) -> str:
        """As kubectl names it: ``deployments.apps``, ``pods/log``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def needed(*, crds: bool) -> tuple[Right, ...]:
    """What a lab does in a cluster; ``crds``: ESO's CRDs have to be brought, too."""
    rows = (*_NEEDED, *(_CRDS if crds else ()))
    return tuple(
        Right(verb, resource, group)
        for group, resources, verbs in rows
        for resource in resources.split()
        for verb in verbs.split()
    )


def check(kube: Kube, context: str, wanted: Iterable[Right]) -> None:
    """Raises LabError that lists every right of ``wanted`` that is missing."""
    if _may(kube, Right("*", "*", "*")):
        return
    rights = list(wanted)
    with ThreadPoolExecutor(max_workers=12) as pool:
        may = list(pool.map(lambda right: _may(kube, right), rights))
    missing = [right for right, is_allowed in zip(rights, may, strict=True) if not is_allowed]
    if missing:
        raise LabError(
            f"The identity of the context {context} may not do all that a lab does, and nothing "
            "was changed",
            seen=f"it may not {'; '.join(_grouped(missing))}",
            todo="Ask for these rights (docs/real-cluster.md says what each is for), or choose "
            "another --context.",
        )


def try_out(kube: Kube, context: str, objects: Iterable[Object]) -> None:
    """Have the cluster say whether it would take these objects, without keeping them.

    A rule against passing on rights that one does not have oneself, a quota or a policy shows
    here and nowhere else.  Raises LabError with the cluster's words for each refusal.
    """
    refused = []
    for obj in objects:
        path = kube.resource(obj["apiVersion"], obj["kind"]).path(None, obj["metadata"]["name"])
        try:
            kube.request(
                "PATCH",
                path,
                body=obj,
                query={"fieldManager": "labkit", "force": "true", "dryRun": "All"},
                content_type="application/apply-patch+yaml",
            )
        except ApiError as error:
            said = " ".join(error.seen.split())[:300]
            refused.append(f"{obj['kind']} {obj['metadata']['name']}: {said}")
    if refused:
        raise LabError(
            f"The cluster of the context {context} would not take all that a lab brings, and "
            "nothing was changed",
            seen="; ".join(refused),
            todo="Whoever runs the cluster can grant what is refused.",
        )


def _may(kube: Kube, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    answer = kube.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        body={
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        },
    )
    return bool(answer["status"]["allowed"])


def _grouped(missing: list[Right]) -> Iterator[str]:
    """``create, patch deployments.apps``, a piece for each resource."""
    by_thing: dict[str, list[str]] = {}
    for right in missing:
        by_thing.setdefault(right.thing, []).append(right.verb)
    for thing, verbs in by_thing.items():
        yield f"{', '.join(verbs)} {thing}"
