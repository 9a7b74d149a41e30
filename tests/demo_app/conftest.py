"""The demo application, started on a folder of the test's own, and ended after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_app_process import App, Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "secrets")


@pytest.fixture
def start(tmp_path: Path, volume: Volume) -> Iterator[Callable[..., App]]:
    """Start the application on the volume, with more settings as keywords."""
    running: list[App] = []

    def launch(**env: str) -> App:
        log = tmp_path / f"app-{len(running)}.log"
        running.append(App(log, **{"SECRETS_DIR": str(volume.path), **env}))
        return running[-1]

    yield launch
    for app in running:
        if app.process.poll() is None:
            app.process.kill()
            app.process.wait()
        assert "Traceback" not in app.log.read_text(errors="replace")
