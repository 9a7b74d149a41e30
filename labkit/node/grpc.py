"""One question over gRPC: the health check that a ``grpc`` probe asks.

A gRPC call is one HTTP/2 request, and this one is always the same: so its few frames are
written and read here, without the two libraries that a client in general would take.  Only
plain text connections, as probes have them.  What the answer means is left to ``probes``.

1. Connection preface, settings, headers (as literals), one message; that ends our side.
2. Read frames, acknowledging settings and pings, until the server ends its side.
3. The message holds the status; without a message the server has refused, and why is in
   compressed headers that are not read.

Sources: RFC 9113 (frames), RFC 7541 section 6.2.2 (literals), grpc's PROTOCOL-HTTP2.md and
``grpc.health.v1`` (``HealthCheckRequest.service`` = 1, ``HealthCheckResponse.status`` = 1).
"""

from __future__ import annotations

import asyncio
import struct

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_MAX_ANSWER = 1024


class CheckError(Exception):
    """The server did not answer the check; the text says how."""


async def check(host: str, port: int, service: str, *, authority: str, agent: str) -> str:
    """The health of ``service`` as the server tells it: ``SERVING``, ``NOT_SERVING``, ….

    Raises OSError when it cannot be reached, CheckError when it does not answer.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_request(service, authority, agent))  # 1
        return _status(await _answer(reader, writer))
    except asyncio.IncompleteReadError as error:
        raise CheckError("the connection ended before the answer") from error
    finally:
        writer.close()


def _request(service: str, authority: str, agent: str) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": agent,
    }
    block = b"".join(b"\0" + _text(name, 7) + _text(value, 7) for name, value in headers.items())
    message = b"\x0a" + _text(service, 8) if service else b""
    body = b"\0" + struct.pack(">I", len(message)) + message  # not compressed, its length
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, body)
    )


def _text(value: str, bits: int) -> bytes:
    """A string after its length: HPACK's with a prefix of 7 bits, protobuf's as a varint."""
    data = value.encode()
    length = len(data)
    if bits == 7 and length >= 127:
        return b"\x7f" + _varint(length - 127) + data
    return (bytes([length]) if bits == 7 else _varint(length)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Step 2: the body of the answer, empty when there is none."""
    body = b""
    while True:
        head = await reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = await reader.readexactly(size)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            writer.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream == 1):
            raise CheckError("the server refused the call")
        elif kind == _DATA and stream == 1:
            body += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
            if len(body) > _MAX_ANSWER:
                raise CheckError("the answer is no health status")
        if kind in (_DATA, _HEADERS) and stream == 1 and flags & _END_STREAM:
            return body


def _status(body: bytes) -> str:
    """Step 3."""
    if len(body) < 5:
        raise CheckError("the server answered with an error (does it know the service?)")
    message = body[5:]
    if not message:
        return _STATUSES[0]  # zero is left out
    if message[0] != 0x08 or len(message) < 2 or message[1] >= len(_STATUSES):
        raise CheckError("the answer is no health status")
    return _STATUSES[message[1]]
