"""Install the CRDs of an operator, and wait until the API serves them.

Controllers whose kinds are not served yet retry at leisure, so this comes before they do.
Which operator, and where its CRDs come from, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labkit.kube.client import Kube, Resource
from labkit.kube.manifests import load_manifests
from labkit.kube.objects import is_condition

KIND = "CustomResourceDefinition"
_API = "apiextensions.k8s.io/v1"
_CRD = Resource(_API, KIND, "customresourcedefinitions", False)


def install(kube: Kube, files: Iterable[Path], group: str, *, timeout: float = 60.0) -> bool:
    """Apply the CRDs in ``files`` and wait until they are Established; False when the API
    served ``group`` already.

    ``timeout`` is in seconds.  Raises WaitTimeout with the condition seen last.
    """
    if kube.serves(group):
        return False
    crds = [obj for file in files for obj in load_manifests(file) if obj["kind"] == KIND]
    for crd in crds:
        kube.apply(crd)
    for crd in crds:
        kube.wait(
            _CRD,
            crd["metadata"]["name"],
            None,
            lambda seen: is_condition(seen, "Established"),
            awaited="Established",
            timeout=timeout,
        )
    return True


def remove(kube: Kube, group: str, *, timeout: float = 60.0) -> None:
    """Delete the CRDs of ``group`` and of groups below it, and with them every object of
    their kinds; safe to repeat.

    Objects whose finalizers wait for a controller must be gone before.
    """
    names = [
        crd["metadata"]["name"]
        for crd in kube.list(_API, KIND)
        if f".{crd['spec']['group']}".endswith(f".{group}")
    ]
    for name in names:
        kube.delete(_API, KIND, name)
    for name in names:
        kube.wait(_CRD, name, None, lambda seen: seen is None, awaited="deleted", timeout=timeout)
