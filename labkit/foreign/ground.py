"""Is the place free?  Everything that is asked of a cluster before a lab changes anything.

In this order: is another lab of this name there, are the names that the course uses free, is
an External Secrets Operator there that the course can use as it is, may this identity do all
that comes, and would the cluster take the objects that belong to no namespace.

What is found is used and left as it was; what is in the way is named, all of it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labkit.errors import LabError
from labkit.foreign import rights
from labkit.foreign.claim import Claim, found, taken
from labkit.foreign.held import NAMESPACES, STORES, Held
from labkit.foreign.target import Target
from labkit.kube import Kube, Object

_OPERATOR = "external-secrets"  # its namespace, its Deployment, its ServiceAccount
_GROUP = "external-secrets.io"
_VERSION = f"{_GROUP}/v1"
_CLUSTER_WIDE = (
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
)


def check(target: Target, claim: Claim, brings: Iterable[Object]) -> bool:
    """Whether ESO is there already.  ``brings`` are the objects that the lab will apply.

    Raises LabError for whatever stands in the way; nothing is changed, whatever happens.
    """
    kube = target.kube
    rights.check(kube, target.context, _to_look())
    other = found(kube, claim.lab)
    if other is not None and other != claim:
        raise taken(kube, claim.lab)
    is_found = _operator(target)
    rights.check(kube, target.context, rights.needed(crds=not kube.serves(_GROUP)))
    objects = list(brings)
    _check_names(target, Held(kube, claim), objects, is_found=is_found)
    cluster_wide = [obj for obj in objects if not _is_namespaced(kube, obj)]
    rights.try_out(kube, target.context, [obj for obj in cluster_wide if _is_new(kube, obj)])
    return is_found


def _to_look() -> tuple[rights.Right, ...]:
    """What it takes to find out whether the place is free."""
    return (
        rights.Right("get", "namespaces"),
        rights.Right("list", "namespaces"),
        rights.Right("get", "configmaps"),
        rights.Right("list", "deployments", "apps"),
    )


def _operator(target: Target) -> bool:
    """Whether ESO runs where the course's manifests expect it.

    Raises LabError for one that runs elsewhere, or that serves no ``v1`` yet.
    """
    kube = target.kube
    if not kube.serves(_GROUP):
        return False
    groups = kube.request("GET", "/apis").get("groups", [])
    served = [
        version["groupVersion"]
        for group in groups
        if group["name"] == _GROUP
        for version in group["versions"]
    ]
    if _VERSION not in served:
        raise LabError(
            "The External Secrets Operator of this cluster is too old for the course, and nothing "
            "was changed",
            seen=f"it serves {', '.join(served)}, and not {_VERSION}",
            todo="Have it upgraded to 0.16 or later, or choose another --context.",
        )
    named = [
        (each["metadata"]["namespace"], each["spec"]["template"]["spec"].get("serviceAccountName"))
        for each in kube.list("apps/v1", "Deployment")
        if each["metadata"]["name"] == _OPERATOR
        or (each["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == _OPERATOR
    ]
    if not named or (_OPERATOR, _OPERATOR) in named:
        return bool(named)
    raise LabError(
        "The External Secrets Operator of this cluster is not where the course expects it, and "
        "nothing was changed",
        seen="; ".join(f"namespace {space}, ServiceAccount {account}" for space, account in named),
        todo=f"The course names the ServiceAccount {_OPERATOR} in the namespace "
        f"{_OPERATOR}: choose a cluster where it is called so (as by its chart), or with none.",
    )


def _check_names(target: Target, held: Held, brings: list[Object], *, is_found: bool) -> None:
    """Raises LabError that lists what has a name that the lab needs and is not the lab's."""
    in_the_way = [
        *_spaces(held, is_found=is_found),
        *_cluster_wide(held, brings, is_found=is_found),
    ]
    if in_the_way:
        raise LabError(
            f"Something else in the cluster of the context {target.context} has names that the "
            "course uses, and nothing was changed",
            seen="; ".join(in_the_way),
            todo="Remove or rename it if it is yours, or choose another --context.",
        )


def _spaces(held: Held, *, is_found: bool) -> Iterator[str]:
    wanted = {*NAMESPACES, "vault", held.claim.namespace}
    if not is_found:
        wanted.add(_OPERATOR)
    for space in held.list("v1", "Namespace"):
        name = space["metadata"]["name"]
        if name in wanted and not (held.owns(space) or held.claim.is_on(space)):
            labels = space["metadata"].get("labels") or {}
            other = labels.get("labkit.dev/lab")
            yield f"the namespace {name}" + (f" (of the lab {other})" if other else "")


def _cluster_wide(held: Held, brings: list[Object], *, is_found: bool) -> Iterator[str]:
    for obj in brings:
        if (obj["apiVersion"], obj["kind"]) not in _CLUSTER_WIDE:
            continue
        there = held.get(obj["apiVersion"], obj["kind"], obj["metadata"]["name"])
        is_operators = is_found and _OPERATOR in obj["metadata"]["name"]
        if there is not None and not is_operators and not held.owns(there):
            yield f"the {obj['kind']} {obj['metadata']['name']}"
    if not held.serves(_GROUP):
        return
    for store in held.list(_VERSION, "ClusterSecretStore"):
        if store["metadata"]["name"] in STORES and not held.owns(store):
            yield f"the ClusterSecretStore {store['metadata']['name']}"


def _is_namespaced(kube: Kube, obj: Object) -> bool:
    return bool(obj["metadata"].get("namespace"))


def _is_new(kube: Kube, obj: Object) -> bool:
    return kube.get(obj["apiVersion"], obj["kind"], obj["metadata"]["name"]) is None
