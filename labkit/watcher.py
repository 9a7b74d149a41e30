"""The one watcher of a lab: all views of a process are fed from it.

    watcher = Watcher.of(lab)
    unsubscribe = watcher.subscribe(print)

It lives in a thread of its own from its first subscriber to its last (and no longer than
the interpreter), hears of everything as it happens (``feeds``), and hands on immutable
snapshots: at most ten a second, none that equals the one before.  A lab that is stopped
is told as such, and watched again once it is up.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from labkit import feeds, launch
from labkit.board import Board
from labkit.errors import LabError
from labkit.kube import Kube
from labkit.kube.streams import Streams
from labkit.lab import Lab
from labkit.paths import LabPaths
from labkit.record import Record
from labkit.snapshot import Snapshot

Subscriber = Callable[[Snapshot], object]
"""Gets each new snapshot, in the watcher's thread: quick, and no exception, please."""

_LOG = logging.getLogger(__name__)
_PAUSE = 0.1  # seconds between two snapshots, at least
_GATHER = 0.01  # seconds that changes which come together get to do so
_CHECK = 1.0  # seconds between two looks whether the lab still runs
_FIRST = 4.0  # seconds after which a first snapshot need not be whole


class Watcher:
    """Made by ``of``; ``subscribe`` and ``look`` may be called from any thread."""

    _all: ClassVar[dict[Path, Watcher]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()

    @classmethod
    def of(cls, lab: Lab) -> Watcher:
        """The watcher of this lab in this process: always the same one."""
        with cls._lock:
            return cls._all.setdefault(lab.paths.root, cls(lab.paths))

    def __init__(self, paths: LabPaths) -> None:
        self._paths = paths
        self._subscribers: list[Subscriber] = []
        self._run: _Run | None = None

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Send each new snapshot from now on, the present one first.

        What is returned ends that; it is safe to repeat.  With the last one the watcher's
        thread ends, too.
        """
        with self._lock:
            self._subscribers.append(subscriber)
            if self._run is None:
                self._run = _Run(self._paths, self._tell)
            elif (present := self._run.latest) is not None:
                self._run.call(lambda: _hand(subscriber, present))

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)
                ending = None if self._subscribers else self._run
                if ending:
                    self._run = None
            if ending:
                ending.end()

        return unsubscribe

    def look(self, *, timeout: float = 6.0) -> Snapshot:
        """The present snapshot; starts the watcher for a moment if nobody has.

        ``timeout`` is in seconds.  Raises LabError when there is none by then.
        """
        run = self._run
        if run and run.latest is not None:
            return run.latest
        found: list[Snapshot] = []
        there = threading.Event()

        def take(snapshot: Snapshot) -> None:
            found.append(snapshot)
            there.set()

        unsubscribe = self.subscribe(take)
        try:
            if not there.wait(timeout):
                raise LabError(
                    f"Nothing was heard of the lab {self._paths.name} within {timeout:g} s",
                    todo="See `labkit status`.",
                )
        finally:
            unsubscribe()
        return found[-1]

    @property
    def is_running(self) -> bool:
        """Whether somebody is subscribed."""
        return self._run is not None

    def _tell(self, snapshot: Snapshot) -> None:
        for subscriber in tuple(self._subscribers):
            _hand(subscriber, snapshot)


def _hand(subscriber: Subscriber, snapshot: Snapshot) -> None:
    try:
        subscriber(snapshot)
    except Exception:  # one view's mistake is not the others'
        _LOG.warning("a subscriber of the watcher failed", exc_info=True)


class _Run:
    """One life of the watcher's thread."""

    def __init__(self, paths: LabPaths, tell: Subscriber) -> None:
        self.latest: Snapshot | None = None
        self._paths = paths
        self._tell = tell
        self._loop = asyncio.new_event_loop()
        self._board = Board(paths.name, self._changed)
        self._timer: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._began = time.monotonic()
        self._thread = threading.Thread(
            target=self._live, name=f"labkit-watcher:{paths.name}", daemon=True
        )
        atexit.register(self.end)
        self._thread.start()

    def call(self, what: Callable[[], object]) -> None:
        """Do this in the watcher's thread; nothing when that has ended."""
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            return

    def end(self) -> None:
        """Drop everything and wait for the thread; safe to repeat, from any thread."""
        atexit.unregister(self.end)
        self.call(self._cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _cancel(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._watch())
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    # -- the lab -----------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow the lab through its ends and beginnings."""
        while True:
            record = launch.running(self._paths.name)
            if record is None:
                self._board.lab("stopped", launch.last_problem(self._paths.name))
                self._changed()
            else:
                try:
                    await self._follow(record)
                except (LabError, OSError) as error:  # its files went while they were read
                    self._board.lab("stopped", str(error))
            await asyncio.sleep(_CHECK)

    async def _follow(self, record: Record) -> None:
        """Listen to this lab until it ends, or is another one."""
        with Kube.from_kubeconfig(self._paths.kubeconfig) as kube:
            self._board.lab("up", sync=record.sync)
            async with Streams(kube) as streams:
                listening = asyncio.ensure_future(
                    feeds.all_of(kube, streams, self._paths, self._board)
                )
                try:
                    while (now := launch.running(self._paths.name)) is not None:
                        if now.supervisor != record.supervisor:
                            break
                        await self._check(streams, now.sync)
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        self._board.lab("stopped")

    async def _check(self, streams: Streams, sync: str) -> None:
        await asyncio.sleep(_CHECK)
        if streams.is_failing:
            self._board.lab("unreachable", "the Kubernetes API does not answer", sync)
        else:
            self._board.lab("up", sync=sync)

    # -- snapshots ---------------------------------------------------------------------

    def _changed(self) -> None:
        if self._timer is None:
            wait = max(_GATHER, self._last + _PAUSE - self._loop.time())
            self._timer = self._loop.call_later(wait, self._take)

    def _take(self) -> None:
        self._timer = None
        is_early = self.latest is None and time.monotonic() - self._began < _FIRST
        if is_early and not self._board.is_settled:
            self._timer = self._loop.call_later(_GATHER, self._take)
            return
        snapshot = self._board.snapshot()
        self._wake_at(snapshot)
        if snapshot != self.latest:
            self._last = self._loop.time()
            self.latest = snapshot
            self._tell(snapshot)

    def _wake_at(self, snapshot: Snapshot) -> None:
        """Look again when something that is waited for should have come."""
        if self._due:
            self._due.cancel()
            self._due = None
        dues = [each.due for each in snapshot.rotations if each.due is not None]
        if dues:
            wait = max(0.05, min(dues) - time.time() + 0.01)
            self._due = self._loop.call_later(wait, self._changed)
