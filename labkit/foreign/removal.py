"""Take a lab away from somebody else's cluster: exactly what it brought, nothing else.

1. Whoever else has come to use the ESO that the lab brought keeps the lab from being removed.
2. ESO's objects of the lab, while ESO runs: their finalizers are its to remove.
3. The lab's namespaces, and what is in them.
4. What is on the list and carries the lab's labels: roles, policies, ESO's definitions.
5. The namespace with the list, last: until then, taking away can be begun again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from labkit.errors import ApiError, ClusterError, LabError, ManifestError
from labkit.foreign.claim import Brought
from labkit.foreign.held import Held
from labkit.kube import Kube, Object, namespaces

_GROUP = "external-secrets.io"
_KINDS = (
    (f"{_GROUP}/v1", "ClusterExternalSecret"),
    (f"{_GROUP}/v1", "ExternalSecret"),
    (f"{_GROUP}/v1alpha1", "PushSecret"),
    (f"{_GROUP}/v1", "SecretStore"),
    (f"{_GROUP}/v1", "ClusterSecretStore"),
)
_DEFINITION = "CustomResourceDefinition"
_PATIENCE = 30.0  # seconds that ESO gets for its finalizers


def take_away(
    held: Held, *, progress: Callable[[str], None], timeout: float = 180.0
) -> tuple[str, ...]:
    """Remove the lab ``held.claim`` from the cluster; what was removed.  Safe to repeat.

    ``timeout`` is for each namespace, in seconds.  Raises LabError when others use what it
    brought, and WaitTimeout when something does not go.
    """
    listed = held.claim.brought(held)
    if any(each.kind == _DEFINITION for each in listed):
        _check_strangers(held)  # 1
    removed = _remove_eso_objects(held)  # 2
    if removed:
        progress(f"Removed {len(removed)} of ESO's objects")
    spaces = held.own_namespaces()  # 3
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: namespaces.remove(held, name, timeout=timeout), spaces))
    if spaces:
        progress(f"Removed the namespaces {', '.join(spaces)}")
    rest = [each for each in listed if each.kind != "Namespace"]
    gone = [each for each in rest if _remove(held, each)]  # 4
    for each in gone:
        _wait_gone(held, each, timeout)
    if gone:
        progress(f"Removed what belongs to no namespace: {_counted(gone)}")
    namespaces.remove(held, held.claim.namespace, timeout=timeout)  # 5
    return (*removed, *(f"Namespace {name}" for name in spaces), *map(str, gone))


def _check_strangers(held: Held) -> None:
    theirs = [
        f"{kind} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        for api, kind in _KINDS
        for obj in _all(held, api, kind)
        if not held.owns(obj)
    ]
    if theirs:
        raise LabError(
            "Others use the External Secrets Operator that this lab brought, and nothing was "
            "removed",
            seen=", ".join(theirs[:5]) + (f" and {len(theirs) - 5} more" if theirs[5:] else ""),
            todo="With it all of these would go. Have them removed, or ESO installed by whoever "
            "runs the cluster, and try again.",
        )


def _remove_eso_objects(held: Held) -> list[str]:
    own = [
        Brought(api, kind, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
        for api, kind in _KINDS
        for obj in _all(held, api, kind)
        if held.owns(obj)
    ]
    for each in own:
        held.delete(each.api_version, each.kind, each.name, each.namespace or None)
    deadline = time.monotonic() + _PATIENCE
    for each in own:
        while _is_there(held, each):
            if time.monotonic() > deadline:  # ESO is broken: nobody else removes its finalizers
                _let_go(held, each)
                break
            time.sleep(0.1)
    return [str(each) for each in own]


def _let_go(held: Held, each: Brought) -> None:
    body = {"metadata": {"finalizers": None}}
    try:
        held.patch(each.api_version, each.kind, each.name, body, each.namespace or None)
    except ApiError as error:
        if error.status != 404:
            raise


def _remove(held: Held, each: Brought) -> bool:
    """Delete what carries the lab's labels; False where it is not there, or another's."""
    try:
        there = held.get(each.api_version, each.kind, each.name, each.namespace or None)
    except ManifestError:  # its kind is not served any more
        return False
    if there is None or not held.claim.is_on(there):
        return False
    return held.delete(each.api_version, each.kind, each.name, each.namespace or None)


def _wait_gone(held: Held, each: Brought, timeout: float) -> None:
    held.wait(
        held.resource(each.api_version, each.kind),
        each.name,
        each.namespace or None,
        lambda seen: seen is None,
        awaited="deleted",
        timeout=timeout,
    )


def _is_there(held: Held, each: Brought) -> bool:
    return held.get(each.api_version, each.kind, each.name, each.namespace or None) is not None


def _all(kube: Kube, api: str, kind: str) -> list[Object]:
    try:
        return kube.list(api, kind)
    except ManifestError:  # not served here
        return []
    except ClusterError as error:
        if isinstance(error, ApiError) and error.status == 404:
            return []
        raise


def _counted(gone: list[Brought]) -> str:
    kinds = [each.kind for each in gone]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
