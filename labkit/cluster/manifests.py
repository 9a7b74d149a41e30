"""Making objects exist before anything else of the lab runs: RBAC and CRDs.

Server-side apply with the field manager that the rest of labkit uses, so that applying
the same manifest again later changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster.admin import Admin
from labkit.errors import ApiError, ClusterError, ManifestError

FIELD_MANAGER = "labkit"
_CRD = "CustomResourceDefinition"
_CLUSTER_SCOPED = {
    _CRD: "customresourcedefinitions",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}


def load(sources: Iterable[Path | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The objects of YAML files and of ready-made dictionaries, in order.

    Raises ManifestError when a file cannot be read.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where it is there
    objects: list[dict[str, Any]] = []
    for source in sources:
        if not isinstance(source, Path):
            objects.append(dict(source))
            continue
        try:
            documents = yaml.load_all(source.read_text(), Loader=loader)
            objects += [document for document in documents if document]
        except (OSError, yaml.YAMLError) as error:
            raise ManifestError(f"{source} could not be read", seen=str(error)) from error
    return objects


async def apply(client: Admin, server: str, manifest: Mapping[str, Any]) -> None:
    """Make a cluster-scoped object be as the manifest says; safe to repeat.

    Knows only the kinds that belong below everything else.  Raises ApiError.
    """
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind not in _CLUSTER_SCOPED:
        raise ManifestError(f"{kind} {name} is not for the control plane's own start")
    url = f"{server}/apis/{manifest['apiVersion']}/{_CLUSTER_SCOPED[kind]}/{name}"
    query = f"?fieldManager={FIELD_MANAGER}&force=true"
    status, answer = await client.call(
        "PATCH", url + query, manifest, content_type="application/apply-patch+yaml"
    )
    if status not in (200, 201):
        raise ApiError(
            f"{kind} {name} was refused",
            status=status,
            reason=str(answer.get("reason", "")),
            seen=str(answer.get("message", answer)),
        )


async def apply_all(
    client: Admin, server: str, manifests: Sequence[Mapping[str, Any]], *, limit: float = 60
) -> None:
    """Apply each, then wait until every CRD is Established: its kind is served.

    Raises ApiError, or ClusterError after ``limit`` seconds.
    """
    for manifest in manifests:
        await apply(client, server, manifest)
    waiting = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == _CRD}
    url = f"{server}/apis/apiextensions.k8s.io/v1/{_CLUSTER_SCOPED[_CRD]}"
    try:
        async with asyncio.timeout(limit):
            while waiting:
                _, answer = await client.call("GET", url)
                waiting -= {
                    crd["metadata"]["name"] for crd in answer["items"] if _is_established(crd)
                }
                await asyncio.sleep(0.05 if waiting else 0)
    except TimeoutError as error:
        raise ClusterError(
            "CRDs were not Established in time", seen=", ".join(sorted(waiting))
        ) from error


def _is_established(crd: Mapping[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
