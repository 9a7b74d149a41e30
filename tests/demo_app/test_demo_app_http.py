"""The application over HTTP: masking, headers, guards, events, and a quick stop."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from demo_app_process import CREDENTIALS, DEMO_APP, App, Volume, wait_for

from labkit.demo_app.guard import host_allowed

Start = Callable[..., App]
ACK = {"Content_Type": "application/json"}


@pytest.fixture
def app(volume: Volume, start: Start) -> App:
    volume.swap(CREDENTIALS.format("topsecret"))
    return start()


def test_the_password_is_masked_until_it_is_asked_for_and_never_logged(app: App) -> None:
    assert app.get("/api/credentials")["values"]["db_password"] == "•" * 8
    assert app.get("/api/credentials?x=1&reveal=1")["values"]["db_password"] == "topsecret"
    for path in ("/api/history", "/health/ready", "/", "/api/credentials?reveal=10"):
        assert b"topsecret" not in app.request("GET", path)[2]
    log = app.log.read_text()
    assert "topsecret" not in log
    assert "reveal" not in log


def test_every_answer_has_strict_headers_and_the_page_only_relative_urls(app: App) -> None:
    for path, kind in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/app.css", "text/css"),
    ]:
        status, headers, data = app.request("GET", path)
        assert status == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert not re.search(
            rb"""(src|href|fetch\(|get\(|EventSource\()\s*=?\s*["'`](/|http)""", data
        )
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert policy.endswith("frame-ancestors 'self' http://127.0.0.1:* http://localhost:*")
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "X-Frame-Options" not in headers
        assert "Access-Control-Allow-Origin" not in headers
    assert b"<script>" not in app.request("GET", "/")[2]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/../config.py", 404),
        ("GET", "/page/index.html", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "//evil/app.js", 404),
        ("GET", "/health/other", 404),
        ("GET", "/api/ack", 405),
        ("POST", "/api/credentials", 405),
        ("DELETE", "/", 501),
        ("HEAD", "/", 200),
        ("HEAD", "/api/events", 200),
    ],
)
def test_there_is_nothing_but_what_is_meant(app: App, method: str, path: str, status: int) -> None:
    assert app.request(method, path)[0] == status


def test_a_stranger_s_name_is_refused(app: App) -> None:
    status, _, data = app.request("GET", "/api/credentials?reveal=1", Host="evil.example:80")
    assert status == 421
    assert b"topsecret" not in data
    assert app.request("GET", "/health/live", Host="evil.example")[0] == 200
    assert app.request("POST", "/api/ack", body="{}", Host="evil.example", **ACK)[0] == 421


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("localhost:8080", (), True),
        ("127.0.0.1:31234", (), True),
        ("[::1]:8080", (), True),
        ("10.244.0.7:8080", (), True),
        ("lab.localhost", (), True),
        ("gitops-secrets-service", (), True),
        ("gitops-secrets-service.default", (), True),
        ("gitops-secrets-service.demo:8080", (), True),
        ("gitops-secrets-service.any.svc.cluster.local.", (), True),
        ("gitops-secrets-service.dev", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("localhost.evil.example", (), False),
        ("evil.example@localhost", ("*",), False),
        ("", ("*",), False),
        ("hub.example.org", ("hub.example.org",), True),
        ("a.example.org:443", ("*.example.org",), True),
        ("example.org", ("*.example.org",), False),
        ("anything.example", ("*",), True),
    ],
)
def test_the_names_it_goes_by(host: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert host_allowed(host, allowed) is expected


def test_only_the_own_page_may_acknowledge(app: App) -> None:
    body = json.dumps({"version": 1, "client": "page-1", "rendered_at": time.time()})

    def post(text: str = body, **headers: str) -> int:
        return app.request("POST", "/api/ack", body=text, **{**ACK, **headers})[0]

    assert post(Origin="http://evil.example") == 403
    assert post(Origin="null") == 403
    assert post(Sec_Fetch_Site="cross-site") == 403
    assert post(Content_Type="text/plain") == 415
    assert post("x" * 5000) == 413
    assert post(Content_Length="1" * 400) == 413
    assert post(Transfer_Encoding="chunked", Content_Length="2") == 411
    for wrong in ("", "[]", "nonsense", "[" * 4000, '{"version": 1}'):
        assert post(wrong) == 400, wrong
    for change in (
        {"version": 2},
        {"version": True},
        {"version": 0},
        {"client": "<b>"},
        {"client": 7},
        {"rendered_at": 10**400},
        {"rendered_at": "now"},
    ):
        assert post(json.dumps({**json.loads(body), **change})) == 400, change
    assert not app.history("ack")
    assert post(Origin=f"http://127.0.0.1:{app.port}") == 200
    assert post(Sec_Fetch_Site="same-origin") == 200  # the same again: recorded once
    [ack] = app.history("ack")
    assert (ack["version"], ack["client"]) == (1, "page-1")
    for page in range(300):
        post(json.dumps({"version": 1, "client": f"flood-{page}"}))
    assert len(app.history("ack")) == 32
    assert app.history("loaded")


def test_open_pages_hear_of_reloads_errors_and_acks(app: App, volume: Volume) -> None:
    with app.events() as events, app.events() as others:
        volume.swap(CREDENTIALS.format("second"))
        name, data = next(events)
        assert (name, data["version"], data["changed"]) == ("reloaded", 2, ["db_password"])
        assert next(others) == (name, data)
        body = json.dumps({"version": 2, "client": "page-1"})
        assert app.request("POST", "/api/ack", body=body, **ACK)[0] == 200
        assert next(events)[0] == "ack"
        volume.swap("broken")
        name, data = next(events)
        assert (name, data["error"]) == ("error", 'line 1: expected key="value"')


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /\x1b[31m\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /api/ack HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99\r\n\r\n{",
    ],
)
def test_malformed_requests_do_no_harm(app: App, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"Traceback" not in answer
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert app.ready()[0] == 200
    assert "\x1b" not in app.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_quickly_with_streams_open(app: App, number: int) -> None:
    with app.events() as events:
        began = time.monotonic()
        assert app.stop(number) == 0
        assert time.monotonic() - began < 0.5
        assert next(events, None) is None
    assert app.lines()[-1].endswith("Z stopped")


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        ({"PORT": "http"}, 2, "PORT must be a number from 0 to 65535, not 'http'"),
        ({"PORT": "65536"}, 2, "PORT must be a number"),
        ({"WATCH_MODE": "always"}, 2, "WATCH_MODE must be folder, file or off"),
        ({"FRAME_ANCESTORS": "'self'; script-src *"}, 2, "FRAME_ANCESTORS is a list"),
        ({"SECRETS_DIR": "a\nb"}, 2, "SECRETS_DIR holds a line break"),
        ({"HOST": "192.0.2.1"}, 1, "cannot listen on 192.0.2.1:0"),
        ({"HOST": "no such host"}, 1, "cannot listen on"),
    ],
)
def test_a_bad_setting_is_one_clear_line(env: dict[str, str], code: int, message: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-S", DEMO_APP],
        env={"PORT": "0", **env},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode == code
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_is_one_clear_line(app: App) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "labkit.demo_app"],
        env={"PORT": str(app.port), "SECRETS_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.endswith("address already in use; set PORT or HOST\n")


def test_the_log_is_one_line_a_request_and_quiet_about_health(app: App) -> None:
    for _ in range(3):
        app.ready()
    app.request("GET", "/api/history?secret=1")
    wait_for(lambda: "GET /api/history 200" in app.log.read_text())
    assert [line for line in app.lines() if "/health/ready" in line] == [
        line for line in app.lines() if line.endswith("127.0.0.1 GET /health/ready 200")
    ][:1]
