"""Container logs: written in the CRI's format, read as ``kubectl logs`` asks.

A line of the file is ``<time> <stream> <tag> <text>``, tag F for a full line and P for a
part of one.  Each run of a container has a file of its own (``0.log``, ``1.log``, …); of
a container's runs the last two are kept, and a file that grows over ``MAX_BYTES`` is set
aside once (``0.log.1``), so a chatty container holds at most four times that.

A follower is fed from memory by the writer of the running container: nothing polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
_MAX_LINE = 16 * 1024
_FOLLOWER_QUEUE = 2000
_LINE = re.compile(rb"(\S+) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def log_path(folder: Path, run: int) -> Path:
    """The log file of a container's ``run``-th run in its log folder."""
    return folder / f"{run}.log"


class LogWriter:
    """The log of one run.  ``write`` takes chunks as they come from the pipes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._fd = self._create()
        self._size = os.fstat(self._fd).st_size
        self._parts: dict[str, bytes] = {}
        self._followers: set[asyncio.Queue[bytes | None]] = set()
        self.closed = False

    def _create(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, stream: str, chunk: bytes) -> None:
        """Add a chunk of ``stdout`` or ``stderr``; a last line without end is held back."""
        if self.closed:
            return
        *lines, rest = (self._parts.pop(stream, b"") + chunk).split(b"\n")
        entries = []
        for line in lines:
            *parts, last = [line[at : at + _MAX_LINE] for at in range(0, len(line), _MAX_LINE)] or [
                b""
            ]
            entries += [(b"P", part) for part in parts] + [(b"F", last)]
        while len(rest) > _MAX_LINE:
            entries.append((b"P", rest[:_MAX_LINE]))
            rest = rest[_MAX_LINE:]
        if rest:
            self._parts[stream] = rest
        self._put(stream, entries)

    def _put(self, stream: str, entries: list[tuple[bytes, bytes]]) -> None:
        if not entries:
            return
        stamp = _nanoseconds(time.time_ns())
        lines = [b"%s %s %s %s\n" % (stamp, stream.encode(), *entry) for entry in entries]
        block = b"".join(lines)
        if self._size + len(block) > self._max_bytes and self._size:
            os.close(self._fd)
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._fd = self._create()
            self._size = 0
        os.write(self._fd, block)
        self._size += len(block)
        for follower in list(self._followers):
            try:
                for line in lines:
                    follower.put_nowait(line)
            except asyncio.QueueFull:
                # It reads more slowly than the container writes: end it, the file has it all.
                self._followers.discard(follower)
                while not follower.empty():
                    follower.get_nowait()
                follower.put_nowait(None)

    def close(self) -> None:
        """Write what is held back and end all followers.  Safe to repeat."""
        if self.closed:
            return
        for stream, rest in list(self._parts.items()):
            # As a part: the line never got its end, and readers add none.
            self._put(stream, [(b"P", rest)])
        self._parts.clear()
        self.closed = True
        os.close(self._fd)
        for follower in self._followers:
            with contextlib.suppress(asyncio.QueueFull):
                follower.put_nowait(None)
        self._followers.clear()

    def follow(self) -> asyncio.Queue[bytes | None]:
        """A queue that gets every line from now on, and None at the end."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_FOLLOWER_QUEUE)
        if self.closed:
            queue.put_nowait(None)
        else:
            self._followers.add(queue)
        return queue

    def unfollow(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._followers.discard(queue)


@dataclass(frozen=True)
class LogOptions:
    """What of a log is wanted; the names are those of the API's ``PodLogOptions``."""

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: float | None = None  # unix seconds
    timestamps: bool = False


async def read_log(
    path: Path, options: LogOptions, writer: LogWriter | None = None
) -> AsyncGenerator[bytes]:
    """The log at ``path`` as ``options`` ask.

    With ``follow``, goes on with what ``writer`` writes until that run ends.
    """
    follower = writer.follow() if options.follow and writer is not None else None
    # No await between here and the snapshot: no line is missed and none comes twice.
    left = options.limit_bytes
    try:
        for raw in _snapshot(path, options):
            text, left = _limited(raw, left)
            yield text
            if left == 0:
                return
        while follower is not None:
            line = await follower.get()
            if line is None:
                return
            shown = _show(line, options)
            if shown is not None:
                text, left = _limited(shown, left)
                yield text
                if left == 0:
                    return
    finally:
        if follower is not None and writer is not None:
            writer.unfollow(follower)


def _limited(text: bytes, left: int | None) -> tuple[bytes, int | None]:
    if left is None:
        return text, None
    return text[:left], max(0, left - len(text))


def _snapshot(path: Path, options: LogOptions) -> list[bytes]:
    """The lines that are there now."""
    if options.tail_lines == 0:
        return []
    lines = (shown for line in _entries(path) if (shown := _show(line, options)) is not None)
    if options.tail_lines is not None and options.tail_lines > 0:
        # A line that came in parts counts once.
        kept: deque[bytes] = deque(maxlen=options.tail_lines)
        whole = True
        for line in lines:
            if whole:
                kept.append(line)
            else:
                kept[-1] += line
            whole = line.endswith(b"\n")
        return list(kept)
    return list(lines)


def _entries(path: Path) -> Iterator[bytes]:
    for file in (path.with_name(path.name + ".1"), path):
        try:
            data = file.read_bytes()
        except OSError:
            continue
        yield from (
            data.splitlines(keepends=True)
            if b"\r" not in data
            else (line + b"\n" for line in data.split(b"\n")[:-1])
        )


def read_entry(line: bytes) -> tuple[str, bytes]:
    """The stream and the text of a line that ``LogWriter.follow`` gave."""
    _, stream, tag, text = line[:-1].split(b" ", 3)
    return stream.decode(), text + b"\n" if tag == b"F" else text


def _show(line: bytes, options: LogOptions) -> bytes | None:
    """A line of the file as a reader gets it; None when it is not wanted."""
    match = _LINE.fullmatch(line.rstrip(b"\n"))
    if match is None:
        return None
    stamp, _, tag, text = match.groups()
    if options.since is not None and _parse_nanoseconds(stamp) < options.since:
        return None
    if tag == b"F":
        text += b"\n"
    return stamp + b" " + text if options.timestamps else text


def tail_text(path: Path, *, lines: int, limit: int) -> str:
    """The end of a log, for a termination message: at most ``lines`` and ``limit`` bytes."""
    raw = b"".join(_snapshot(path, LogOptions(tail_lines=lines)))
    return raw[-limit:].decode(errors="replace")


def prune(folder: Path, *, last_run: int) -> None:
    """Remove the logs of all runs but ``last_run`` and the one before it."""
    if last_run < 2 or not folder.is_dir():
        return
    for file in folder.iterdir():
        run = file.name.partition(".")[0]
        if run.isdecimal() and int(run) < last_run - 1:
            file.unlink(missing_ok=True)


def _nanoseconds(at: int) -> bytes:
    seconds, rest = divmod(at, 1_000_000_000)
    whole = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:09d}Z".encode()


def _parse_nanoseconds(stamp: bytes) -> float:
    whole, _, rest = stamp.rstrip(b"Z").partition(b".")
    seconds = dt.datetime.fromisoformat(whole.decode()).replace(tzinfo=dt.UTC).timestamp()
    return seconds + float(b"0." + (rest or b"0"))
