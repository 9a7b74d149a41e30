"""How long rotations take, hop by hop: many of them, measured on lanes of their own.

    measured = lab.latencies()        # a table and a plot, as a notebook's last line

It puts ``lanes``, ``rounds`` and ``chart`` together and keeps the outcome, with what makes
it believable: that every app was the same process all along, and what became of the same
Secret as an environment variable and by subPath.  The figures are the witnesses'
(``trail``); what they teach is left to the lesson.
"""

from __future__ import annotations

import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hvac

from labkit import chart, lanes
from labkit.errors import UsageError
from labkit.kube import Kube
from labkit.lane import POD, Lane, Look
from labkit.rounds import FORCED, Mode, Rounds, Sample
from labkit.trail import HOPS, Witnesses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODES = ("15s", "5s", FORCED)
TOTAL = "write to page"
_MOST = 500  # rotations: the app remembers its last 200 events


@dataclass(frozen=True)
class LaneReport:
    """What one lane's app went through.

    ``versions`` counts the new files that it read, ``started_at`` is its container's.
    ``env_changed`` and ``subpath_changed`` say whether the environment variable and the
    subPath file, made of the same Secret, have another value than before.
    """

    lane: str
    versions: int
    started_at: str
    same_start: bool
    restarts: int
    env_changed: bool
    subpath_changed: bool


