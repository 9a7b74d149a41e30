"""Start and stop the lab's control plane, and print how long each took.

The counterpart of the program ``envtest-bench``, which does the same with
controller-runtime's envtest: one process, the same binaries, measured from the call that
starts it up to a first answered list of namespaces.  One JSON object goes to stdout:
{"ready": [seconds per start], "stop": [seconds per stop]}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from labkit import programs
from labkit.cluster import controlplane
from labkit.paths import LabPaths


async def once(golden: Path | None, *, controllers: bool) -> tuple[float, float]:
    """Seconds to ready and seconds to stopped of one control plane."""
    found = {name: programs.resolve(name) for name in controlplane.PROGRAMS}
    with tempfile.TemporaryDirectory(prefix="lkp") as folder:
        root = Path(folder)
        plane = controlplane.ControlPlane(
            LabPaths("bench", root), found, run=root / "run", golden=golden, controllers=controllers
        )
        began = time.monotonic()
        try:
            await plane.start()
            status, _ = await plane.client.call("GET", f"{plane.server}/api/v1/namespaces")
            ready = time.monotonic() - began
            if status != 200:
                raise SystemExit(f"plane_driver: the first list was answered with {status}")
        finally:
            stopping = time.monotonic()
            await plane.stop()
            stop = time.monotonic() - stopping
        return ready, stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1, help="how many times to start and stop")
    parser.add_argument("--golden", type=Path, help="a golden snapshot to begin with")
    parser.add_argument("--controllers", action="store_true", help="the controller manager too")
    options = parser.parse_args()
    took = [
        asyncio.run(once(options.golden, controllers=options.controllers)) for _ in range(options.n)
    ]
    print(json.dumps({"ready": [pair[0] for pair in took], "stop": [pair[1] for pair in took]}))


if __name__ == "__main__":
    main()
