"""What the lines of a passage prove, said in twelve steps.

One function a step.  Each gets the same two things, the facts and the passage, and
either shows a line or says why there is none.  What was refused is told with the words
of whoever refused it, and is not proven.

Times are those of asking, so that the steps come in the order of their causes; an answer
that is a step of its own (7) has the answer's.  9 and 10 run side by side: ESO closes
its books while the node renames.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from labkit.evidence import sync
from labkit.evidence.facts import Facts, Subject, gather
from labkit.evidence.passage import ESO, Passage, find
from labkit.evidence.reasons import API_LOG, APP_LOG, NODE_LOG, NOT_REACHED, no_line
from labkit.evidence.story import Step, Story
from labkit.evidence.witnesses import ApiCall
from labkit.kube import Kube

_COURSE = Subject()
_ARGO = re.compile(r"^system:serviceaccount:([^:]*argo-?cd[^:]*:.*|[^:]*:argo-?cd.*)$")
_CONTROLLERS = ("system:serviceaccount:kube-system:", "system:kube-", "system:node:")
_APPLIED = ("externalsecrets", "deployments", "services")


def story(
    kube: Kube,
    *,
    api_audit: Path | None,
    node_journal: Path | None,
    subject: Subject = _COURSE,
    start: float | None = None,
    settle: float = 2.0,
) -> Story:
    """The latest passage of a secret from Git to page, in twelve steps.

    ``api_audit`` and ``node_journal`` are the files of an embedded lab, None elsewhere.
    ``start`` (unix seconds) is what times are told from; it chooses no passage.
    ``settle`` is how long to wait, in seconds, for a passage that is under way to end.
    Raises ClusterError when the Kubernetes API does not answer; a witness that is missing
    only leaves its steps unproven.
    """
    told = steps(
        kube, api_audit=api_audit, node_journal=node_journal, subject=subject, settle=settle
    )
    return Story(told, start)


def steps(
    kube: Kube,
    *,
    api_audit: Path | None,
    node_journal: Path | None,
    subject: Subject = _COURSE,
    settle: float = 2.0,
) -> tuple[Step, ...]:
    """Exactly twelve steps, in order (see ``story``)."""
    deadline = time.monotonic() + settle
    while True:
        facts = gather(kube, api_audit=api_audit, node_journal=node_journal, subject=subject)
        passage = find(facts)
        if passage.write is None or passage.done or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # ESO wrote the Secret and is about to write its status
    told: tuple[Callable[[Facts, Passage], Step], ...] = (
        _applied,
        _plain_objects,
        sync.reaches_eso,
        sync.resolves_store,
        sync.logs_in,
        sync.is_trusted,
        sync.vault_answers,
        sync.writes_secret,
        sync.is_over,
        _is_mounted,
        _is_read,
        _is_shown,
    )
    return tuple(tell(facts, passage) for tell in told)


# -- from Git to the API


def _applied(facts: Facts, _: Passage) -> Step:
    step = partial(Step, 1, "Argo CD applies the manifests", whom="the Kubernetes API")
    found = [call for resource in _APPLIED for call in _written(facts, resource)]
    by_argo = [call for call in found if _ARGO.match(call.user)]
    if by_argo:
        last = max(by_argo, key=lambda call: call.asked)
        return step(at=last.asked, who=f"Argo CD as {last.user}", witness=API_LOG, proof=str(last))
    own = [call for call in found if call.resource == "externalsecrets"] or found
    if not own:
        return step(
            missing=facts.silence("api") or no_line("apply of them"),
        )
    return step(
        at=own[0].asked,
        who=own[0].user,
        witness=API_LOG,
        proof=str(own[0]),
        missing=f"no ServiceAccount of Argo CD applied them; {own[0].user} did",
    )


def _plain_objects(facts: Facts, _: Passage) -> Step:
    step = partial(
        Step, 2, "Service and Deployment are applied as they are", whom="the Kubernetes API"
    )
    subject = facts.subject
    wanted = {"services": subject.service, "deployments": subject.deployment}
    found = {resource: _written(facts, resource) for resource in wanted}
    absent = [f"{resource}/{wanted[resource]}" for resource, calls in found.items() if not calls]
    chosen = [
        next((call for call in calls if _ARGO.match(call.user)), calls[0])
        for calls in found.values()
        if calls
    ]
    return step(
        at=max((call.asked for call in chosen), default=None),
        who=", ".join(sorted({call.user for call in chosen})),
        witness=API_LOG if chosen else "",
        proof="; ".join(map(str, chosen)),
        missing=(facts.silence("api") or no_line(f"write of {' or '.join(absent)}"))
        if absent
        else "",
    )


def _written(facts: Facts, resource: str) -> list[ApiCall]:
    """Writes of one of the subject's objects by people and tools, since it was made."""
    subject = facts.subject
    name = {
        "externalsecrets": subject.external_secret,
        "deployments": subject.deployment,
        "services": subject.service,
    }[resource]
    if resource not in facts.made:
        return []
    since = datetime.fromisoformat(facts.made[resource]).timestamp()  # whole seconds
    return [
        call
        for call in facts.calls or ()
        if call.is_about(resource, subject.namespace, name)
        and call.verb in {"create", "update", "patch"}
        and call.ok
        and call.answered >= since
        and not call.user.startswith(_CONTROLLERS)
        and not call.user.startswith(ESO)
    ]