@dataclass(frozen=True)
class Latencies:
    """Samples by mode, and what the apps went through meanwhile.

    ``sync`` is how Secrets reach files on this node: with ``watch`` at once, which no
    stock kubelet does; with ``kubelet`` after up to 90 s.  ``took`` is in seconds.
    """

    samples: Mapping[str, tuple[Sample, ...]]
    lanes: tuple[LaneReport, ...]
    sync: str
    pod: str
    same_pod: bool
    took: float

    def since_write(self, mode: str, hop: str) -> tuple[float, ...]:
        """The seconds from the write in Vault to this hop, rotation by rotation."""
        return tuple(sample.seconds[HOPS.index(hop)] for sample in self.samples[mode])

    def step(self, mode: str, hop: str) -> tuple[float, ...]:
        """The seconds from the hop before to this one; for TOTAL, from the first to the last."""
        if hop == TOTAL:
            return self.since_write(mode, HOPS[-1])
        end = HOPS.index(hop)
        return tuple(
            sample.seconds[end] - (sample.seconds[end - 1] if end else 0.0)
            for sample in self.samples[mode]
        )

    @property
    def restarts(self) -> int:
        """The restarts of all the lanes' containers together."""
        return sum(lane.restarts for lane in self.lanes)

    def table(self) -> str:
        """Half of the rotations took at most p50, 19 of 20 at most p95: in seconds, each hop
        from the one before, then from the write to the page."""
        width = max(len(name) for name in (*HOPS, TOTAL)) + 2
        counts = {len(samples) for samples in self.samples.values()}
        lines = [
            f"Seconds, p50 / p95 of {' or '.join(map(str, sorted(counts)))} rotations "
            f"(node sync mode {self.sync})",
            " " * width + "".join(f"{mode:>18}" for mode in self.samples),
        ]
        for hop in (*HOPS[1:], TOTAL):
            figures = "".join(f"{_pair(self.step(mode, hop)):>18}" for mode in self.samples)
            lines.append(f"{hop:<{width}}{figures}")
        return "\n".join([*lines, "", *self.facts()])

    def facts(self) -> tuple[str, ...]:
        """What the apps went through, a line each."""
        count = len(self.lanes)
        same = sum(lane.same_start for lane in self.lanes)
        return (
            f"environment variable: another value in {sum(e.env_changed for e in self.lanes)} "
            f"of {count} apps",
            f"subPath file: another value in {sum(e.subpath_changed for e in self.lanes)} "
            f"of {count} apps",
            f"mounted file: {sum(e.versions for e in self.lanes)} new versions read",
            f"{'same pod' if self.same_pod else 'ANOTHER POD'}; same start time in {same} of "
            f"{count} containers; {self.restarts} restarts",
        )

    def plot(self) -> Figure:
        """The samples as a matplotlib Figure: a row for each hop and mode, time to the right.

        Modes have markers and labels of their own, so it reads without colour.
        """
        return chart.draw(
            [
                chart.Group(
                    hop,
                    tuple(
                        chart.Row(
                            str(Mode.of(mode)),
                            values := self.step(mode, hop),
                            statistics.median(values),
                            _percentile(values, 95),
                        )
                        for mode in self.samples
                    ),
                )
                for hop in (*HOPS[1:], TOTAL)
            ],
            never=self._never(),
            title="From Vault to the page, hop by hop",
            note="Each mark is one rotation. Thick stroke: p50, thin stroke: p95. "
            f"Node sync mode {self.sync}.",
        )

    def _never(self) -> tuple[str, ...]:
        wholes = (
            ("environment variable", any(lane.env_changed for lane in self.lanes)),
            ("subPath file", any(lane.subpath_changed for lane in self.lanes)),
        )
        return tuple(name for name, changed in wholes if not changed)

    @property
    def alt_text(self) -> str:
        """The plot in words, for whoever does not see it."""
        sentences = [
            f"{Mode.of(mode)}: median {statistics.median(values):.2f} s, "
            f"p95 {_percentile(values, 95):.2f} s, most of it before {self._longest(mode)}."
            for mode in self.samples
            if (values := self.step(mode, TOTAL))
        ]
        if never := self._never():
            sentences.append(f"Never changed: {' and '.join(never)}.")
        return " ".join(
            [
                "Dot plot of how long rotations took from Vault to the page, hop by hop, "
                f"on a logarithmic scale (node sync mode {self.sync}).",
                *sentences,
            ]
        )

    def _longest(self, mode: str) -> str:
        return max(HOPS, key=lambda hop: statistics.median(self.step(mode, hop)))

    def __str__(self) -> str:
        return self.table()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The table for a reader of text, the plot for others, its alternative text beside."""
        picture = b64encode(chart.png(self.plot())).decode()
        return (
            {"text/plain": self.table(), "image/png": picture},
            {"image/png": {"alt": self.alt_text}},
        )


def measure(
    kube: Kube,
    client: hvac.Client,
    *,
    witnesses: Witnesses,
    rotations: int = 20,
    modes: Sequence[str] = MODES,
    provide_app: Callable[[Kube, str], None] = lambda kube, namespace: None,
    on_progress: Callable[[str], None] | None = None,
) -> Latencies:
    """Rotate ``rotations`` times in each mode (``15s`` and such: that refreshInterval;
    ``forced``: a sync asked for) and say how long each hop took.

    Works in a namespace and on Vault keys of its own, and removes both, also when it is
    interrupted.  With 20 rotations and the modes above it takes about a minute in sync mode
    ``watch``, and about ten in ``kubelet``.  ``provide_app`` sees to it that a namespace can
    run the app, ``on_progress`` gets one line a step.

    Where there are no logs of the API server and the node, what stands in for them is told by
    ``trail.Witnesses``.  Raises UsageError for numbers and modes that it cannot do, and
    WaitTimeout when a value does not come through.
    """
    say = on_progress or (lambda _: None)
    if not 1 <= rotations <= _MOST:
        raise UsageError(f"Between 1 and {_MOST} rotations can be measured", seen=str(rotations))
    wanted = [Mode.of(mode) for mode in dict.fromkeys(modes)]
    if not wanted:
        raise UsageError("There is no mode to measure", todo=f"Leave modes out for {MODES}.")
    began = time.monotonic()
    count = min(rotations, lanes.MOST)
    say(f"Setting up {count} lanes: a key, an ExternalSecret, a Secret and an app each")
    with lanes.opened(kube, client, count, provide_app=provide_app) as opened:
        before = [lane.look() for lane in opened]
        rounds = Rounds(kube, opened, witnesses)
        samples = {}
        for mode in wanted:
            say(f"{mode}: {rotations} rotations (node sync mode {witnesses.sync})")
            samples[mode.name] = rounds.run(mode, rotations)
        after = [lane.look() for lane in opened]
        say("Removing the lanes")
    return Latencies(
        samples=samples,
        lanes=tuple(map(_report, opened, before, after)),
        sync=witnesses.sync,
        pod=POD,
        same_pod=all(a.pod_uid == b.pod_uid for a, b in zip(after, before, strict=True)),
        took=time.monotonic() - began,
    )


def _report(lane: Lane, before: Look, after: Look) -> LaneReport:
    return LaneReport(
        lane=lane.name,
        versions=after.version - before.version,
        started_at=after.started_at,
        same_start=(after.started_at, after.app) == (before.started_at, before.app),
        restarts=after.restarts - before.restarts,
        env_changed=after.env != before.env,
        subpath_changed=after.subpath != before.subpath,
    )


def _pair(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f} / {_percentile(values, 95):.3f}"


def _percentile(values: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of 100 do not exceed, interpolated between neighbours."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
