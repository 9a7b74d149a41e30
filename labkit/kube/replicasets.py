"""A ReplicaSet that waits for pods which nobody makes, and how to get it going.

The controller notes how many pods it is about to make, and makes no more until it has seen
them.  Where a namespace ended in that moment, nothing takes the note back, and it is kept by
name: the next ReplicaSet of that name (the same manifest, applied again) makes no pod for five
minutes.  The deletion of a ReplicaSet clears the note, and its Deployment makes another.

Source: ``manageReplicas``, ``deleteRS`` in ``pkg/controller/replicaset`` and
``ExpectationsTimeout`` in ``pkg/controller`` of Kubernetes.
"""

from __future__ import annotations

from labkit.kube.client import Kube
from labkit.kube.objects import Object


def free(kube: Kube, namespace: str) -> list[str]:
    """Delete the ReplicaSets of Deployments that want pods and have never made one; their names.

    For whoever has waited some seconds already.  One that could not make its pods says so in a
    condition, and is left alone.
    """
    stuck = [
        found["metadata"]["name"]
        for found in kube.list("apps/v1", "ReplicaSet", namespace)
        if _is_stuck(kube, found)
    ]
    for name in stuck:
        kube.delete("apps/v1", "ReplicaSet", name, namespace)
    return stuck


def _is_stuck(kube: Kube, found: Object) -> bool:
    meta, status = found["metadata"], found.get("status") or {}
    owned = any(owner.get("kind") == "Deployment" for owner in meta.get("ownerReferences") or ())
    if not (owned and found["spec"].get("replicas")) or status.get("conditions"):
        return False
    return not any(
        owner.get("uid") == meta["uid"]
        for pod in kube.list("v1", "Pod", meta["namespace"])
        for owner in pod["metadata"].get("ownerReferences") or ()
    )
