"""What another user of the machine may try, all of it: run as that user, by test_classroom.

Reads what to try from standard input, as JSON, and writes each attempt with what it got to
standard output, one JSON object a line.  It knows more than a real intruder would: every
port, process, socket and file by name.  It also knows the secrets, and only to recognise them
in whatever it gets.  Standard library alone, so that it can be read at one sitting.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 5.0  # seconds for one answer
MOST = 4_000_000  # bytes read of anything

GETS = (
    "/",
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/metrics",
    "/configz",
    "/debug/pprof/",
    "/api",
    "/api/v1/secrets",
    "/api/v1/namespaces/demo/secrets/mysql-credentials",
    "/api/v1/namespaces/vault/services/vault:http/proxy/v1/sys/health",
    "/apis/external-secrets.io/v1/externalsecrets",
    "/openid/v1/jwks",
    "/pods",
    "/runningpods/",
    "/logs/",
    "/containerLogs/demo/gitops-secrets-deploy/app",
    "/exec/demo/gitops-secrets-deploy/app?command=env&output=1",
    "/api/credentials",
    "/api/credentials?reveal=1",
    "/health/ready",
    "/v1/sys/health",
    "/v1/sys/seal-status",
    "/v1/sys/mounts",
    "/v1/sys/host-info",
    "/v1/auth/token/lookup-self",
    "/v1/secret/data/mysql_credentials",
    "/ui/",
)
"""What the servers of a lab know, asked of each: who knows which is which may be wrong."""
THROUGH = (
    "http://vault.vault:8200/v1/secret/data/mysql_credentials",
    "http://gitops-secrets-service.demo/api/credentials?reveal=1",
)
"""What a forward proxy would fetch."""
REVIEW = json.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "x", "operation": "CREATE", "object": {"kind": "SecretStore"}},
    }
)
POSTS = {
    "/v3/kv/range": json.dumps({"key": "AA==", "range_end": "AA=="}),
    "/v1/auth/kubernetes/login": json.dumps({"role": "demo", "jwt": "a.b.c"}),
    "/validate-external-secrets-io-v1-secretstore": REVIEW,
    "/api/v1/namespaces/default/serviceaccounts/default/token": "{}",
}


@dataclass
class Hunt:
    """What is looked for, and what was tried so far."""

    needles: dict[str, list[bytes]]
    attempts: list[dict[str, Any]] = field(default_factory=list)

    def note(self, kind: str, target: str, how: str, got: str, data: bytes = b"") -> None:
        leaks = [
            name for name, forms in self.needles.items() if any(form in data for form in forms)
        ]
        attempt = {"kind": kind, "target": target, "how": how, "got": got, "leaks": leaks}
        self.attempts.append(attempt)
        print(json.dumps(attempt), flush=True)


def forms(value: str) -> list[bytes]:
    """A secret as it may appear: as it is, in base64, in a JSON text."""
    plain = value.encode()
    return [plain, base64.b64encode(plain).rstrip(b"="), json.dumps(value)[1:-1].encode()]


# -- ports -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Guise:
    """As whom a server is asked: by which headers, and over TLS with which certificate."""

    name: str
    headers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None


def guises(own: dict[str, Any]) -> Iterator[Guise]:
    """Nobody; the intruder with all that opens the intruder's own lab, one after the other."""
    headers = {
        "the intruder's proxy credential": {
            "Proxy-Authorization": "Basic " + base64.b64encode(own["proxy"].encode()).decode(),
            "Authorization": "Basic " + base64.b64encode(own["proxy"].encode()).decode(),
        },
        "the intruder's Vault token": {
            "X-Vault-Token": own["vault"],
            "Authorization": f"Bearer {own['vault']}",
        },
        "the intruder's API token": {"Authorization": f"Bearer {own['token']}"},
    }
    yield Guise("nobody")
    for name, some in headers.items():
        yield Guise(name, some)
    yield Guise("nobody, TLS", tls=_tls())
    yield Guise("the intruder's API token, TLS", headers["the intruder's API token"], tls=_tls())
    for name, pair in own["certificates"].items():
        yield Guise(f"the intruder's certificate {name}, TLS", tls=_tls(*pair))


