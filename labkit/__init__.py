"""labkit: a real Kubernetes API, Vault and External Secrets Operator to learn with.

Begin with ``lab = labkit.start()``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError

if TYPE_CHECKING:
    from labkit import views
    from labkit.lab import Lab, attach, start
    from labkit.session import lesson

__all__ = ["Lab", "LabError", "attach", "lesson", "start", "views"]


def __getattr__(name: str) -> Any:
    # Lazy, since the guardian and the supervisor import this package too and need
    # none of what stands above the seam.
    if name in {"Lab", "attach", "start"}:
        from labkit import lab

        return getattr(lab, name)
    if name == "lesson":
        from labkit.session import lesson

        return lesson
    if name == "views":
        return importlib.import_module("labkit.views")
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")
