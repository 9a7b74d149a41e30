"""One request carried out by ``git http-backend``, as CGI has it.

Which requests there are (the smart protocol's alone) is said here too; who may make them is
``server``'s to ask first.

Source: ``git help http-backend``; RFC 3875 (CGI).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO

from .body import BLOCK
from .config import USER, Config

_PATH = re.compile(
    r"/(?P<name>[a-z0-9-]+?)(?:\.git)?/(?P<what>info/refs|git-upload-pack|git-receive-pack)"
)
_SERVICES = ("git-upload-pack", "git-receive-pack")
_HEADERS_MOST = 32


@dataclass(frozen=True)
class Call:
    """What a client asks of git: the repository's ``name``, ``what`` of it, for which
    ``service``, by which ``method``."""

    name: str
    what: str
    service: str
    method: str

    def __str__(self) -> str:
        query = f"?service={self.service}" if self.what == "info/refs" else ""
        return f"/{self.name}.git/{self.what}{query}"


@dataclass(frozen=True)
class Client:
    """What else CGI passes on of a request: fields that the client chose, and its address."""

    address: str
    content_type: str = ""
    content_encoding: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Answer:
    """git's answer; ``blocks`` must be read to the end."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    blocks: Iterator[bytes]


class NoAnswer(Exception):
    """git ended without an answer; the text is one line for the log."""


def parse(method: str, path: str, query: str) -> Call | None:
    """The call that a request stands for; None when it is none of the smart protocol."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    what = found["what"]
    service = query.removeprefix("service=") if what == "info/refs" else what
    expected = "GET" if what == "info/refs" else "POST"
    if method != expected or service not in _SERVICES:
        return None
    return Call(found["name"], what, service, method)


def run(config: Config, call: Call, client: Client, body: IO[bytes], length: int) -> Answer:
    """Let git answer ``call``; ``body`` is a real file with ``length`` bytes to be read.

    Raises NoAnswer.
    """
    process = subprocess.Popen(
        [config.git, "http-backend"],
        env=_environment(config, call, client, length),
        stdin=body,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 -- it is a pipe
    status, headers = HTTPStatus.OK, []
    for _ in range(_HEADERS_MOST):
        line = process.stdout.readline(BLOCK).rstrip(b"\r\n").decode("latin-1")
        if not line:
            break
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = HTTPStatus(int(value.split()[0]))
        elif name.lower() not in ("content-length", "connection"):
            headers.append((name, value.strip()))
    if not headers:
        process.stdout.close()
        raise NoAnswer(f"git http-backend gave no answer and exited with {process.wait()}")
    return Answer(status, tuple(headers), _blocks(process, process.stdout))


def _blocks(process: subprocess.Popen[bytes], stream: IO[bytes]) -> Iterator[bytes]:
    try:
        # Not read(): a line of progress is to be seen when it is said.
        while block := stream.read1(BLOCK):  # type: ignore[attr-defined]
            yield block
    finally:
        stream.close()
        process.wait()


def _environment(config: Config, call: Call, client: Client, length: int) -> dict[str, str]:
    found = {
        **config.environment(),
        **dict(config.cluster),  # for the hook
        "REPOSITORY_URL": f"{config.base_url}/{call.name}.git",
        "GIT_PROJECT_ROOT": str(config.folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": call.method,
        "PATH_INFO": f"/{call.name}.git/{call.what}",
        "QUERY_STRING": f"service={call.service}" if call.what == "info/refs" else "",
        "REMOTE_USER": USER,
        "REMOTE_ADDR": client.address,
        "CONTENT_TYPE": client.content_type,
        "CONTENT_LENGTH": str(length),
    }
    if client.content_encoding:
        found["HTTP_CONTENT_ENCODING"] = client.content_encoding
    if client.protocol:
        found["GIT_PROTOCOL"] = client.protocol
    return found
