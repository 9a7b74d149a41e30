"""Rotate the secrets of lanes, many times, and look up what became of each rotation.

How often, and what makes ESO read, is the caller's ``Mode``; the lanes come from
``lanes``, the evidence from ``trail``.  The logs are read once when all rotations of a
mode are over, not once for each.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass

from labkit import eso
from labkit.errors import LabError, UsageError, WaitTimeout
from labkit.kube import Kube
from labkit.lane import NAMESPACE, Lane, Sync
from labkit.onlookers import SecretWatch, stand_ins
from labkit.trail import HOPS, Rotation, Trail, Witnesses, app_proofs, in_order

FORCED = "forced"
_INTERVAL = re.compile(r"([1-9][0-9]{0,2})s")
_SPREAD = 5.0  # seconds over which the lanes begin: ESO shall not read for all at once
_NEVER = "1h"  # a refreshInterval that no measurement lives to see
_KUBELET = 75.0  # seconds between a kubelet's looks at a pod's Secrets: 60 to 90
_DICE = random.Random()  # noqa: S311 - no secret: a moment
_GAP = 0.05  # seconds from "now" to the earliest moment that can be drawn
_PATIENCE = {"watch": 20.0, "kubelet": 120.0}  # seconds from ESO's read to the page, at most
_STEP = 0.25  # seconds after which a waiting lane sees that it shall stop


@dataclass(frozen=True)
class Mode:
    """What makes ESO read: ``interval`` seconds having passed, or (None) being asked."""

    name: str
    interval: float | None

    @classmethod
    def of(cls, name: str) -> Mode:
        """The mode called ``15s``, ``5s``, … or ``forced``.  Raises UsageError."""
        if name == FORCED:
            return cls(name, None)
        found = _INTERVAL.fullmatch(name)
        if found is None:
            raise UsageError(
                "A mode is a refreshInterval in seconds, or forced",
                seen=repr(name),
                todo='Try modes=("15s", "5s", "forced").',
            )
        return cls(name, float(found[1]))

    def __str__(self) -> str:
        return "forced sync" if self.interval is None else f"refreshInterval {self.name}"


@dataclass(frozen=True)
class Sample:
    """One rotation: the lane, when Vault had the new value (``at``, unix seconds), and for
    each of the six hops the seconds since then."""

    lane: str
    at: float
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Made:
    lane: Lane
    rotation: Rotation
    before: int  # the app's version
    swapped: float | None  # the new file's own time, as the app saw it


class Rounds:
    """Rotations on these lanes; the witnesses are those of the lab that they are in."""

    def __init__(self, kube: Kube, lanes: Sequence[Lane], witnesses: Witnesses) -> None:
        self._kube = kube
        self._lanes = lanes
        self._witnesses = witnesses
        self._is_slow = witnesses.sync != "watch"
        self._patience = _PATIENCE.get(witnesses.sync, max(_PATIENCE.values()))
        self._writing = threading.Lock()
        self._stop = threading.Event()
        has_log = witnesses.api_audit is not None
        self._secrets = None if has_log else SecretWatch(kube, NAMESPACE)

    def run(self, mode: Mode, rotations: int) -> tuple[Sample, ...]:
        """Rotate that many times, spread over the lanes, and prove each.

        Between two refreshes a write comes at a random moment (evenly distributed), as it
        would in real life; what is left of the interval is then waited for.  The first
        tenths of a second after a refresh, in which the rotation before is still under
        way, are left out.  A forced sync is asked for right after the write, one lane at
        a time.

        A node that looks at its Secrets once a minute (``kubelet``) has a phase of its own:
        there all lanes work at once, and each write waits for a random moment in that
        minute.

        Raises WaitTimeout when a value does not come through, LabError when a hop has no
        evidence.
        """
        since = time.time()
        one_by_one = mode.interval is None and not self._is_slow
        with self._secrets or nullcontext():
            made = self._forced(rotations) if one_by_one else self._at_once(mode, rotations)
            return self._prove(made, since)

    # -- making them -----------------------------------------------------------------

    def _forced(self, rotations: int) -> list[_Made]:
        for lane in self._lanes:
            self._arm(lane, _NEVER)
        made: list[_Made] = []
        for number in range(rotations):
            lane = self._lanes[number % len(self._lanes)]
            made.append(self._rotate(lane, Mode.of(FORCED)))
        return made

    def _at_once(self, mode: Mode, rotations: int) -> list[_Made]:
        """Every lane in a thread of its own; when one fails, or the caller is interrupted,
        the others stop, too."""
        lanes = self._lanes[:rotations]
        share, more = divmod(rotations, len(lanes))
        # ESO counts the interval from a whole second, so a lane that begins on one keeps
        # the phase that it is given.
        begin = float(int(time.time()) + 1)
        with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
            try:
                futures = [
                    pool.submit(
                        self._lane,
                        lane,
                        mode,
                        share + (number < more),
                        begin + int(number * _SPREAD / len(lanes)),
                    )
                    for number, lane in enumerate(lanes)
                ]
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = next((each for each in futures if each.done() and each.exception()), None)
                if failed:
                    failed.result()
            except BaseException:
                self._stop.set()
                raise
        return [made for future in futures for made in future.result()]

    def _lane(self, lane: Lane, mode: Mode, count: int, begin: float) -> list[_Made]:
        if self._stop.wait(begin - time.time()):
            return []
        synced = self._arm(lane, mode.name if mode.interval else _NEVER)
        made: list[_Made] = []
        while len(made) < count:
            if self._stop.wait(self._pause(mode, synced)):
                break
            made.append(self._rotate(lane, mode))
            if mode.interval:  # the page is quicker than the ExternalSecret's own status
                synced = self._wait_synced(lane, Sync(synced.generation, synced.at + 1))
        return made

    def _pause(self, mode: Mode, synced: Sync) -> float:
        """How long a lane waits for the moment of its next write, in seconds."""
        if self._is_slow or mode.interval is None:
            return _DICE.uniform(0.0, _KUBELET)
        earliest = min(time.time() - synced.at + _GAP, mode.interval)
        moment = synced.at + _DICE.uniform(earliest, mode.interval)
        return max(0.0, moment - time.time())

    def _arm(self, lane: Lane, interval: str) -> Sync:
        """Set the refreshInterval and wait for the read that ESO makes of that."""
        return self._wait_synced(lane, lane.refresh_every(interval))

    def _wait_synced(self, lane: Lane, wanted: Sync) -> Sync:
        deadline = time.monotonic() + self._patience
        while (synced := lane.synced()) < wanted and not self._stop.is_set():
            if time.monotonic() > deadline:
                raise self._late(lane, self._patience, "ESO did not read")
            time.sleep(0.05)
        return synced

    def _rotate(self, lane: Lane, mode: Mode) -> _Made:
        """One rotation, up to the page; without evidence yet."""
        before = int(lane.app.credentials()["version"])
        with self._writing:  # one connection's bookkeeping is not made for many threads
            rotation = lane.write(started=time.time())
        if mode.interval is None:
            eso.force_sync(self._kube, lane.name, NAMESPACE)
        limit = (mode.interval or 0.0) + self._patience
        deadline = time.monotonic() + limit
        while not lane.page.wait_shown(before + 1, timeout=_STEP) and not self._stop.is_set():
            if time.monotonic() > deadline:
                raise self._late(lane, limit, "the new value did not reach the page")
        has_journal = self._witnesses.node_journal is not None
        swapped = None if has_journal else lane.app.credentials().get("file_changed_at")
        return _Made(lane, rotation, before, swapped)

    def _late(self, lane: Lane, limit: float, what: str) -> WaitTimeout:
        return WaitTimeout(
            f"{lane.name}: {what} within {limit:g} s",
            seen=eso.last_warning(self._kube, lane.name, NAMESPACE) or "no warning events",
            todo="Run `labkit status`; then measure again.",
        )

    # -- proving them ----------------------------------------------------------------

    def _prove(self, made: Sequence[_Made], since: float) -> tuple[Sample, ...]:
        """The samples, in the order of the writes."""
        deadline = time.monotonic() + 5.0  # the last lines may still be on their way
        while True:
            trail = Trail.read(self._kube, self._witnesses, since)
            histories = {
                each.lane.name: each.lane.app.history()
                for each in {each.lane.name: each for each in made}.values()
            }
            samples, gap = [], ""
            for each in made:
                found = trail.proofs(each.rotation)
                start = found["eso-read"].at if "eso-read" in found else each.rotation.started
                found |= app_proofs(histories[each.lane.name], after=each.before, since=start)
                found |= stand_ins(each.rotation, self._secrets, each.swapped)
                found = in_order(found)
                missing = next((name for name in HOPS if name not in found), "")
                if missing:
                    gap = f"{each.lane.name} has no evidence of {missing}"
                    continue
                first = found[HOPS[0]].at
                samples.append(
                    Sample(each.lane.name, first, tuple(found[name].at - first for name in HOPS))
                )
            if not gap:
                return tuple(sorted(samples, key=lambda sample: sample.at))
            if time.monotonic() > deadline:
                raise LabError(
                    "A rotation reached the page, but not every hop can be proven",
                    seen=gap,
                    todo="Measure again; if it stays, please report it.",
                )
            time.sleep(0.1)