def _tls(*pair: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair:
        context.load_cert_chain(*pair)
    return context


def ask_port(hunt: Hunt, host: str, port: int, all_guises: list[Guise]) -> None:
    target = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), PATIENCE) as raw:
            raw.sendall(b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            data = _drain(raw)
        hunt.note("port", target, "raw", f"{len(data)} bytes", data)
    except OSError as error:
        hunt.note("port", target, "raw", _words(error))
    for guise in all_guises:
        _ask_as(hunt, host, port, guise)
    _connect_through(hunt, host, port, all_guises)


def _ask_as(hunt: Hunt, host: str, port: int, guise: Guise) -> None:
    """Every request; none but the first where no HTTP, or no TLS, is spoken."""
    kind = http.client.HTTPSConnection if guise.tls else http.client.HTTPConnection
    more = {"context": guise.tls} if guise.tls else {}
    connection = kind(host, port, timeout=PATIENCE, **more)  # opens itself again when closed
    requests = [("GET", path, None) for path in (*GETS, *THROUGH)]
    requests += [("POST", path, body) for path, body in POSTS.items()]
    with contextlib.closing(connection):
        for number, (verb, path, body) in enumerate(requests):
            how = f"{verb} {path} as {guise.name}"
            headers = {**guise.headers, **({"Content-Type": "application/json"} if body else {})}
            try:
                connection.request(verb, path, body, headers)
                answer = connection.getresponse()
                data = str(answer.headers).encode() + answer.read(MOST)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                hunt.note("port", f"{host}:{port}", how, _words(error))
                if number == 0:
                    return
            else:
                if not answer.isclosed():  # more than MOST: the rest is not waited for
                    connection.close()
                hunt.note("port", f"{host}:{port}", how, str(answer.status), data)


def _connect_through(hunt: Hunt, host: str, port: int, all_guises: list[Guise]) -> None:
    """CONNECT, as a proxy's client would, to the application behind it."""
    for guise in all_guises:
        if guise.tls:
            continue
        lines = [f"{name}: {value}" for name, value in guise.headers.items()]
        inner = b"GET /api/credentials?reveal=1 HTTP/1.0\r\nHost: localhost\r\n\r\n"
        outer = "\r\n".join(["CONNECT gitops-secrets-service.demo:80 HTTP/1.1", *lines, "", ""])
        try:
            with socket.create_connection((host, port), PATIENCE) as raw:
                raw.settimeout(PATIENCE)
                raw.sendall(outer.encode())
                first = raw.recv(4096)
                data = first
                if b" 200" in first[:20]:
                    raw.sendall(inner)
                    data += _drain(raw)
            got = first.split(b"\r\n")[0][:40].decode(errors="replace")
            hunt.note("port", f"{host}:{port}", f"CONNECT as {guise.name}", got, data)
        except OSError as error:
            hunt.note("port", f"{host}:{port}", f"CONNECT as {guise.name}", _words(error))


def _drain(raw: socket.socket) -> bytes:
    raw.settimeout(1)
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < MOST and (piece := raw.recv(65536)):
            data += piece
    return data


# -- unix sockets ----------------------------------------------------------------------


def ask_socket(hunt: Hunt, name: str) -> None:
    """A path, or ``@`` and an abstract name."""
    address = f"\0{name[1:]}" if name.startswith("@") else name
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as raw:
            raw.settimeout(PATIENCE)
            try:
                raw.connect(address)
            except OSError as error:
                got, data = _words(error), b""
                if isinstance(error, PermissionError | FileNotFoundError):
                    hunt.note("unix socket", name, "connect", got)
                    return
                continue  # of another kind
            with contextlib.suppress(OSError):
                raw.sendall(b"GET /v3/kv/range HTTP/1.0\r\n\r\n")
            got, data = "connected", _drain(raw) if kind != socket.SOCK_DGRAM else b""
            hunt.note("unix socket", name, "connect", got, data)
            return
    hunt.note("unix socket", name, "connect", got)


# -- files -----------------------------------------------------------------------------


def open_file(hunt: Hunt, name: str) -> None:
    """Read it, list it, and open it for writing, whichever it is."""
    path = Path(name)
    try:
        info = path.lstat()
    except OSError as error:
        hunt.note("file", name, "look", _words(error))
        return
    if stat.S_ISDIR(info.st_mode):
        _try(hunt, "file", name, "list", lambda: "\n".join(os.listdir(path)).encode())  # noqa: PTH208
        if os.access(path, os.W_OK):
            hunt.note("file", name, "write into", "WRITABLE")
    elif stat.S_ISREG(info.st_mode):
        _try(hunt, "file", name, "read", lambda: _read(path))
        if os.access(path, os.W_OK):
            hunt.note("file", name, "write", "WRITABLE")
    elif stat.S_ISLNK(info.st_mode):
        _try(hunt, "file", name, "follow", lambda: _read(path))


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        return file.read(MOST)


# -- processes -------------------------------------------------------------------------

PUBLIC = ("cmdline", "status", "stat", "comm", "limits", "cgroup", "sched", "mountinfo")
CLOSED = (
    "environ",
    "maps",
    "smaps",
    "mem",
    "auxv",
    "io",
    "stack",
    "syscall",
    "pagemap",
    "numa_maps",
)


def ask_process(hunt: Hunt, pid: int, paths: list[str]) -> None:
    """All that /proc tells of it, and all that can be done to it."""
    place = Path(f"/proc/{pid}")
    for name in (*PUBLIC, *CLOSED):
        _try(hunt, "process", str(pid), f"/proc/PID/{name}", lambda name=name: _read(place / name))
    for name in ("cwd", "root", "exe"):
        _try(
            hunt, "process", str(pid), f"/proc/PID/{name}",
            lambda name=name: os.readlink(place / name).encode(),  # noqa: PTH115
        )  # fmt: skip
    for name in ("fd", "map_files", "ns"):
        _try(
            hunt, "process", str(pid), f"/proc/PID/{name}/*",
            lambda name=name: _all_below(place / name),
        )  # fmt: skip
    for path in paths:  # as the process sees them
        _try(
            hunt,
            "process",
            str(pid),
            f"/proc/PID/root{path}",
            lambda path=path: _read(Path(f"{place}/root{path}")),
        )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    attach, seize, detach = 16, 0x4206, 17
    for word, request in (("attach", attach), ("seize", seize)):
        done = libc.ptrace(request, pid, 0, 0) == 0
        got = "ATTACHED" if done else os.strerror(ctypes.get_errno())
        hunt.note("process", str(pid), f"ptrace {word}", got)
        if done:
            os.waitpid(pid, 0)
            libc.ptrace(detach, pid, 0, 0)
    for sig in (0, signal.SIGCONT, signal.SIGUSR1, signal.SIGTERM):
        word = signal.Signals(sig).name if sig else "signal 0"
        _try(hunt, "process", str(pid), word, lambda sig=sig: _kill(pid, sig))
    _try(hunt, "process", str(pid), "pidfd", lambda: _pidfd(pid))


def _all_below(folder: Path) -> bytes:
    return b"\n".join(_read(each) for each in folder.iterdir())


def _kill(pid: int, sig: int) -> bytes:
    os.kill(pid, sig)
    return b""


def _pidfd(pid: int) -> bytes:
    # pidfd_getfd(2): another process's open file, 438 on every architecture.
    handle = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        for number in range(64):
            stolen = libc.syscall(438, handle, number, 0)
            if stolen >= 0:
                os.close(stolen)
                return b"STOLEN"
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)


# -- together --------------------------------------------------------------------------


def _try(hunt: Hunt, kind: str, target: str, how: str, get: Callable[[], bytes]) -> None:
    try:
        data = get()
    except OSError as error:
        hunt.note(kind, target, how, _words(error))
    else:
        hunt.note(kind, target, how, f"{len(data)} bytes", data)


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'refused').lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


def main() -> None:
    """Try everything that standard input names."""
    asked = json.load(sys.stdin)
    hunt = Hunt({name: forms(value) for name, value in asked["needles"].items()})
    every = list(guises(asked["own"]))
    for host, port in asked["ports"]:
        ask_port(hunt, host, port, every)
    for name in asked["sockets"]:
        ask_socket(hunt, name)
    for name in asked["files"]:
        open_file(hunt, name)
    for pid in asked["pids"]:
        ask_process(hunt, pid, asked["inside"])


if __name__ == "__main__":
    main()
