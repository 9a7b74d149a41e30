"""A witness where there is no log to be read: a watch on a namespace's Secrets.

In a cluster of somebody else's the API server's audit log is not ours.  A watch is told of
each change a moment later, and that moment is what is kept: by this machine's clock, later
than the change itself, never earlier.  What the change was part of is left to ``journey`` and
``rounds``; the Secrets' contents are thrown away.
"""

from __future__ import annotations

import threading
import time
from typing import Self

from labkit.errors import ClusterError
from labkit.kube import Kube
from labkit.trail import Proof, Rotation

EVIDENCE = "seen by a watch on the Secret"
FILE_TIME = "the file's own time, as the app saw"
_LOOK = 2.0  # seconds of silence after which the watch sees whether it is still wanted


class SecretWatch:
    """Watches the Secrets of ``namespace`` (with ``name``: one of them) for as long as it is
    entered.  Safe to enter again."""

    def __init__(self, kube: Kube, namespace: str, name: str = "") -> None:
        self._kube = kube
        self._path = kube.resource("v1", "Secret").path(namespace)
        self._field = f"metadata.name={name}" if name else ""
        self._changes: list[tuple[str, float]] = []
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        self._is_over = is_over = threading.Event()
        since = self._now()
        threading.Thread(
            target=self._follow, args=(since, is_over), name="secret-watch", daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        """The thread ends within two seconds of silence."""
        self._is_over.set()

    def proof(self, name: str, *, since: float) -> Proof | None:
        """The first change of the Secret ``name`` that was seen at or after ``since`` (unix
        seconds); None when none was."""
        at = next((at for seen, at in self._changes if seen == name and at >= since), None)
        return None if at is None else Proof(at, EVIDENCE)

    def _now(self) -> str:
        listed = self._kube.request("GET", self._path, query={"limit": 1})
        return str(listed["metadata"]["resourceVersion"])

    def _follow(self, since: str, is_over: threading.Event) -> None:
        while not is_over.is_set():
            began, told = time.monotonic(), len(self._changes)
            try:
                for event, secret in self._kube.watch(
                    self._path, field=self._field, since=since, idle=_LOOK
                ):
                    meta = secret["metadata"]
                    since = meta["resourceVersion"]
                    if event != "DELETED":
                        self._changes.append((meta["name"], time.time()))
                if told == len(self._changes) and time.monotonic() - began < _LOOK / 2:
                    since = self._now()  # the server does not reach back so far any more
                    is_over.wait(0.2)
            except ClusterError:  # what changed meanwhile is told when it answers again
                is_over.wait(0.2)


def stand_ins(
    rotation: Rotation, secrets: SecretWatch | None, swapped: float | None
) -> dict[str, Proof]:
    """Proofs of the hops whose logs cannot be read: the Secret's from the watch ``secrets``,
    the file's from its own time ``swapped`` (unix seconds).  None for either: its log can."""
    found = {}
    seen = secrets.proof(rotation.secret, since=rotation.started) if secrets else None
    if seen is not None:
        found["secret-updated"] = seen
    if swapped:
        found["file-swapped"] = Proof(swapped, FILE_TIME)
    return found
