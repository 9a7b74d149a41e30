"""The Kubernetes API from above the seam: synchronous, objects as dictionaries."""

from __future__ import annotations

from labkit.kube.client import Applied, Kube, Resource
from labkit.kube.manifests import load_manifests, parse_manifests
from labkit.kube.objects import Object, condition, has_ready_pod, is_condition

__all__ = [
    "Applied",
    "Kube",
    "Object",
    "Resource",
    "condition",
    "has_ready_pod",
    "is_condition",
    "load_manifests",
    "parse_manifests",
]
