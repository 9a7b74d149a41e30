"""The node's journal: one JSON object a line about what happened here and when.

It is the evidence for the hops that no API object records, above all the rename that
changes a volume.  It never holds a value of a Secret.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Journal = Callable[[Mapping[str, Any]], None]
"""Takes one entry; ``at`` (unix seconds) is added when it is not given."""


class JournalFile:
    """Appends entries to a file (0600)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def __call__(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({"at": time.time(), **entry}, separators=(",", ":"))
        os.write(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """Safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
