"""The frames of SPDY/3.1, as far as ``kubectl port-forward`` needs them.

kubectl opens one websocket and speaks SPDY inside of it, to have a pair of streams for
each connection that it forwards.  Bytes go in and frames come out, or the other way
round; nothing here waits or sends.  What the streams are for is left to ``portforward``.

Only the side that answers is here: the other one opens every stream.  There is no flow
control, because the library at the other end has none.

Source: the SPDY Protocol, draft 3.1 (chromium.org/spdy/spdy-protocol), section 2.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VERSION = 3
_CONTROL = 1 << 31
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 1
_PROTOCOL_ERROR = 1
_MAX_HEADERS = 64 * 1024
_MAX_FRAME = 4 * 1024 * 1024  # the other side sends 32 KiB at once

# Both sides' compressors begin with these texts already seen (section 2.6.10.1).
_WORDS = (
    "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,"
    "accept-ranges,age,allow,authorization,cache-control,connection,content-base,"
    "content-encoding,content-language,content-length,content-location,content-md5,"
    "content-range,content-type,date,etag,expect,expires,from,host,if-match,if-modified-since,"
    "if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,"
    "proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,"
    "transfer-encoding,upgrade,user-agent,vary,via,warning,www-authenticate,method,get,status,"
    "200 OK,version,HTTP/1.1,url,public,set-cookie,keep-alive,origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split(","))
    + _TEXT.encode()
)


Headers = Mapping[str, str]


class SpdyError(Exception):
    """The other side does not speak SPDY/3.1."""


@dataclass(frozen=True)
class Opened:
    """The other side opens a stream.  Header names are in lower case."""

    stream: int
    headers: Headers


@dataclass(frozen=True)
class Data:
    """Bytes of a stream; ``last``: the other side sends no more on it."""

    stream: int
    data: bytes
    last: bool


@dataclass(frozen=True)
class Reset:
    """The other side gives a stream up."""

    stream: int


@dataclass(frozen=True)
class Ping:
    """To be answered with the same number."""

    number: int


@dataclass(frozen=True)
class GoAway:
    """The other side opens no more streams."""


Frame = Opened | Data | Reset | Ping | GoAway


class Framer:
    """One connection's frames, both ways: headers are compressed over all of them."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._inflate = zlib.decompressobj(zdict=_DICTIONARY)
        self._deflate = zlib.compressobj(zdict=_DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Frame]:
        """Take bytes as they come; the frames that are complete.  Raises SpdyError."""
        self._pending += data
        while len(self._pending) >= 8:
            first, rest = struct.unpack_from(">II", self._pending)
            flags, size = rest >> 24, rest & 0xFFFFFF
            if size > _MAX_FRAME:
                raise SpdyError(f"a frame of {size} bytes")
            if len(self._pending) < 8 + size:
                return
            body = bytes(self._pending[8 : 8 + size])
            del self._pending[: 8 + size]
            if not first & _CONTROL:
                yield Data(first, body, bool(flags & _FIN))
            elif (frame := self._control(first, body)) is not None:
                yield frame
                if isinstance(frame, Opened) and flags & _FIN:
                    yield Data(frame.stream, b"", True)

    def _control(self, first: int, body: bytes) -> Frame | None:
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != _VERSION:
            raise SpdyError(f"version {version}")
        try:
            if kind == _SYN_STREAM:
                return Opened(_number(body), self._headers(body[10:]))
            if kind in (_SYN_REPLY, _HEADERS):
                self._headers(body[4:])  # of no use, but compression goes on over it
            if kind == _RST_STREAM:
                return Reset(_number(body))
            if kind == _PING:
                return Ping(_number(body, mask=0xFFFFFFFF))
            if kind == _GOAWAY:
                return GoAway()
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(str(error)) from error
        return None

    def _headers(self, block: bytes) -> Headers:
        plain = self._inflate.decompress(block, _MAX_HEADERS)
        if self._inflate.unconsumed_tail:
            raise SpdyError("too many headers")
        (count,) = struct.unpack_from(">I", plain)
        at = 4
        texts = []
        for _ in range(min(count, _MAX_HEADERS) * 2):
            (size,) = struct.unpack_from(">I", plain, at)
            texts.append(plain[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def accept(self, stream: int) -> bytes:
        """The answer to ``Opened``."""
        no_headers = self._deflate.compress(struct.pack(">I", 0))
        no_headers += self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _frame(_SYN_REPLY, struct.pack(">I", stream) + no_headers)

    def reject(self, stream: int) -> bytes:
        """The other answer."""
        return _frame(_RST_STREAM, struct.pack(">II", stream, _PROTOCOL_ERROR))

    def data(self, stream: int, data: bytes, *, last: bool = False) -> bytes:
        return struct.pack(">II", stream, (_FIN if last else 0) << 24 | len(data)) + data

    def pong(self, number: int) -> bytes:
        return _frame(_PING, struct.pack(">I", number))


def _frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", _CONTROL | _VERSION << 16 | kind, len(body)) + body


def _number(body: bytes, *, mask: int = 0x7FFFFFFF) -> int:
    return int(struct.unpack_from(">I", body)[0]) & mask
