"""Every connection of the network as one set of tasks with one bound.

The doors hand their accepted sockets here.  That makes the bound a common one, keeps an
error in one connection from being anyone else's, and lets ``stop`` leave no task behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import h11

from labkit.node.network.wire import Limits, Streams, abort, close, one_line, refuse

_log = logging.getLogger(__name__)
Handler = Callable[[Streams], Awaitable[None]]
_FULL = "The lab's network has too many open connections"
_MOST_REFUSALS = 32


class Connections:
    """The open connections.  Use ``accept(handler)`` as asyncio's ``client_connected_cb``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._served: set[asyncio.Task[None]] = set()
        self._turned_away: set[asyncio.Task[None]] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._served)

    def accept(
        self, handler: Handler, *, speaks_http: bool = True
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        """A callback that runs ``handler`` for each connection and closes it afterwards.

        Over the bound, a caller that ``speaks_http`` gets a 503 and any other is dropped;
        with many of those being answered already, everyone is dropped.
        """

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            full = len(self._served) >= self._limits.connections
            busy = len(self._turned_away) >= _MOST_REFUSALS
            if self._stopped or (full and (busy or not speaks_http)):
                abort(writer)
                return
            work, tasks = (self._say_full, self._turned_away) if full else (handler, self._served)
            task = asyncio.get_running_loop().create_task(self._run(work, (reader, writer)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return connected

    async def stop(self) -> None:
        """Drop every connection and take no more; returns when their tasks are over."""
        self._stopped = True
        tasks = [*self._served, *self._turned_away]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, handler: Handler, streams: Streams) -> None:
        writer = streams[1]
        try:
            await handler(streams)
            await close(writer)
        except (OSError, h11.ProtocolError) as error:
            _log.debug("connection ended: %s", error)
        except Exception:
            _log.exception("a connection failed")
        finally:
            abort(writer)

    async def _say_full(self, streams: Streams) -> None:
        await refuse(streams, one_line(503, _FULL), limits=self._limits)
