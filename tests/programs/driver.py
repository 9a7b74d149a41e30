"""Run ``ensure`` on a tiny catalogue in a process of its own: MODULE_FOLDER CACHE."""

from __future__ import annotations

import sys
from pathlib import Path

from labkit import programs
from labkit.programs.catalogue import Entry, GoModule

folder, cache = map(Path, sys.argv[1:])
module = GoModule(folder=folder, names=("tiny", "tinier"), module="tiny", disk=10**8)
catalogue = {name: Entry(name, "1.0", module) for name in module.names}
print("begin", flush=True)
programs.ensure(
    ["tiny"], catalogue=catalogue, cache=cache, progress=lambda event: print(event, flush=True)
)