# -- the node, the app, the page


def _is_mounted(facts: Facts, passage: Passage) -> Step:
    volume, path = facts.mount
    rename, fetched = passage.rename, passage.fetched
    file = f"{path}/{rename.files[0]}" if path and rename and len(rename.files) == 1 else path
    name = ((facts.pod or {}).get("spec") or {}).get("nodeName", "")
    who = f"the node {name}".rstrip() + (f" as {fetched.user}" if fetched else "")
    step = partial(
        Step,
        10,
        f"The Deployment mounts it at {file or 'a path'}",
        who=who,
        whom=f"the Kubernetes API, Secret {facts.secret}",
    )
    if rename is None:
        missing = (
            (passage.failed and f"{NOT_REACHED}: the files are those of an earlier one")
            or (facts.pod is None and f"{facts.subject.deployment} has no pod")
            or (not volume and f"no volume of the pod is made of the Secret {facts.secret}")
            or facts.silence("node")
            or "the node renamed nothing since the Secret was written"
        )
        return step(missing=str(missing))
    read = f"; {fetched}" if fetched else ""
    return step(
        at=rename.at,
        witness=NODE_LOG,
        proof=f"rename of ..data in {rename.volume}, Secret at version {rename.version}{read}",
    )


def _is_read(facts: Facts, passage: Passage) -> Step:
    event = passage.reload
    spec = (facts.pod or {}).get("spec") or {}
    no_token = spec.get("automountServiceAccountToken") is False
    step = partial(
        Step,
        11,
        "The app reads it like any file",
        who="the app" + (", which has no ServiceAccount token" if no_token else ""),
        whom="its file system" + (f", {facts.mount[1]}" if facts.mount[1] else ""),
    )
    if event is None:
        missing = (
            (passage.failed and NOT_REACHED)
            or facts.silence("app")
            or "the app tells of no reload since"
        )
        return step(missing=str(missing))
    changed = ", ".join(map(str, event.get("changed") or ()))
    return step(
        at=float(event["at"]),
        witness=APP_LOG,
        proof=f"{event['event']}, version {event['version']}"
        + (f", changed: {changed}" if changed else ""),
    )


def _is_shown(facts: Facts, passage: Passage) -> Step:
    shown, reload = passage.shown, passage.reload
    step = partial(Step, 12, "The page shows it", whom="the app's server")
    if shown is None:
        missing = (
            (passage.failed and NOT_REACHED)
            or facts.silence("app")
            or (reload and f"no page acknowledged version {reload['version']} (was one open?)")
            or "the app tells of no reload since"
        )
        return step(who="a page", missing=str(missing))
    return step(
        at=float(shown["at"]),
        who=f"the page {shown.get('client')}",
        witness=APP_LOG,
        proof=f"acknowledged version {shown['version']}",
    )
