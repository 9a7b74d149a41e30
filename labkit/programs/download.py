"""A file from the network: resumed where it stopped, through a proxy where one is set.

What comes is not judged here (``unpack`` compares it with the lock).  A half-fetched file
stays beside the target as ``NAME.part`` with the server's word for its version (ETag), so the
next call asks for the rest only, and begins anew when the file has changed meanwhile.

Source: RFC 9110, sections 14 (range requests) and 13.1.5 (If-Range).
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from labkit.errors import ProgramError, UsageError
from labkit.paths import make_private_dir
from labkit.programs.progress import Event, Progress

_CHUNK = 1 << 18
_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)  # seconds
_TRIES = 5
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between two tries
_TITLE = "Pack"
_PASSING = (urllib3.exceptions.HTTPError, OSError)


def download(url: str, target: Path, *, progress: Progress) -> None:
    """Fetch ``url`` into the file ``target``, which appears only when it is whole.

    A connection that breaks is taken up again, five times in a row without a byte at most.
    Raises ProgramError; what was fetched by then is kept for the next call.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError("A pack comes from a file, a folder or an http(s) address", seen=url)
    make_private_dir(target.parent)
    part = target.with_name(f"{target.name}.part")
    failures = 0
    with _pool(url) as pool:
        while True:
            before = _size(part)
            try:
                _fetch(pool, url, part, progress)
                break
            except _PASSING as error:
                if isinstance(error, OSError) and error.errno:  # a disk's, not the network's
                    raise _failed(url, part, error.strerror or str(error)) from error
                failures = 0 if _size(part) > before else failures + 1
                if failures >= _TRIES:
                    raise _failed(url, part, _reason(error)) from error
                time.sleep(_PAUSES[max(0, min(failures, len(_PAUSES)) - 1)])
    part.replace(target)
    _tag(part).unlink(missing_ok=True)


def masked(url: str) -> str:
    """``url`` without the password that may be in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _fetch(pool: urllib3.PoolManager, url: str, part: Path, progress: Progress) -> None:
    start, tag = _size(part), _tag(part)
    headers = {"Accept-Encoding": "identity"}
    if start and tag.exists():
        headers |= {"Range": f"bytes={start}-", "If-Range": tag.read_text()}
    answer = pool.request("GET", url, headers=headers, preload_content=False, retries=3)
    try:
        if answer.status == 200:
            start = 0
        elif answer.status != 206:
            raise _refused(url, answer.status, answer.headers.get("Server", ""))
        with contextlib.suppress(FileNotFoundError):
            if not start:
                tag.unlink()
        if version := answer.headers.get("ETag", answer.headers.get("Last-Modified")):
            tag.write_text(version)
        length = int(answer.headers.get("Content-Length") or 0)
        total = start + length
        with part.open("ab" if start else "wb") as file:
            while chunk := answer.read1(_CHUNK):  # what has come, though no more may follow
                file.write(chunk)
                done = file.tell()
                progress(Event(_TITLE, "downloading, MB", done=done >> 20, total=total >> 20))
        if length and _size(part) != total:
            raise urllib3.exceptions.ProtocolError(f"{_size(part)} of {total} bytes came")
    finally:
        answer.release_conn()


def _pool(url: str) -> urllib3.PoolManager:
    """Connections as the environment wants them (HTTP_PROXY, HTTPS_PROXY, NO_PROXY)."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager(timeout=_TIMEOUT)
    proxy = proxy if "//" in proxy else f"http://{proxy}"
    auth = urlsplit(proxy)
    headers = {}
    if auth.username:
        headers = urllib3.make_headers(proxy_basic_auth=f"{auth.username}:{auth.password or ''}")
    return urllib3.ProxyManager(masked(proxy), proxy_headers=headers, timeout=_TIMEOUT)


def _refused(url: str, status: int, server: str) -> ProgramError:
    proxy = urllib.request.getproxies().get(urlsplit(url).scheme, "")
    through = f", through the proxy {masked(proxy)}" if proxy else ""
    return ProgramError(
        "The pack could not be fetched",
        seen=f"{masked(url)}: HTTP {status} {server}".rstrip() + through,
        todo="Check the address (and the proxy), or build the programs: `labkit programs get`.",
    )


def _failed(url: str, part: Path, seen: str) -> ProgramError:
    kept = f" {_size(part) >> 20} MB are kept." if _size(part) else ""
    return ProgramError(
        "The pack could not be fetched",
        seen=f"{masked(url)}: {seen}",
        todo=f"Check the network and the disk, and run the same command again.{kept}",
    )


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return f"{type(cause).__name__}: {cause}"[:200]


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except FileNotFoundError:
        return 0


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")
