"""The application over HTTP: the page, its data, the event stream, and the health checks.

Answers from the store and the journal and changes neither, but for the pages'
acknowledgements.  Every URL on the page is relative, so it works below any prefix that a
proxy puts in front.  The log tells the path without its query, and never a value.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import guard
from .credentials import MASK, is_secret, masked
from .journal import Event
from .store import PASSWORD, OtherSource, Store

HEARTBEAT = 15.0  # seconds between comments on a quiet event stream
MAX_BODY = 4096
MAX_CONNECTIONS = 64
MAX_STREAMS = 32

_PAGE = Path(__file__).parent / "page"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_CLIENT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STREAMED = frozenset({"loaded", "reloaded", "load-failed", "recovered", "ack"})


class AppServer(ThreadingHTTPServer):
    """Holds what every request needs; bounded in connections, streams and time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, store: Store, *, log: Callable[[str], None]) -> None:
        config = store.config
        self.store = store
        self.journal = store.journal
        self.log = log
        self.started_at = time.time()
        self.files = {
            "/" if path.name == "index.html" else f"/{path.name}": (
                f"{_TYPES[path.suffix[1:]]}; charset=utf-8",
                path.read_bytes(),
            )
            for path in _PAGE.iterdir()
            if path.suffix[1:] in _TYPES
        }
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)
        self.last_health: dict[str, int] = {}
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open = 0
        self._idle = threading.Condition()
        if ":" in config.host:
            self.address_family = socket.AF_INET6
        super().__init__((config.host, config.port), Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def url(self) -> str:
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            self.log("refused a connection: too many are open")
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._idle:
            self._open += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()
            with self._idle:
                self._open -= 1
                self._idle.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to say: a client that went away in mid-answer is no event."""

    def wait_idle(self, *, timeout: float) -> None:
        """Return when no connection is being served, or after ``timeout`` seconds."""
        with self._idle:
            self._idle.wait_for(lambda: self._open == 0, timeout)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: AppServer
    server_version = "demo-app"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds for a request to arrive, and for an answer to be taken
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self._path()
        if path.startswith("/health/"):
            self._health(path)
        elif not self._host_ok():
            return
        elif path in self.server.files:
            kind, data = self.server.files[path]
            self._answer(HTTPStatus.OK, data, kind)
        elif path == "/api/credentials":
            reveal = "reveal=1" in self.path.partition("?")[2].split("&")
            self._json(HTTPStatus.OK, self._credentials(reveal=reveal))
        elif path == "/api/history":
            self._json(HTTPStatus.OK, [event.as_json() for event in self.server.journal.events()])
        elif path == "/api/events":
            self._events()
        elif path == "/api/ack":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "POST only", Allow="POST")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this path")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = self._path()
        if not self._host_ok():
            return
        if path != "/api/ack":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "GET only", Allow="GET, HEAD")
        elif not guard.post_allowed(dict(self.headers)):
            self._refuse(HTTPStatus.FORBIDDEN, "this request comes from another site")
        else:
            self._ack()

    # What is answered

    def _health(self, path: str) -> None:
        state = self.server.store.state
        if path == "/health/live":
            self._text(HTTPStatus.OK, "live")
        elif path != "/health/ready":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this path")
        elif state.credentials is None:
            self._text(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {state.error}")
        elif state.error is not None:
            # The last good values are still served: taking the app out of service for a
            # broken file would turn a typing error into an outage.
            self._text(HTTPStatus.OK, f"ready with version {state.version}; {state.error}")
        else:
            self._text(HTTPStatus.OK, f"ready with version {state.version}")

    def _credentials(self, *, reveal: bool) -> dict[str, Any]:
        store = self.server.store
        state = store.state
        config = store.config
        values = state.credentials.values if state.credentials else {}
        lines = state.credentials.lines if state.credentials else {}
        path = str(config.credentials_file)
        return {
            "values": dict(values) if reveal else masked(values),
            "revealed": reveal,
            "secret_keys": [key for key in values if is_secret(key)],
            "sources": {key: {"path": path, "kind": "file", "line": lines[key]} for key in values},
            "version": state.version,
            "loaded_at": state.loaded_at,
            "file_changed_at": state.file_changed_at,
            "stale": state.stale,
            "error": state.error,
            "error_at": state.error_at,
            "file": {
                "path": path,
                "target": state.target,
                "fingerprint": store.fingerprint(values.get(PASSWORD)),
            },
            "watch": {"mode": config.watch_mode, "active": store.watch.active},
            "other_sources": [
                self._other_source(source, values.get(PASSWORD), reveal=reveal)
                for source in store.others
            ],
            "pid": os.getpid(),
            "started_at": self.server.started_at,
            "now": time.time(),
        }

    def _other_source(
        self, source: OtherSource, password: str | None, *, reveal: bool
    ) -> dict[str, Any]:
        known = source.value is not None
        return {
            "kind": source.kind,
            "where": source.where,
            "value": source.value if reveal or not known else MASK,
            "fingerprint": self.server.store.fingerprint(source.value),
            "matches_file": source.value == password if known else None,
            "changed_since_start": source.changed_since_start,
            "read_at": source.read_at,
            "error": source.error,
        }

    def _events(self) -> None:
        """Server-sent events until the page or the application goes."""
        if self.command == "HEAD":
            self._answer(HTTPStatus.OK, b"", "text/event-stream")
            return
        if not self.server.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
            return
        try:
            self.close_connection = True
            journal = self.server.journal
            number = journal.last_number
            hello = {"version": self.server.store.state.version, "pid": os.getpid()}
            self._head(HTTPStatus.OK, "text/event-stream", {"X-Accel-Buffering": "no"})
            self.wfile.write(b"retry: 1000\n" + _sse("hello", hello))
            while not journal.closed:
                news = journal.wait_after(number, timeout=HEARTBEAT)
                chunk = b"".join(_sse_event(event) for event in news if event.event in _STREAMED)
                if news:
                    number = news[-1].number
                if chunk or not news:
                    self.wfile.write(chunk or b": still here\n\n")
        finally:
            self.server.streams.release()

    def _ack(self) -> None:
        body = self._body()
        if body is None:
            return
        try:
            told = json.loads(body)
            version, client = told["version"], told["client"]
            rendered_at = told.get("rendered_at")
            known = self.server.store.state.version
            good = (
                type(version) is int
                and 1 <= version <= known
                and isinstance(client, str)
                and _CLIENT.fullmatch(client) is not None
                and (rendered_at is None or _is_time(rendered_at))
            )
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            good = False
        if not good:
            wanted = '{"version": a version that was loaded, "client": a name, "rendered_at": time}'
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected {wanted}")
            return
        new = self.server.journal.record_ack(version, client, rendered_at)
        self._json(HTTPStatus.OK, {"recorded": new})

    # How it is answered

    def _path(self) -> str:
        path = self.path.partition("?")[0]
        if path.startswith(("http://", "https://")):  # as asked of a forward proxy
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path

    def _host_ok(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) == 1 and guard.host_allowed(hosts[0], self.server.store.config.allowed_hosts):
            return True
        self._refuse(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this server does not go by that name; ALLOWED_HOSTS can list it",
        )
        return False

    def _body(self) -> bytes | None:
        """The body of a small JSON request; None when it was refused."""
        length = self.headers.get("Content-Length", "")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "a Content-Length is needed")
        elif len(length) > 9 or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes")
        elif kind != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        else:
            return self.rfile.read(int(length))
        return None

    def _json(self, status: HTTPStatus, content: Any) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _text(self, status: HTTPStatus, line: str) -> None:
        self._answer(status, f"{line}\n".encode(errors="replace"), "text/plain; charset=utf-8")

    def _refuse(self, status: HTTPStatus, line: str, **headers: str) -> None:
        """Say no, and close: what is left of the request has not been read."""
        self.close_connection = True
        data = f"{line}\n".encode()
        self._answer(status, data, "text/plain; charset=utf-8", Connection="close", **headers)

    def _answer(self, status: HTTPStatus, data: bytes, kind: str, **headers: str) -> None:
        self._head(status, kind, {"Content-Length": str(len(data)), **headers})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        ancestors = self.server.store.config.frame_ancestors
        headers = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
                f"require-trusted-types-for 'script'; frame-ancestors {ancestors}"
            ),
            **headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    # What http.server would do in its own way

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that could not be understood, without echoing any of it."""
        status = HTTPStatus(code)
        self.command = getattr(self, "command", None) or "GET"
        self.request_version = "HTTP/1.1"
        self._refuse(status, status.phrase.lower())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line: method, path without query, status.  Health checks only when they change."""
        status = int(code)
        path = self._path() if hasattr(self, "path") else "-"
        if path.startswith("/health/"):
            if self.server.last_health.get(path) == status:
                return
            if len(self.server.last_health) < 8:
                self.server.last_health[path] = status
        shown = path if path.isprintable() and path.isascii() else ascii(path)[1:-1]
        method = self.command if (self.command or "").isalpha() else "?"
        self.server.log(f"{self.address_string()} {method[:16]} {shown[:120]} {status}")

    def log_message(self, format: str, *args: Any) -> None:
        """Drop http.server's own remarks: they quote the request."""


def _sse(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _sse_event(event: Event) -> bytes:
    """A journal entry on the wire; a failed load goes by the name ``error``."""
    name = {"load-failed": "error", "loaded": "reloaded"}.get(event.event, event.event)
    return _sse(name, event.as_json())


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
