"""What an API object looks like from above the seam: a plain dictionary."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""What to accept so that only the metadata of an object, or of a list, leaves the server."""


def condition(obj: Object | None, kind: str) -> Object | None:
    """The entry of ``status.conditions`` with that ``type``, if there is one."""
    entries = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((entry for entry in entries if entry.get("type") == kind), None)


def is_condition(obj: Object | None, kind: str) -> bool:
    """Whether the condition is there and says True."""
    found = condition(obj, kind)
    return bool(found and found.get("status") == "True")


def has_ready_pod(workload: Object | None) -> bool:
    """Whether a Deployment or StatefulSet has a pod that is ready; False where it is None."""
    return bool(((workload or {}).get("status") or {}).get("readyReplicas"))
