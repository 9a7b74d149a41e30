"""The cluster map: from Vault to the pods, what owns or uses what, and how each is.

It is drawn from the watcher's snapshots, which hold no values.  An object's YAML and events
are fetched when somebody asks (``closeup``); a Secret's values only when Reveal is pressed,
and then they go to the one that asked, in a message: they are never part of ``state``.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from labkit import closeup, eso
from labkit.lab import Lab
from labkit.snapshot import Health, Snapshot, Thing
from labkit.views.following import Following, one

WORDS: Mapping[Health, str] = {
    "ok": "ok",
    "progressing": "in progress",
    "bad": "not well",
    "unknown": "unknown",
}
_VAULT_HEALTH: Mapping[str, Health] = {
    "open": "ok",
    "starting": "progressing",
    "sealed": "bad",
    "new": "bad",
    "stopped": "bad",
}
_STORES = (eso.STORE.kind, eso.NAMESPACED_STORE.kind)


def show(lab: Lab) -> Cluster:
    """The map of this lab, live."""

    def look(asked: Mapping[str, Any]) -> dict[str, Any]:
        kind, namespace, name = _address(asked)
        found = closeup.look(lab.api, kind, namespace, name)
        return {"uid": asked["uid"], "found": asdict(found) if found else None}

    def reveal(asked: Mapping[str, Any]) -> dict[str, Any]:
        _, namespace, name = _address(asked)
        values = closeup.reveal(lab.api, namespace, name)
        return {
            "uid": asked["uid"],
            "for": asked["for"],  # every tab gets the message: only this one is to show it
            "values": values,
            "command": closeup.reveal_command(namespace, name, tuple(values)),
        }

    return one(Cluster, lab, lambda: Cluster(lab, state_of, {"look": look, "reveal": reveal}))


def _address(asked: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(asked["kind"]), str(asked["namespace"]), str(asked["name"])


# -- what is shown ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arrow:
    """``start`` and ``end`` are uids; ``word`` says what the one does with the other."""

    start: str
    end: str
    word: str
    owns: bool


def things_of(seen: Snapshot) -> tuple[Thing, ...]:
    """The snapshot's things without the ReplicaSets of former versions; Vault tells more of
    how it is than its StatefulSet does."""
    return tuple(
        _as_vault(thing, seen)
        for thing in seen.things
        if not (thing.kind == "ReplicaSet" and thing.message == "scaled to 0")
    )


def _as_vault(thing: Thing, seen: Snapshot) -> Thing:
    health = _VAULT_HEALTH.get(seen.vault.state)
    if (thing.kind, thing.namespace, thing.name) != ("StatefulSet", "vault", "vault") or not health:
        return thing
    said = " ".join(word for word in (seen.vault.engine, seen.vault.version) if word)
    return replace(thing, health=health, message=f"{said}: {seen.vault.state}")


def arrows_of(things: tuple[Thing, ...]) -> tuple[_Arrow, ...]:
    """Who owns whom, and who uses what: one arrow for each pair, between what is there."""
    by_uid = {thing.uid: thing for thing in things}
    by_name = {(thing.kind, thing.namespace, thing.name): thing for thing in things}
    words: dict[tuple[str, str], list[str]] = {}
    for thing in things:
        for link in thing.links:
            if target := by_name.get((link.kind, link.namespace, link.name)):
                word = "has as env" if link.relation == "env" else link.relation
                words.setdefault((thing.uid, target.uid), []).append(word)
        for owner in thing.owners:
            if owner in by_uid:
                words.setdefault((owner, thing.uid), []).append("owns")
    return tuple(
        _Arrow(
            start, end, " and ".join(sorted(dict.fromkeys(said), key="owns".__eq__)), "owns" in said
        )
        for (start, end), said in words.items()
    )


def state_of(seen: Snapshot) -> dict[str, Any]:
    """What the map shows: ``rows`` of things from Vault down to the Deployments, and the
    ``arrows`` between them."""
    things = things_of(seen)
    arrows = arrows_of(things)
    rows = [
        {"title": title, "things": [_card(thing, things, arrows) for thing in members]}
        for title, members in _rows(things)
    ]
    return {
        "rows": rows,
        "arrows": [asdict(arrow) for arrow in arrows],
        "note": seen.problem or ("" if seen.lab == "up" else _STOPPED),
    }


_STOPPED = "The lab is stopped. `labkit up` starts it."


def _rows(things: tuple[Thing, ...]) -> Iterator[tuple[str, list[Thing]]]:
    sets = {thing.uid for thing in things if thing.kind == "StatefulSet"}
    operator = [each for each in things if each.namespace == eso.NAMESPACE and _is_workload(each)]
    rest = [thing for thing in things if thing not in operator]
    backed = [each for each in rest if each.kind == "Pod" and sets & set(each.owners)]
    yield "Vault", [thing for thing in rest if thing.kind == "StatefulSet"] + backed
    yield "Stores", [thing for thing in rest if thing.kind in _STORES]
    yield "ExternalSecrets", [thing for thing in rest if thing.kind == "ExternalSecret"]
    yield "Secrets", [thing for thing in rest if thing.kind == "Secret"]
    yield "Pods", [thing for thing in rest if thing.kind == "Pod" and thing not in backed]
    yield "Deployments", _with_owned(rest)
    yield "ESO itself", _with_owned(operator) + [each for each in operator if each.kind == "Pod"]


def _is_workload(thing: Thing) -> bool:
    return thing.kind in {"Deployment", "ReplicaSet", "Pod"}


def _with_owned(things: list[Thing]) -> list[Thing]:
    """Each Deployment followed by its ReplicaSets, then ReplicaSets of nobody."""
    sets = [thing for thing in things if thing.kind == "ReplicaSet"]
    ordered: list[Thing] = []
    for deployment in (thing for thing in things if thing.kind == "Deployment"):
        ordered += [deployment, *(each for each in sets if deployment.uid in each.owners)]
    return ordered + [each for each in sets if each not in ordered]


def _card(thing: Thing, things: tuple[Thing, ...], arrows: tuple[_Arrow, ...]) -> dict[str, Any]:
    return {
        "uid": thing.uid,
        "kind": thing.kind,
        "namespace": thing.namespace,
        "name": thing.name,
        "title": _title(thing),
        "health": thing.health,
        "word": WORDS[thing.health],
        "message": thing.message,
        "changed_at": thing.changed_at,
        "links": _links(thing, things, arrows),
    }


def _title(thing: Thing) -> str:
    return f"{thing.kind} {f'{thing.namespace}/' if thing.namespace else ''}{thing.name}"


def _links(thing: Thing, things: tuple[Thing, ...], arrows: tuple[_Arrow, ...]) -> list[str]:
    """Its arrows in words, and what it refers to that is not there."""
    by_uid = {each.uid: each for each in things}
    said = [f"{a.word} {_title(by_uid[a.end])}" for a in arrows if a.start == thing.uid]
    said += [f"owned by {_title(by_uid[a.start])}" for a in arrows if a.end == thing.uid and a.owns]
    there = {(each.kind, each.namespace, each.name) for each in things}
    return said + [
        f"{link.relation} {link.kind} {link.name}, which is not there"
        for link in thing.links
        if (link.kind, link.namespace, link.name) not in there
    ]


# -- as text ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Branch:
    """A thing with what hangs below it; ``how`` says why it hangs there."""

    how: str
    thing: Thing
    below: tuple[_Branch, ...]


def tree_of(seen: Snapshot) -> tuple[_Branch, ...]:
    """Everything once: below its owner, else below what it reads from."""
    things = things_of(seen)
    by_uid = {thing.uid: thing for thing in things}
    below: dict[str, list[tuple[str, Thing]]] = {}
    roots = []
    arrows = arrows_of(things)
    for thing in things:
        owner = next((a for a in arrows if a.end == thing.uid and a.owns), None)
        source = next(
            (a for a in arrows if a.start == thing.uid and a.word in {"asks", "reads"}), None
        )
        if owner:
            below.setdefault(owner.start, []).append(("", thing))
        elif source:
            how = f"{source.word} it: "
            below.setdefault(source.end, []).append((how, thing))
        else:
            roots.append(thing)

    def grow(how: str, thing: Thing, above: frozenset[str]) -> _Branch:
        here = above | {thing.uid}
        return _Branch(
            how,
            by_uid[thing.uid],
            tuple(
                grow(*each, here) for each in below.get(thing.uid, []) if each[1].uid not in here
            ),
        )

    return tuple(grow("", thing, frozenset()) for thing in roots)


def _line(branch: _Branch) -> str:
    thing = branch.thing
    said = f", {thing.message}" if thing.message else ""
    at = datetime.fromtimestamp(thing.changed_at, UTC).strftime("%H:%M:%S UTC")
    uses = "".join(
        f"; {'has as env' if link.relation == 'env' else 'mounts'} {link.kind} {link.name}"
        for link in thing.links
        if link.relation in {"mounts", "env"}
    )
    return f"{branch.how}{_title(thing)}: {WORDS[thing.health]}{said}{uses} (last change {at})"


def as_lines(seen: Snapshot) -> list[str]:
    """The map as a tree of text."""
    lines = [f"Map of the lab {seen.name}"]
    if note := state_of(seen)["note"]:
        lines.append(note)

    def draw(branches: tuple[_Branch, ...], before: str) -> None:
        for branch in branches:
            is_last = branch is branches[-1]
            lines.append(f"{before}{'└─ ' if is_last else '├─ '}{_line(branch)}")
            draw(branch.below, before + ("   " if is_last else "│  "))

    draw(tree_of(seen), "")
    return lines


class Cluster(Following, files="cluster"):
    """The map.  Made by ``views.cluster(lab)``."""

    def as_text(self) -> str:
        return "\n".join(as_lines(self.latest))

    def as_html(self) -> str:
        def listed(branches: tuple[_Branch, ...]) -> str:
            items = "".join(
                f"<li>{html.escape(_line(branch))}{listed(branch.below)}</li>"
                for branch in branches
            )
            return f"<ul>{items}</ul>" if items else ""

        note = html.escape(self.state["note"])
        return (
            f"<p><b>Map of the lab {html.escape(self.latest.name)}</b></p>"
            + (f"<p>{note}</p>" if note else "")
            + listed(tree_of(self.latest))
        )
