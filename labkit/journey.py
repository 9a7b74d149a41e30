"""Follow one rotation from Vault to the page, each hop with evidence of its own.

It makes the rotation happen and waits for it; what the witnesses saw is read by
``trail``, and what it means is left to the lesson.  Which way the secret goes is told
by a ``Route``; the course's own names are its defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import hvac

from labkit import app as demo
from labkit import eso, vault
from labkit.errors import ClusterError, LabError, WaitTimeout
from labkit.kube import Kube
from labkit.onlookers import SecretWatch, stand_ins
from labkit.trail import (
    HOPS,
    Proof,
    Rotation,
    Trail,
    Witnesses,
    app_proofs,
    in_order,
    volumes_of,
)
from labkit.trouble import Trouble

__all__ = ["HOPS", "Hop", "Journey", "Route", "Witnesses", "rotate"]


@dataclass(frozen=True)
class Route:
    """The way of one secret: the KV key in Vault, the ExternalSecret that reads it, the
    Secret that this one writes, and the app that mounts it (its Service, the Service's
    port, and its pods' labels), all in one namespace."""

    key: str = vault.KEY
    namespace: str = demo.NAMESPACE
    external_secret: str = demo.EXTERNAL_SECRET
    secret: str = demo.SECRET
    service: str = demo.SERVICE
    port: str = demo.PORT
    labels: str = demo.LABELS

    def app(self, kube: Kube) -> demo.App:
        """The application at the end of the way."""
        return demo.App(kube, "", self.namespace, self.service, self.port, self.labels)


COURSE = Route()


@dataclass(frozen=True)
class Hop:
    """One hop: ``at`` in unix seconds and ``seconds`` since the first hop, both None
    when nothing proves that it happened; ``evidence`` names the witness."""

    name: str
    at: float | None
    seconds: float | None
    evidence: str


@dataclass(frozen=True)
class Journey:
    """One rotation.  ``pod_restarts`` counts those during it; ``same_pod`` is whether
    the pod before and after is one and the same."""

    hops: tuple[Hop, ...]
    pod: str
    pod_restarts: int
    same_pod: bool
    forced: bool
    sync: str

    def to_json(self) -> dict[str, Any]:
        """The journey as plain data (the contract of ``labkit tour --json``)."""
        return {
            **asdict(self),
            "hops": [asdict(hop) for hop in self.hops],
            "seconds": self.seconds,
        }

    @property
    def seconds(self) -> float | None:
        """From the write in Vault to the page, or None when the end is not proven."""
        return self.hops[-1].seconds

    def __str__(self) -> str:
        lines = [
            f"{hop.name:<15} "
            + (f"+{hop.seconds:6.3f} s" if hop.seconds is not None else "not proven")
            + f"  {hop.evidence}"
            for hop in self.hops
        ]
        same = "same pod" if self.same_pod else "another pod"
        how = "forced sync" if self.forced else "at its refreshInterval"
        return "\n".join(
            [*lines, f"{how}, node sync mode {self.sync}; {same}, {self.pod_restarts} restarts"]
        )


def rotate(
    kube: Kube,
    client: hvac.Client,
    values: Mapping[str, str],
    *,
    witnesses: Witnesses,
    route: Route = COURSE,
    forced: bool = True,
    timeout: float = 60.0,
    client_name: str = "labkit-tour",
    on_hop: Callable[[Hop], None] | None = None,
) -> Journey:
    """Write ``values`` to Vault and follow them to the app's page.

    ``forced`` asks ESO to read at once; without it the ExternalSecret's
    refreshInterval decides.  ``timeout`` is in seconds.  ``client_name`` is what the
    page stand-in calls itself when it acknowledges.  Where the app has several pods,
    one of them is followed.

    Raises WaitTimeout when the page does not show the new version in that time, naming
    the first hop without evidence; already after a few seconds when ESO or the app says
    of the new value that it failed, and goes on saying so.  Raises LabError when the pod
    is replaced or restarted on the way.
    """
    application = route.app(kube)
    application.wait_answering(timeout=timeout)
    pod = application.pod()
    if pod is None:
        raise LabError("The app has no pod", todo="Run `labkit reset` to deploy it again.")
    application = application.on(pod)
    before = application.wait_answering(timeout=timeout)
    trouble = Trouble(kube, application, route.external_secret, forced=forced)
    secrets = SecretWatch(kube, route.namespace, route.secret)
    with secrets, application.page(client_name) as page:
        if not page.opened.wait(5.0):
            raise WaitTimeout(
                "The app's event stream did not open within 5 s",
                seen=application.pod_state(),
                todo=f"See `kubectl -n {route.namespace} logs {pod['metadata']['name']}`.",
            )
        started = trouble.begin()
        rotation = Rotation(
            key=route.key,
            version=vault.write(client, values, key=route.key),
            namespace=route.namespace,
            secret=route.secret,
            pod_uid=pod["metadata"]["uid"],
            volumes=volumes_of(pod, route.secret),
            started=started,
        )
        if forced:
            eso.force_sync(kube, route.external_secret, route.namespace)
        evidence = _Evidence(kube, application, secrets, witnesses, rotation, before)
        deadline = time.monotonic() + timeout
        reason = ""
        while not evidence.is_complete() and time.monotonic() < deadline:
            if reason := trouble.lasting():
                break
            time.sleep(0.05)
    hops = evidence.hops()
    if on_hop:
        for hop in hops:
            on_hop(hop)
    after = kube.get("v1", "Pod", pod["metadata"]["name"], route.namespace)
    journey = Journey(
        hops=hops,
        pod=pod["metadata"]["name"],
        pod_restarts=(demo.restarts(after) if after else 0) - demo.restarts(pod),
        same_pod=bool(after and after["metadata"]["uid"] == pod["metadata"]["uid"]),
        forced=forced,
        sync=witnesses.sync,
    )
    missing = next((hop.name for hop in hops if hop.at is None), None)
    if missing:
        waited = time.time() - started
        raise WaitTimeout(
            f"The new value did not reach the page within {waited:.0f} s",
            seen=f"no evidence of {missing}; "
            + (reason or trouble.now() or _nothing_wrong(missing, rotation)),
            todo=f"See `kubectl -n {route.namespace} describe externalsecret "
            f"{route.external_secret}`.",
        )
    return journey


def _nothing_wrong(missing: str, rotation: Rotation) -> str:
    if missing == "secret-updated":
        return (
            f"ESO read version {rotation.version} of {vault.MOUNT}/{rotation.key} and left the "
            f"Secret {rotation.secret} as it was: is anything in it different?"
        )
    return "no warning events since the write"


class _Evidence:
    """The hops found so far; asks the other witnesses only once the page has it."""

    def __init__(
        self,
        kube: Kube,
        application: demo.App,
        secrets: SecretWatch,
        witnesses: Witnesses,
        rotation: Rotation,
        before: Mapping[str, Any],
    ) -> None:
        self._kube = kube
        self._app = application
        self._secrets = secrets
        self._witnesses = witnesses
        self._rotation = rotation
        self._before = before
        self._found: dict[str, Proof] = {}

    def is_complete(self) -> bool:
        """Ask for what is missing, from the far end back; whether all six are found."""
        if "page-updated" not in self._found:
            self._ask_app()
            if "page-updated" not in self._found:
                return False
        self._ask_others()
        return len(self._found) == len(HOPS)

    def hops(self) -> tuple[Hop, ...]:
        if len(self._found) < len(HOPS):  # the page never came: what do the others say?
            self._ask_others()
        found = in_order(self._found)
        first = found[HOPS[0]].at if HOPS[0] in found else self._rotation.started
        return tuple(
            Hop(name, proof.at, round(proof.at - first, 6), proof.evidence)
            if (proof := found.get(name))
            else Hop(name, None, None, "not proven")
            for name in HOPS
        )

    def _ask_app(self) -> None:
        try:
            history = self._app.history()
        except ClusterError as error:
            self._check_pod(error)
            return
        started = self._rotation.started
        if any(event["event"] == "started" and event["at"] >= started for event in history):
            raise LabError(
                "The app was restarted while the new value was on its way",
                seen=f"pod {self._app.pod_name}",
                todo=f"See `kubectl -n {self._app.namespace} describe pod {self._app.pod_name}`, "
                "then rotate again.",
            )
        self._found |= app_proofs(history, after=self._before["version"], since=started)

    def _check_pod(self, error: ClusterError) -> None:
        pod = self._kube.get("v1", "Pod", self._app.pod_name, self._app.namespace)
        if (
            pod is None
            or pod["metadata"]["uid"] != self._rotation.pod_uid
            or "deletionTimestamp" in pod["metadata"]
        ):
            raise LabError(
                "The app's pod was replaced while the new value was on its way",
                seen=f"pod {self._app.pod_name} is gone",
                todo="Rotate again: the next pod starts with the newest value.",
            ) from error

    def _ask_others(self) -> None:
        trail = Trail.read(self._kube, self._witnesses, self._rotation.started)
        self._found |= trail.proofs(self._rotation)
        secrets = self._secrets if self._witnesses.api_audit is None else None
        written = None
        if self._witnesses.node_journal is None and "page-updated" in self._found:
            written = self._app.credentials().get("file_changed_at")
        swapped = written if written and written >= self._rotation.started else None
        self._found |= stand_ins(self._rotation, secrets, swapped)
