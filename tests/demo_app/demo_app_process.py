"""The application as a real process, and a folder that changes as a mounted Secret does."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labkit

DEMO_APP = Path(labkit.__file__).parent / "demo_app"
CREDENTIALS = 'db_con="jdbc:mysql://mysql:3306/shop"\ndb_user="demo_user"\ndb_password="{}"\n'


def wait_for(happened: Callable[[], Any], *, timeout: float = 10) -> Any:
    """The first true answer of ``happened``; fails the test after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return answer


class Volume:
    """A folder that is written the way a kubelet writes a Secret volume."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "credentials"
        self._count = 0

    def swap(self, content: str | bytes) -> float:
        """Put new content in place by one rename; returns its time in unix seconds."""
        self.path.mkdir(exist_ok=True)
        self._count += 1
        folder = self.path / f"..2026_01_01_00_00_00.{self._count:010d}"
        folder.mkdir()
        data = content.encode() if isinstance(content, str) else content
        (folder / "credentials").write_bytes(data)
        link, new_link = self.path / "..data", self.path / "..data_tmp"
        old = link.readlink() if link.is_symlink() else None
        new_link.symlink_to(folder.name)
        at = time.time()
        new_link.rename(link)
        if old is None:
            self.file.symlink_to("..data/credentials")
        else:
            shutil.rmtree(self.path / old)
        return at


class App:
    """A running demo application."""

    def __init__(self, log: Path, **env: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(DEMO_APP)],
                env={"PORT": "0", **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        line = wait_for(lambda: next((x for x in self.lines() if "listening on" in x), None))
        self.port = int(line.split("listening on http://127.0.0.1:")[1].split("/")[0])

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def request(
        self, method: str, path: str, *, body: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

    def get(self, path: str) -> Any:
        status, _, data = self.request("GET", path)
        assert status == 200, data
        return json.loads(data)

    def ready(self) -> tuple[int, str]:
        status, _, data = self.request("GET", "/health/ready")
        return status, data.decode().strip()

    def password(self) -> str:
        return str(self.get("/api/credentials?reveal=1")["values"]["db_password"])

    def history(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.get("/api/history") if entry["event"] == event]

    def wait_version(self, version: int) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.get("/api/credentials")
            return shown if shown["version"] >= version else None

        found: dict[str, Any] = wait_for(reached)
        return found

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
        """The open event stream: (event, data) as they come; it has said hello already."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/api/events")
        with connection.getresponse() as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"

            def follow() -> Iterator[tuple[str, dict[str, Any]]]:
                name = ""
                for line in answer:
                    field, _, value = line.decode().strip().partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield name, json.loads(value)

            stream = follow()
            assert next(stream)[0] == "hello"
            yield stream
        connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(5)
