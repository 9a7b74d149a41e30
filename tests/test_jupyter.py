"""The lab inside JupyterLab, through a real Jupyter server: who gets in, and what is there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from harness import until

from labkit import position, vault
from labkit.jupyter import waiting, workspace
from labkit.jupyter.vaultdoor import rewritten
from labkit.lab import Lab
from labkit.position import Position

REPO = Path(__file__).parent.parent
BASE = "/user/ann/"  # as JupyterHub and Binder have it
TOKEN = "a-token-of-this-test"
SIGNED_IN = {"Authorization": f"token {TOKEN}"}

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def jupyter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a Jupyter server with the extension, asked under any host's name."""
    home = tmp_path_factory.mktemp("jupyter")
    configuration = home / "etc" / "jupyter_server_config.d"
    configuration.mkdir(parents=True)
    enabled = (REPO / "labkit/_jupyter/jupyter_server_config.json").read_text()
    (configuration / "labkit.json").write_text(enabled)
    notebooks = home / "notebooks"
    notebooks.mkdir()
    (notebooks / "00-start-here.ipynb").write_text("{}")
    log = (home / "jupyter.log").open("w")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
            *(f"--ServerApp.base_url={BASE}", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"),
            *(f"--ServerApp.root_dir={notebooks}", "--ServerApp.allow_remote_access=True"),
        ],
        cwd=home,
        env={
            **os.environ,
            "LABKIT_LAB": lab.name,
            "JUPYTER_TOKEN": TOKEN,
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_CONFIG_PATH": str(home / "etc"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = re.compile(r"http://127\.0\.0\.1:\d+/user/ann/")
    try:
        until(
            lambda: address.search(Path(log.name).read_text()),
            "Jupyter's server has an address",
            timeout=60,
        )
        found = address.search(Path(log.name).read_text())
        assert found, Path(log.name).read_text()
        url = found[0]
        until(lambda: _answers(url), "it answers, which it tells a little too early")
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        log.close()


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}api", timeout=10).ok
    return False


def test_nobody_gets_in_without_jupyters_token(jupyter: str) -> None:
    for path in ("labkit/app/", "labkit/app/api/credentials?reveal=1", "labkit/vault/ui/"):
        answer = requests.get(jupyter + path, allow_redirects=False, timeout=10)
        assert answer.status_code in {302, 403}, path
        assert "db_password" not in answer.text
    assert requests.get(jupyter + "labkit/api/status", timeout=10).status_code == 403
    told = {"version": 1, "client": "stranger"}
    answer = requests.post(
        jupyter + "labkit/app/api/ack", json=told, allow_redirects=False, timeout=10
    )
    assert answer.status_code in {302, 403}


def test_the_page_works_below_a_prefix_and_under_another_name(jupyter: str, lab: Lab) -> None:
    headers = {**SIGNED_IN, "Host": "hub.example.org"}
    page = requests.get(jupyter + "labkit/app/", headers=headers, timeout=10)
    assert page.status_code == 200
    assert "<title>Database connection</title>" in page.text
    # Only pages of the same origin (and of this machine) may put it into a frame.
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    shown = requests.get(jupyter + "labkit/app/api/credentials", headers=headers, timeout=10).json()
    told = {"version": shown["version"], "client": "through-the-door"}
    own = {**headers, "Origin": "https://hub.example.org"}
    answer = requests.post(jupyter + "labkit/app/api/ack", json=told, headers=own, timeout=10)
    assert answer.json() == {"recorded": True}
    acks = [event["client"] for event in lab.app.history() if event["event"] == "ack"]
    assert "through-the-door" in acks
    strange = {**headers, "Origin": "https://evil.example"}
    answer = requests.post(jupyter + "labkit/app/api/ack", json=told, headers=strange, timeout=10)
    assert answer.status_code == 403


def test_events_pass_as_they_come_and_end_with_the_page(jupyter: str, lab: Lab) -> None:
    url = f"{jupyter}labkit/labs/{lab.name}/app/api/events"
    headers = {**SIGNED_IN, "Accept": "text/event-stream"}
    with requests.get(url, headers=headers, stream=True, timeout=20) as stream:
        lines = stream.iter_lines(chunk_size=1)
        assert b"event: hello" in [next(lines) for _ in range(3)]
        version = lab.app.credentials()["version"]
        lab.journey(client="test-jupyter")
        news = b""
        while b"event: reloaded" not in news:
            news = next(lines)
        assert json.loads(next(lines).removeprefix(b"data: "))["version"] > version


