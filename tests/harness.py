"""Labs in processes of their own, to be interrupted, killed and counted.

The command that starts a lab is a real process, as ``labkit up`` or a notebook's kernel
is; whatever belongs to it is found by the path of its state folder, which each of a
lab's processes has in its arguments or its environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from labkit.paths import cache_dir

REPO = Path(__file__).parent.parent

KERNEL = """
import sys, time
from labkit import launch
from labkit.kube import Kube
from labkit.paths import LabPaths

name, stay = sys.argv[1], sys.argv[2:] == ["stay"]
record = launch.bring_up(name, on_progress=lambda line: print(line, flush=True))
print("up", record.guardian.pid, flush=True)
if stay:
    kube = Kube.from_kubeconfig(LabPaths.of(name).kubeconfig)
    kube.apply({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": "default"},
        "spec": {"containers": [{
            "name": "sleeper", "image": "busybox", "command": ["sleep", "1000"],
            "env": [{"name": "MARK", "value": str(LabPaths.of(name).root)}],
        }]},
    })
    while kube.get("v1", "Pod", "sleeper", "default")["status"].get("phase") != "Running":
        time.sleep(0.05)
    print("runs a pod", flush=True)
    time.sleep(600)
"""
"""Brings a lab up; with ``stay`` runs a pod in it and then lives on, as a kernel does."""


def until(is_met: Callable[[], object], what: str = "", *, timeout: float = 60.0) -> None:
    """Poll a condition that nothing can be waited on for."""
    deadline = time.monotonic() + timeout
    while not is_met():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Home:
    """A state folder and a temp folder of one's own, and commands that use them."""

    def __init__(self, state: Path, temporary: Path, cache: Path) -> None:
        self.state = state
        self.temporary = temporary
        self.cache = cache
        self.env = {
            **os.environ,
            "LABKIT_STATE": str(state),
            "LABKIT_CACHE": str(cache),
            "TMPDIR": str(temporary),
        }
        self.commands: list[subprocess.Popen[str]] = []

    def begin(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start ``labkit WORDS``, or ``kernel NAME [stay]`` (see ``KERNEL``)."""
        argv = ["-c", KERNEL, *words[1:]] if words[0] == "kernel" else ["-m", "labkit", *words]
        command = subprocess.Popen(
            [sys.executable, *argv],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.commands.append(command)
        return command

    def run(self, *words: str, **env: str) -> tuple[int, str]:
        """Run to the end: the exit code and all that was printed."""
        command = self.begin(*words, **env)
        said, _ = command.communicate(timeout=180)
        return command.returncode, said

    def record(self, name: str) -> dict[str, object]:
        return json.loads((self.state / name / "lab.json").read_text())

    def pid_of(self, role: str, name: str) -> int | None:
        """The living guardian or supervisor, as the ledger has it."""
        try:
            lines = (self.state / name / "ledger").read_text().splitlines()
        except OSError:
            return None
        pids = [int(line.split()[0]) for line in lines if line.endswith(f" {role}")]
        return next((pid for pid in pids if pid in self.living()), None)

    def living(self) -> dict[int, str]:
        """Every process of these labs that is no command of the test's."""
        mine = {os.getpid(), *(command.pid for command in self.commands)}
        mark = str(self.state)
        found = {}
        for process in psutil.process_iter():
            try:
                if process.pid in mine or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                argv = process.cmdline()
                words = [*argv, *process.environ().values()]
            except psutil.Error:
                continue
            if any(mark in word for word in words):
                found[process.pid] = " ".join(argv[:4])
        return found

    def is_empty(self) -> bool:
        return not self.living()

    def close(self) -> None:
        for command in self.commands:
            if command.poll() is None:
                command.kill()
            command.communicate()
        for folder in self.state.glob("*/"):
            self.run("down", "--name", folder.name)
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def home(*, long: bool = False, cold: bool = False) -> Iterator[Home]:
    """A place for labs.

    ``long``: its path has no room for unix sockets.  ``cold``: its cache has the programs,
    and nothing that is derived from them.
    """
    with tempfile.TemporaryDirectory(prefix="lk", ignore_cleanup_errors=True) as folder:
        state = Path(folder) / ("long" * 30 if long else "s")
        temporary = Path(folder) / "t"
        temporary.mkdir()
        cache = cache_dir().absolute()
        if cold:
            programs, cache = cache / "programs", Path(folder) / "c"
            cache.mkdir()
            (cache / "programs").symlink_to(programs)
        place = Home(state, temporary, cache)
        try:
            yield place
        finally:
            place.close()
