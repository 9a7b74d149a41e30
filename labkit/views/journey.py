"""The secret's journey: the six hops of every rotation, drawn as their evidence arrives.

The newest is told hop by hop; the ones before stay as bars on one common scale.  A rotation
that does not arrive names the hop that it waits for, and why.  All of it comes from the
watcher's snapshots: this only puts it into words and lengths.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from labkit.lab import Lab
from labkit.snapshot import Rotation, Snapshot
from labkit.views.following import Following, one

HOPS = {
    "vault-write": "Vault has the new version",
    "eso-read": "ESO read it",
    "secret-updated": "the Secret has it",
    "file-swapped": "the file has it",
    "app-reloaded": "the app has read it",
    "page-updated": "the page shows it",
}
"""The hops in a learner's words, in order."""
WORDS = {
    "done": "on the page",
    "unseen": "in the app",
    "under way": "under way",
    "stalled": "stalled",
    "overtaken": "overtaken",
    "unproven": "no evidence left",
}
"""How far a rotation has come.  ``unseen`` is the views' own: all that is missing is
somebody to look."""
NONE = "No rotation yet. Write a new password to Vault and watch it travel."


def show(lab: Lab) -> Journey:
    """The journey of this lab's secret, live."""
    return one(Journey, lab, lambda: Journey(lab, state_of))


def state_of(seen: Snapshot) -> dict[str, Any]:
    """What the view shows; ``rotations`` newest first, times in seconds.

    ``scale`` is the length that stands for the whole width of every bar.  ``now`` lets a
    browser with another clock count on.
    """
    told = [_told(rotation) for rotation in reversed(seen.rotations)]
    return {
        "mode": _mode(seen),
        "note": seen.problem or _note(seen),
        "rotations": told,
        "scale": max([each["reached"] for each in told], default=0.0),
        "said": told[0]["said"] if told else NONE,
        "now": seen.at,
    }


def _mode(seen: Snapshot) -> str:
    refresh = (
        f"refreshInterval {seen.refresh_interval}"
        if seen.refresh_interval
        else "no ExternalSecret yet"
    )
    return f"{refresh} · node sync mode {seen.sync}" if seen.sync else refresh


def _note(seen: Snapshot) -> str:
    if seen.lab == "stopped":
        return "The lab is stopped. `labkit up` starts it."
    return "" if seen.vault.state == "open" else f"Vault is {seen.vault.state}."


def _told(rotation: Rotation) -> dict[str, Any]:
    times = [hop.seconds for hop in rotation.hops if hop.seconds is not None]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    names = list(HOPS)
    longest = names[gaps.index(max(gaps)) + 1] if gaps else ""
    progress = _progress(rotation)
    return {
        "version": rotation.version,
        "started": rotation.started,
        "by": rotation.writer,
        "how": "forced sync" if rotation.forced else "at its refreshInterval",
        "progress": progress,
        "word": WORDS[progress],
        "counts": progress in {"under way", "stalled"},
        "waits": rotation.waits_for,
        "why": rotation.why,
        "due": rotation.due,
        "reached": times[-1] if times else 0.0,
        "longest": f"longest before “{HOPS[longest]}”: {max(gaps):.3f} s" if longest else "",
        "hops": [
            {
                "name": hop.name,
                "label": HOPS[hop.name],
                "seconds": hop.seconds,
                "evidence": hop.evidence,
            }
            for hop in rotation.hops
        ],
        "said": _said(rotation),
    }


def _progress(rotation: Rotation) -> str:
    is_last = rotation.waits_for == list(HOPS)[-1]
    if is_last and rotation.progress in {"stalled", "overtaken"}:
        return "unseen"
    return rotation.progress


def _said(rotation: Rotation) -> str:
    """The rotation in a sentence or two."""
    version, why = f"Version {rotation.version}", _sentence(rotation.why)
    hop = HOPS.get(rotation.waits_for, "")
    progress = _progress(rotation)
    if progress == "done":
        return f"{version} is on the page after {rotation.seconds:.3f} s."
    if progress == "unseen":
        reached = rotation.hops[-2].seconds or 0.0
        return f"{version} is in the app after {reached:.3f} s; {why}"
    if progress == "stalled":
        return f"{version} is stalled before “{hop}”: {why}"
    if progress == "under way":
        return f"{version} waits for “{hop}”: {why}"
    return f"{version}: {why}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def as_lines(state: Mapping[str, Any]) -> list[str]:
    """The same as lines of text: the newest hop by hop, the others in one line each."""
    lines = [f"The secret's journey ({state['mode']})"]
    if state["note"]:
        lines.append(state["note"])
    rotations = state["rotations"]
    if not rotations:
        return [*lines, NONE]
    lines.append(f"{rotations[0]['said']} ({rotations[0]['how']})")
    lines += [
        f"  {_seconds(hop['seconds']):>11}  {hop['label']:<26} {hop['evidence']}".rstrip()
        for hop in rotations[0]["hops"]
    ]
    for each in rotations[1:]:
        more = f"; {each['longest']}" if each["longest"] else ""
        lines.append(f"Before: {each['said']} ({each['how']}{more})")
    return lines


def _seconds(seconds: float | None) -> str:
    return "not yet" if seconds is None else f"+{seconds:.3f} s"


class Journey(Following, files="journey"):
    """The timeline.  Made by ``views.journey(lab)``."""

    def as_text(self) -> str:
        return "\n".join(as_lines(self.state))

    def as_html(self) -> str:
        rotations = self.state["rotations"]
        if not rotations:
            return super().as_html()
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(hop['label'])}</th>"
            f"<td>{_seconds(hop['seconds'])}</td><td>{html.escape(hop['evidence'])}</td></tr>"
            for hop in rotations[0]["hops"]
        )
        before = "".join(
            f"<li>{html.escape(each['said'])} ({html.escape(each['how'])})</li>"
            for each in rotations[1:]
        )
        return (
            f"<p><b>The secret's journey</b> ({html.escape(self.state['mode'])})</p>"
            f"<table><caption>{html.escape(rotations[0]['said'])} "
            f"({html.escape(rotations[0]['how'])})</caption>"
            f"<tr><th>hop</th><th>since the write</th><th>evidence</th></tr>{rows}</table>"
            + (f"<p>Before:</p><ul>{before}</ul>" if before else "")
        )
