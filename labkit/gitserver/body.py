"""A request's body, from the connection to a file, as HTTP/1.1 delimits it.

The whole body is on disk before git sees any of it.  So memory stays flat however much is
sent, a client that goes away in the middle has changed nothing, and git and a slow client
never wait for one another.  What is over the limit is read and dropped: git then finds
the pack too large and says so itself, which a client that is cut off would not hear.

Source: RFC 9112, section 6 (message body length) and 7.1 (chunked).
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from io import BufferedIOBase
from typing import IO

BLOCK = 64 * 1024
_LINE = 4096


class BadBody(Exception):
    """The body is not delimited as HTTP says; the text is one line for the client."""


class Cut(Exception):
    """The client went away before the end of the body."""


def save(stream: BufferedIOBase, headers: Message, file: IO[bytes], *, limit: int) -> int:
    """Write the first ``limit`` bytes of the body to ``file``; how many bytes came in all.

    ``stream`` is left after the body's end.  Raises BadBody and Cut.
    """
    came = kept = 0
    for block in _blocks(stream, headers):
        came += len(block)
        kept += file.write(block[: limit - kept])
    return came


def check(headers: Message) -> None:
    """Raise BadBody when the body cannot be told from what follows it."""
    coding = headers.get("Transfer-Encoding")
    length = headers.get_all("Content-Length", [])
    if coding is not None and (coding.strip().lower() != "chunked" or length):
        raise BadBody("the transfer coding is not plain chunked")
    if len(set(length)) > 1 or not all(value.isascii() and value.isdigit() for value in length):
        raise BadBody("the Content-Length is not a number")


def _blocks(stream: BufferedIOBase, headers: Message) -> Iterator[bytes]:
    check(headers)
    if headers.get("Transfer-Encoding") is None:
        yield from _read(stream, int(headers.get("Content-Length", "0")))
        return
    while size := _chunk_size(_line(stream)):
        yield from _read(stream, size)
        if _line(stream):
            raise BadBody("a chunk does not end where it should")
    while _line(stream):  # trailers
        pass


def _read(stream: BufferedIOBase, length: int) -> Iterator[bytes]:
    while length:
        block = stream.read(min(length, BLOCK))
        if not block:
            raise Cut
        length -= len(block)
        yield block


def _line(stream: BufferedIOBase) -> bytes:
    line = stream.readline(_LINE)
    if not line.endswith(b"\n"):
        raise BadBody("a line of the chunked coding is too long") if len(line) >= _LINE else Cut
    return line.rstrip(b"\r\n")


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        if not digits.isalnum() or len(digits) > 8:
            raise ValueError
        return int(digits, 16)
    except ValueError:
        raise BadBody("a chunk's size is not a number") from None
