"""How long lessons take, and what of one is left at each exercise.

The figures are measured and counted when the notebooks are built (``course/build.py``)
and kept beside this module, because an installed labkit has no sources to count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


def read() -> dict[str, Any]:
    """What is kept, by lesson (``NN``): ``lesson``, and by exercise ``before`` and ``after``."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def write(times: Mapping[str, Any]) -> None:
    """Keep these from now on."""
    FILE.write_text(json.dumps(dict(sorted(times.items())), indent=1) + "\n")
    _kept.cache_clear()


def of(lesson: int) -> int | None:
    """Minutes for a whole lesson; None when nobody has measured it."""
    found = _kept().get(f"{lesson:02}")
    return None if found is None else int(found["lesson"])


def left(lesson: int, exercise: str, *, done: bool) -> int | None:
    """Minutes from an exercise to its lesson's end, with or (``done``) without itself."""
    found = _kept().get(f"{lesson:02}", {}).get("exercises", {}).get(exercise)
    return None if found is None else int(found["after" if done else "before"])


@cache
def _kept() -> dict[str, Any]:
    return read()
