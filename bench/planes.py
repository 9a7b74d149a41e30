"""Control plane ready: the lab's way against controller-runtime's envtest.

Both drive the same etcd and kube-apiserver, each in a process of its own that measures
itself, by turns, so that a machine that is slow for a while is slow for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.results import Measure
from bench.sandbox import Say
from labkit import programs
from labkit.cluster import golden
from labkit.errors import LabError

_LIMIT = 120.0
_PEER = "envtest"


def measure(count: int, say: Say) -> list[Measure]:
    """``count`` starts of each, by turns.  Raises LabError when one fails."""
    found = programs.ensure(("etcd", "etcdutl", "kube-apiserver", "kube-controller-manager"))
    peer = programs.ensure(("envtest-bench",))["envtest-bench"]
    crds = programs.resolve("external-secrets").assets / "crds" / "bundle.yaml"
    snapshot = asyncio.run(golden.prepare(found, (crds,)))
    ours = (sys.executable, "-m", "bench.plane_driver")
    commands = {
        "envtest": (str(peer.path), "-n", "1"),
        "golden": (*ours, "--golden", str(snapshot)),
        "empty": ours,
        "whole": (*ours, "--golden", str(snapshot), "--controllers"),
    }
    ready: dict[str, list[float]] = {name: [] for name in commands}
    stop: dict[str, list[float]] = {name: [] for name in commands}
    with _assets(found) as assets:
        for turn in range(count):
            for name, argv in commands.items():
                took = _run(argv, {"KUBEBUILDER_ASSETS": str(assets)})
                ready[name] += took["ready"]
                stop[name] += took["stop"]
            say(f"control plane, turn {turn + 1} of {count}: " + _latest(ready))
    beside = tuple(ready["envtest"])
    return [
        _figure("plane", "control plane ready, as a lab starts it", ready["golden"], beside),
        _figure("plane-empty", "the same from an empty store", ready["empty"], beside),
        _figure("plane-whole", "the same with controllers running too", ready["whole"], beside),
        _figure("plane-stop", "control plane stopped", stop["golden"], tuple(stop["envtest"])),
    ]


def _figure(key: str, title: str, samples: list[float], peer: tuple[float, ...]) -> Measure:
    return Measure(key, title, "s", tuple(samples), peer_name=_PEER, peer=peer)


def _latest(ready: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {samples[-1]:.2f} s" for name, samples in ready.items())


@contextlib.contextmanager
def _assets(found: dict[str, programs.Program]) -> Iterator[Path]:
    """A folder as envtest wants it, with the lab's own binaries."""
    with tempfile.TemporaryDirectory(prefix="lka") as folder:
        for name in ("etcd", "kube-apiserver"):
            (Path(folder) / name).symlink_to(found[name].path)
        yield Path(folder)


def _run(argv: tuple[str, ...], env: dict[str, str]) -> dict[str, list[float]]:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, timeout=_LIMIT,
            env={**os.environ, **env},
        )  # fmt: skip
        took: dict[str, list[float]] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        raise LabError(
            f"{Path(argv[0]).name} {' '.join(argv[1:])} failed", seen=error.stderr.strip()[-600:]
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{Path(argv[0]).name} took longer than {_LIMIT:g} s") from error
    return took