def test_where_there_is_no_application_it_says_what_to_do(jupyter: str) -> None:
    url = jupyter + "labkit/labs/nobody/app/"
    page = requests.get(url, headers={**SIGNED_IN, "Accept": "text/html"}, timeout=10)
    assert page.status_code == 503
    assert "The lab is not running" in page.text
    assert "<code>labkit up</code>" in page.text
    words = requests.get(url, headers=SIGNED_IN, timeout=10)
    assert (words.status_code, words.json()["what"]) == (503, "The lab is not running")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"running": False}, "The lab is not running"),
        ({"lesson": 3}, "There is no application yet"),
        ({}, "There is no application"),
        ({"app": True}, "The application does not answer"),
    ],
)
def test_each_reason_has_its_words(changed: dict[str, object], expected: str) -> None:
    status = {"running": True, "app": False, "lesson": None, **changed}
    what, todo = waiting.words(status)
    assert what == expected
    assert todo.endswith(".")


def test_the_status_is_what_labkit_says(jupyter: str, lab: Lab) -> None:
    def told() -> dict[str, object]:
        answer = requests.get(jupyter + "labkit/api/status", headers=SIGNED_IN, timeout=20)
        found: dict[str, object] = answer.json()
        return found

    assert told().items() >= {"name": lab.name, "running": True, "ready": True, "app": True}.items()
    here = lab.position
    position.write(lab.paths.position, Position(lesson=5))
    try:
        until(lambda: told()["lesson"] == 5, "the status tells the lesson")
    finally:
        position.write(lab.paths.position, here)


def test_vaults_interface_stands_below_the_prefix(jupyter: str, lab: Lab) -> None:
    if lab.engine.name != "openbao":
        pytest.skip("this engine's build has no interface")
    page = requests.get(jupyter + "labkit/vault/", headers=SIGNED_IN, timeout=20)
    assert page.url.endswith("/user/ann/labkit/vault/ui/")
    assert f'<script src="{BASE}labkit/vault/door.js"></script>' in page.text
    assert '"/ui/' not in page.text
    (style,) = re.findall(r'href="([^"]*/vault\.css)"', page.text)
    host = jupyter.removesuffix(BASE)
    assert requests.get(host + style, headers=SIGNED_IN, timeout=20).status_code == 200
    # It asks Vault as the visitor: nothing is added at the door.
    secret = jupyter + f"labkit/vault/v1/secret/data/{vault.KEY}"
    assert requests.get(secret, headers=SIGNED_IN, timeout=20).status_code == 403
    visitor = {**SIGNED_IN, "X-Vault-Token": lab.paths.vault_token.read_text()}
    assert requests.get(secret, headers=visitor, timeout=20).status_code == 200


def test_vaults_addresses_are_rewritten() -> None:
    page = b'<head><meta content="%2Fui%2F"><a href="/ui/a">%22/ui/b'
    assert rewritten(page, "text/html", "/x/vault") == (
        b'<head><script src="/x/vault/door.js"></script><meta content="%2Fx%2Fvault%2Fui%2F">'
        b'<a href="/x/vault/ui/a">%22/x/vault/ui/b'
    )
    assert rewritten(b"url(/ui/a.svg)", "text/css", "/x") == b"url(/x/ui/a.svg)"


def test_the_workspace_is_offered_once_and_names_what_is_there(
    jupyter: str, tmp_path: Path
) -> None:
    answer = requests.get(jupyter + "lab/api/workspaces/labkit", headers=SIGNED_IN, timeout=10)
    assert "notebook:00-start-here.ipynb" in answer.json()["data"]
    assert workspace.content(tmp_path) is None
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00-start-here.ipynb").write_text("{}")
    found = json.loads(workspace.content(tmp_path) or "")
    assert found["metadata"]["id"] == workspace.NAME
    assert found["data"]["notebook:notebooks/00-start-here.ipynb"]["data"]["factory"] == "Notebook"


def test_a_prebuilt_extension_needs_no_build() -> None:
    folder = REPO / "labkit/_jupyter/labextension"
    about = json.loads((folder / "package.json").read_text())
    assert (folder / about["jupyterlab"]["_build"]["load"]).is_file()
    for script in (folder / "static").glob("*.js"):
        assert "http://" not in script.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in script.read_text()
