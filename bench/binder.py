"""``python -m bench.binder``: what Binder does, rehearsed on this machine.

As root, on Linux: a fresh clone in the clean home of an ordinary user, everything below a
memory limit of 2 GB and on one CPU, from an empty environment.  The environment is a virtual
one where Binder makes a conda one; ``postBuild`` and ``start`` are run as they are.  Then the
workspace is asked for over HTTP, and the notebooks of lessons 00 to 06 are run with their
solutions.  Prints the time of each step and the most memory that processes held.  (The page
cache counts against the limit, too, fills what is left of it, and gives way.)
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from bench.sandbox import until
from labkit.errors import WaitTimeout

REPO = Path(__file__).parent.parent
GIGABYTE = 10**9
_LESSONS = ("00", "01", "02", "03", "04", "05", "06")
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cgroup:
    """A memory limit for whatever is started in it (cgroup version 1 or 2)."""

    folder: Path
    is_v1: bool

    @classmethod
    def make(cls, name: str, limit: int) -> Cgroup:
        """``limit`` in bytes.  Needs root."""
        is_v1 = _V1.is_dir()
        found = cls((_V1 if is_v1 else _V2) / name, is_v1)
        found.folder.mkdir(exist_ok=True)
        (found.folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(limit))
        return found

    def join(self) -> None:
        """Put this process into it."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def in_use(self) -> int:
        """Bytes that cannot be dropped: what processes hold, without the page cache."""
        name = "total_rss" if self.is_v1 else "anon"
        text = (self.folder / "memory.stat").read_text()
        found = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def kills(self) -> int:
        """How many processes the limit has cost."""
        name = "memory.oom_control" if self.is_v1 else "memory.events"
        found = re.search(r"^oom_kill (\d+)$", (self.folder / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


@dataclass
class Rehearsal:
    """One ordinary user's container, as far as a machine without containers can be one."""

    user: str
    home: Path
    cgroup: Cgroup
    rows: list[tuple[str, float, int]] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return self.home / "env" / "bin"

    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "USER": self.user,
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        }

    def start(self, argv: Sequence[str | Path], **more: object) -> subprocess.Popen[str]:
        entry = pwd.getpwnam(self.user)
        one_cpu = min(os.sched_getaffinity(0))

        def enter() -> None:
            self.cgroup.join()
            os.sched_setaffinity(0, {one_cpu})
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)

        options: dict[str, Any] = {"cwd": self.home / "repo", "env": self.env(), **more}
        return subprocess.Popen(argv, preexec_fn=enter, text=True, **options)

    def run(self, argv: Sequence[str | Path], **more: object) -> None:
        code = self.start(argv, **more).wait()
        if code:
            raise SystemExit(f"{' '.join(map(str, argv))} ended with {code}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and note the most memory that was in use, looked at four times a second."""
        over, peak = threading.Event(), 0

        def look() -> None:
            nonlocal peak
            while not over.wait(0.25):
                peak = max(peak, self.cgroup.in_use())

        looking = threading.Thread(target=look)
        began = time.monotonic()
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
        self.rows.append((name, time.monotonic() - began, peak))
        print(_row(*self.rows[-1]), flush=True)


_PASSED_ON = ("PIP_INDEX_URL", "PIP_CONFIG_FILE", "GOPROXY", "GONOSUMDB", "GOSUMDB", "GOFLAGS",
              "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "LABKIT_PACKS", "SSL_CERT_FILE")  # fmt: skip


def _row(name: str, seconds: float, peak: int) -> str:
    return f"{name:<44} {seconds:7.1f} s  {peak / 2**20:6.0f} MiB"


def rehearse(
    pack: Annotated[str, typer.Option(help="A pack; without one the programs are built.")] = "",
    user: Annotated[str, typer.Option(help="An ordinary user of this machine.")] = "nobody",
    memory: Annotated[float, typer.Option(help="GB.")] = 2.0,
    python: Annotated[str, typer.Option(help="A Python that this user may run.")] = "python3",
) -> None:
    """Build and run as Binder would; see the module."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        raise SystemExit("The rehearsal needs root on Linux, to become another user in a cgroup.")
    home = Path("/home") / f"binder-{os.getpid()}"
    cgroup = Cgroup.make(home.name, int(memory * GIGABYTE))
    rehearsal = Rehearsal(user, home, cgroup)
    try:
        _prepare(home, user, pack)
        if pack:
            os.environ["LABKIT_PACKS"] = str(home / "packs" / Path(pack).name)
        _build(rehearsal, python)
        _launch(rehearsal)
    except WaitTimeout as error:
        raise SystemExit(str(error)) from error
    finally:
        _end(cgroup)
        shutil.rmtree(home, ignore_errors=True)
    print(f"killed for memory: {cgroup.kills()}")
    cgroup.folder.rmdir()


def _prepare(home: Path, user: str, pack: str) -> None:
    home.mkdir(mode=0o755)
    subprocess.run(["git", "clone", "--quiet", REPO, home / "repo"], check=True)
    if pack:
        (home / "packs").mkdir()
        shutil.copy(pack, home / "packs")
    subprocess.run(["chown", "-R", f"{user}:", home], check=True)


def _build(box: Rehearsal, python: str) -> None:
    lock = box.home / "repo" / "requirements.lock"
    with box.step("environment (the lock, by hash)"):
        box.run([python, "-m", "venv", box.home / "env"])
        box.run(
            [box.bin / "pip", "install", "--quiet", "--no-cache-dir", "--require-hashes",
             "--disable-pip-version-check", "-r", lock]
        )  # fmt: skip
    with box.step("binder/postBuild"):
        box.run([box.home / "repo" / "binder" / "postBuild"])


def _launch(box: Rehearsal) -> None:
    log = box.home / "jupyter.log"
    with log.open("w") as out:
        with box.step("binder/start, JupyterLab answers"):
            server = box.start(
                [box.home / "repo" / "binder" / "start", "jupyter", "lab", "--ip=127.0.0.1",
                 "--no-browser", "--ServerApp.port=0"],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
            address = re.compile(r"(http://127\.0\.0\.1:\d+)/\S*token=(\w+)")
            until(lambda: bool(address.search(log.read_text())), what="its address", limit=180)
        found = address.search(log.read_text())
        assert found  # noqa: S101 - it was there
        with box.step("the lab is ready, from the same moment on"):
            until(lambda: _is_up(box), what="the lab", limit=180, pause=0.2)
        answer = requests.get(
            f"{found[1]}/lab/api/workspaces/labkit",
            headers={"Authorization": f"token {found[2]}"},
            timeout=30,
        )
        answer.raise_for_status()
        print("workspace:", answer.json()["data"]["layout-restorer:data"]["main"]["current"])
    notebooks = box.home / "repo" / "notebooks"
    for lesson in _LESSONS:
        (notebook,) = notebooks.glob(f"{lesson}-*.ipynb")
        with box.step(f"papermill {notebook.name}, with solutions"):
            box.run(
                [box.bin / "papermill", "--no-progress-bar", "--log-level", "ERROR",
                 notebook, box.home / notebook.name],
                cwd=notebooks, env={**box.env(), "LABKIT_SOLVE": "1"},
            )  # fmt: skip
    box.run([box.bin / "labkit", "down", "--all"])
    server.send_signal(signal.SIGTERM)
    server.wait(30)


def _is_up(box: Rehearsal) -> bool:
    return box.start([box.bin / "labkit", "status"], stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL).wait() == 0  # fmt: skip


def _end(cgroup: Cgroup) -> None:
    """End whatever is left in the rehearsal's own cgroup."""
    deadline = time.monotonic() + 20
    while pids := (cgroup.folder / "cgroup.procs").read_text().split():
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)


if __name__ == "__main__":
    typer.run(rehearse)
