"""What happened in this process, in order: the evidence, and what open pages wait for.

The last events are kept in memory with a number each.  A page's event stream is simply "wait
for what comes after number n", so a slow page costs nothing and no queue can fill up.
Events tell names and times, never a value.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 200
ACKS_KEPT = 32  # of one version: pages cannot push the reloads out of the list


@dataclass(frozen=True)
class Event:
    """One thing that happened; ``at`` is in unix seconds, ``details`` depends on the event.

    ``started``; ``loaded`` (the first good file), ``reloaded`` (``changed``: key names),
    ``load-failed`` (``error``), ``recovered`` (the file is as it was before it failed),
    ``ack`` (``client``, ``rendered_at``: a page has painted this version).
    """

    number: int
    event: str
    version: int
    at: float
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"event": self.event, "version": self.version, "at": self.at, **self.details}


class Journal:
    """A bounded list of events that threads can wait on."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._news = threading.Condition()
        self._number = 0
        self.closed = False

    def record(self, event: str, version: int, **details: Any) -> Event:
        """Append an event that happened just now, and wake whoever waits."""
        with self._news:
            self._number += 1
            entry = Event(self._number, event, version, time.time(), details)
            self._events.append(entry)
            self._news.notify_all()
            return entry

    def record_ack(self, version: int, client: str, rendered_at: float | None) -> bool:
        """Record that a page painted a version; False if it had said so, or enough pages did."""
        with self._news:
            acks = [e for e in self._events if e.event == "ack" and e.version == version]
            if len(acks) >= ACKS_KEPT or any(ack.details["client"] == client for ack in acks):
                return False
            self.record("ack", version, client=client, rendered_at=rendered_at)
            return True

    def events(self) -> list[Event]:
        with self._news:
            return list(self._events)

    @property
    def last_number(self) -> int:
        return self._number

    def wait_after(self, number: int, *, timeout: float) -> list[Event]:
        """The events after ``number``, as soon as there are any; [] on timeout or close."""
        with self._news:
            self._news.wait_for(lambda: self.closed or self._number > number, timeout)
            return [event for event in self._events if event.number > number]

    def close(self) -> None:
        """Let every waiting thread go; they see ``closed``."""
        with self._news:
            self.closed = True
            self._news.notify_all()
