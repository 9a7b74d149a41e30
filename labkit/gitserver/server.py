"""HTTP in front of git: who may ask, what for, and one line a request in the log.

Reading takes the password as much as writing does.  What a request means is ``backend``'s
to say and its body is ``body``'s; whether the password is right is asked before either.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hmac
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any

from . import backend, body
from .config import USER, Config
from .repositories import GitError, Repositories

MAX_CONNECTIONS = 32
MAX_AT_WORK = 6
REALM = 'Basic realm="Git", charset="UTF-8"'
_SPARE = 1024 * 1024  # bytes of a body that are kept beyond a pack's limit: what is around it
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LINGER = 1024 * 1024  # bytes of a refused body that are read, so that the refusal is heard


class GitServer(ThreadingHTTPServer):
    """Holds what every request needs; bounded in connections and in git's processes."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, repositories: Repositories, *, log: Callable[[str], None]) -> None:
        self.repositories = repositories
        self.config: Config = repositories.config
        self.log = log
        self.last_health = 0
        self.at_work = threading.BoundedSemaphore(MAX_AT_WORK)
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__((self.config.host, self.config.port), Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's reverse look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            self.log("refused a connection: too many are open")
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to say: a client that went away in mid-answer is no event."""

    @contextlib.contextmanager
    def busy(self) -> Any:
        """While a request is being carried out; see ``wait_idle``."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def wait_idle(self, *, timeout: float) -> None:
        """Return when no request is being carried out, or after ``timeout`` seconds."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout)

    def admits(self, authorization: str) -> bool:
        """Whether a request's Authorization field has the password.  Raises OSError when there
        is no password to compare with."""
        password = self.config.password_file.read_bytes().strip()
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        known = hmac.compare_digest(given, f"{USER}:".encode() + password)
        return known and bool(password) and scheme.lower() == "basic"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: GitServer
    server_version = "git-server"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds for each piece of a request to arrive, and of an answer to be taken
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self._parts()[0] == "/healthz":
            self._say(HTTPStatus.OK, "ok")
        else:
            self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        """Make a repository empty again: git itself has no request for that."""
        if not self._is_admitted():
            return
        name = self._parts()[0].removeprefix("/").removesuffix(".git")
        if self.server.repositories.path(name) is None:
            self._refuse(HTTPStatus.NOT_FOUND, self._nothing())
            return
        try:
            self.server.repositories.empty(name)
        except (GitError, OSError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return
        self._say(HTTPStatus.OK, f"{name}.git is empty")

    # One request of git's

    def _serve(self) -> None:
        with self.server.busy():
            if not self._is_admitted():
                return
            call = backend.parse(self.command, *self._parts())
            if call is None or self.server.repositories.path(call.name) is None:
                self._refuse(HTTPStatus.NOT_FOUND, self._nothing())
                return
            # Not in /tmp, which may be memory.
            with tempfile.TemporaryFile(dir=self.server.config.folder, prefix=".body-") as file:
                if (came := self._save_body(file)) is not None:
                    self._carry_out(call, file, came)

    def _is_admitted(self) -> bool:
        try:
            if self.server.admits(self.headers.get("Authorization", "")):
                return True
        except OSError as error:
            self.server.log(f"the password cannot be read: {error.strerror}")
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "this server has no password yet")
            return False
        self._refuse(
            HTTPStatus.UNAUTHORIZED, "a user and a password are needed", WWW_Authenticate=REALM
        )
        return False

    def _save_body(self, file: IO[bytes]) -> int | None:
        """How many bytes came; None when there is nobody to answer, or it was refused."""
        limit = self.server.config.max_push + _SPARE
        try:
            body.check(self.headers)
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(HTTPStatus.CONTINUE)
                self.end_headers()
            came = body.save(self.rfile, self.headers, file, limit=limit)
        except body.BadBody as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return None
        except (body.Cut, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, "this server's disk is full")
                return None
            self.close_connection = True
            self._log(f"{self._shown_path()} the client went away in the middle of its request")
            return None
        file.seek(0)
        return came

    def _carry_out(self, call: backend.Call, file: IO[bytes], came: int) -> None:
        length = min(came, self.server.config.max_push + _SPARE)
        client = backend.Client(
            self.address_string(),
            content_type=self.headers.get("Content-Type", ""),
            content_encoding=self.headers.get("Content-Encoding", ""),
            protocol=self.headers.get("Git-Protocol", ""),
        )
        started, sent = time.monotonic(), 0
        with self.server.at_work:
            try:
                answer = backend.run(self.server.config, call, client, file, length)
            except (backend.NoAnswer, OSError) as error:
                self.server.log(str(error))
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "git gave no answer")
                return
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            is_chunked = self.request_version >= "HTTP/1.1"
            if is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.close_connection = True
            self._write(b"", self.end_headers)
            for block in answer.blocks:
                sent += len(block)
                # To the end, though nobody may listen any more: what was pushed is being stored.
                self._write(b"%x\r\n%b\r\n" % (len(block), block) if is_chunked else block)
            if is_chunked:
                self._write(b"0\r\n\r\n")
        seconds = time.monotonic() - started
        self._log(f"{call} {int(answer.status)} in {came} out {sent} bytes, {seconds:.2f} s")

    def _write(self, data: bytes, before: Callable[[], None] = lambda: None) -> None:
        try:
            before()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    # How it is answered otherwise

    def _parts(self) -> tuple[str, str]:
        """The path and the query; the path also of a target as a forward proxy is asked."""
        path, _, query = self.path.partition("?")
        if path.startswith("http://"):
            path = "/" + path.removeprefix("http://").partition("/")[2]
        return path, query

    def _nothing(self) -> str:
        known = ", ".join(f"/{name}.git" for name in self.server.config.names)
        return f"there is nothing at this path; repositories: {known}"

    def _say(self, status: HTTPStatus, line: str, **headers: str) -> None:
        data = f"{line}\n".encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self._write(b"", self.end_headers)
        self._write(data)
        if self._parts()[0] != "/healthz" or self.server.last_health != status:
            self._log(f"{self._shown_path()} {int(status)}")
        if self._parts()[0] == "/healthz":
            self.server.last_health = int(status)

    def _refuse(self, status: HTTPStatus, line: str, **headers: str) -> None:
        """Say no and close; read a little of what is still coming, or it would not be heard."""
        self.close_connection = True
        self._say(status, line, Connection="close", **headers)
        if self.command == "POST":
            with contextlib.suppress(OSError):
                self.connection.settimeout(1.0)
                left = _LINGER
                while left > 0 and (data := self.rfile.read1(body.BLOCK)):
                    left -= len(data)

    def _shown_path(self) -> str:
        path = self._parts()[0]
        return (path if path.isprintable() and path.isascii() else ascii(path)[1:-1])[:120]

    def _log(self, line: str) -> None:
        method = self.command if (self.command or "").isalpha() else "?"
        self.server.log(f"{self.address_string()} {method[:16]} {line}")

    # What http.server would do in its own way

    def handle_expect_100(self) -> bool:
        """Not yet: who may not push is told so before anything is sent."""
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that could not be understood, without echoing any of it."""
        self.command, self.path = "?", "-"
        self.request_version = "HTTP/1.1"
        self._refuse(HTTPStatus(code), HTTPStatus(code).phrase.lower())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Each request is logged when it is done."""

    def log_message(self, format: str, *args: Any) -> None:
        """Drop http.server's own remarks: they quote the request."""
