"""What an API object looks like from above the seam: a plain dictionary."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def condition(obj: Object | None, kind: str) -> Object | None:
    """The entry of ``status.conditions`` with that ``type``, if there is one."""
    entries = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((entry for entry in entries if entry.get("type") == kind), None)


def is_condition(obj: Object | None, kind: str) -> bool:
    """Whether the condition is there and says True."""
    found = condition(obj, kind)
    return bool(found and found.get("status") == "True")
