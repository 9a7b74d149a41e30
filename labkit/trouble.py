"""Why a new value does not come through, in the words of whoever failed.

``journey`` waits for a rotation and would wait in vain for what ESO, or the app, has said
long since.  This looks for what they say of this rotation, and tells a failure that lasts
from one that the next try mends.  What to do about it is left to the reader.
"""

from __future__ import annotations

import re
import time
from datetime import datetime

from labkit import eso
from labkit.app import App
from labkit.errors import ClusterError, LabError
from labkit.kube import Kube, Object, condition

_PATIENCE = 5.0  # seconds that a failure gets to pass: ESO tries again after 1, 2 and 4
_LOOK = 0.5  # seconds between two looks for a failure


class Trouble:
    """What keeps a new value from coming, in the words of whoever failed.

    Only what is said after the write counts: a Warning event that is new or happened
    again, an ExternalSecret that is not ready, a file that the app cannot use.
    """

    def __init__(self, kube: Kube, application: App, external_secret: str, *, forced: bool) -> None:
        self._kube = kube
        self._app = application
        self._name = external_secret
        self._forced = forced
        self._started = time.time()
        found = kube.get(eso.API, "ExternalSecret", self._name, self._app.namespace)
        if found is None:
            raise LabError(
                f"There is no ExternalSecret {self._name} to carry the new value",
                seen=f"namespace {self._app.namespace}",
                todo="Apply it again, or run `labkit reset`.",
            )
        store, namespace = eso.store_of(found)
        # Events of an object without a namespace are kept in "default".
        self._tellers = (
            (self._name, self._app.namespace),
            (store, namespace or "default"),
        )
        self._known = {teller: eso.warnings(kube, *teller) for teller in self._tellers}
        self._since: float | None = None
        self._next_look = 0.0

    def begin(self) -> float:
        """The write is about to be made: whatever was told before is an old story.  The
        time now (unix seconds)."""
        self._started = time.time()
        return self._started

    def lasting(self) -> str:
        """The reason of a failure that has not passed for some seconds, else ""."""
        now = time.monotonic()
        if now < self._next_look:
            return ""
        self._next_look = now + _LOOK
        reason = self.now()
        if not reason:
            self._since = None
            return ""
        self._since = self._since or now
        return reason if now - self._since >= _PATIENCE else ""

    def now(self) -> str:
        """The reason of a failure as it is told now, else ""."""
        return self._of_eso() or self._of_app()

    def _of_eso(self) -> str:
        found = self._kube.get(eso.API, "ExternalSecret", self._name, self._app.namespace)
        if found is None:
            return f"the ExternalSecret {self._name} is gone"
        ready = condition(found, "Ready")
        if ready is None or ready.get("status") == "True":
            return ""  # also when there was a warning: the next try went well
        told = [
            text
            for teller in self._tellers
            if (text := eso.last_warning(self._kube, *teller, besides=self._known[teller]))
        ]
        # A forced sync makes ESO say it anew; otherwise it may be an old story.
        if not told and not self._forced and not self._is_new(ready):
            return ""
        return "; ".join(told) or f"{ready.get('reason')}: {ready.get('message')}"

    def _is_new(self, ready: Object) -> bool:
        stamp = ready.get("lastTransitionTime")
        return bool(stamp and datetime.fromisoformat(stamp).timestamp() >= int(self._started))

    def _of_app(self) -> str:
        try:
            history = self._app.history()
        except ClusterError:
            return ""
        told = [
            event
            for event in history
            if event["at"] >= self._started
            and event["event"] in {"loaded", "reloaded", "recovered", "load-failed"}
        ]
        if not told or told[-1]["event"] != "load-failed":
            return ""
        return f"the app cannot use the new file: {told[-1].get('error')}"


def told_of(kube: Kube, external_secret: Object) -> str:
    """Why an ExternalSecret that is not ready fails, for whoever has seen that already: its
    condition, and its provider's own words from its last warning event and its store's.

    No other part of an event is taken, so that it can be shown and kept: a template's error
    may quote a value.
    """
    ready = condition(external_secret, "Ready") or {}
    meta = external_secret["metadata"]
    store, namespace = eso.store_of(external_secret)
    events = (
        eso.last_warning(kube, meta["name"], meta["namespace"]),
        eso.last_warning(kube, store, namespace or "default"),
    )
    words = [
        " ".join(found[0].split())
        for event in events
        if (found := re.search(r"Code: \d+\. Errors:\s+\* .+", event, re.DOTALL))
    ]
    said = f"the ExternalSecret says {ready.get('reason')}: {ready.get('message')}"
    return f"{said} ({words[0]})" if words else said
