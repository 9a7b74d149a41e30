"""A mounted Secret as the container sees it: the folder, and the swap that changes it.

The folder is told from the node's journal (the watcher's snapshots): which timestamped
folder ``..data`` leads to, which one it led to before, and when it was turned around.
Beside it stand the two ways that no rotation reaches, an environment variable and one file
by subPath.  Those are the facts of a pod of the view's own, which has the Secret in all
three ways; it runs once the learner wants it to, and until then the folder is the app's.

No value is ever shown, only marks: equal ones mean equal values, and a mark is made with a
key of the pod's process, so it tells nothing else.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from labkit import app as demo
from labkit.errors import ClusterError
from labkit.kube import Kube
from labkit.lab import Lab
from labkit.snapshot import Snapshot, Thing, Volume
from labkit.views.following import Following, one

POD = "three-ways"
MANIFEST = "manifests/05-application/three-ways.yaml"
START = f"kubectl apply -f {MANIFEST}"
REMOVE = f"kubectl -n {demo.NAMESPACE} delete pod {POD}"
TITLES = {
    "file": "A file in the folder",
    "env": "An environment variable",
    "subpath": "One file, by subPath",
}
"""The three ways, in the order in which they stand."""
MARKS = "Equal marks are equal values. A mark tells nothing else, and is another after a restart."
_PORT = 8080
_MOUNT = "/secrets"
_KEPT = 5  # swaps that are told
_PATIENCE = 8.0  # seconds that the pod's page has to say what the node has done
_PAUSE = 0.05


def show(lab: Lab, *, start: bool = False) -> VolumeView:
    """The folder of this lab's application, live.  ``start`` runs the pod that has the
    Secret in all three ways, for whoever has no browser to press the button in."""
    view = one(VolumeView, lab, lambda: VolumeView(lab))
    if start:
        view.start({})
    return view


# -- what is shown -----------------------------------------------------------------------------


def state_of(seen: Snapshot, shown: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the view shows.  ``shown`` is what the page of the pod with the three ways says
    (masked), None while it says nothing."""
    own = own_pod(seen)
    volume = volume_of(seen, POD) if own and own.health == "ok" else None
    is_own = volume is not None
    if volume is None:
        volume = seen.volume
    mount = _MOUNT if is_own or not seen.app.file_path else _parent(seen.app.file_path)
    return {
        "title": f"The folder {mount}",
        "where": f"in the pod {volume.pod} · Secret {volume.secret}" if volume else "",
        "sync": f"node sync mode {seen.sync}" if seen.sync else "",
        "note": _note(seen, volume),
        "folder": _folder(volume) if volume else None,
        "swaps": _swaps(volume) if volume else [],
        "ways": _ways(shown) if is_own and shown else [],
        "pod": {
            "state": "absent" if own is None else "there" if is_own and shown else "starting",
            "message": own.message if own else "",
            "why": _why_not(seen),
            "start": START,
            "remove": REMOVE,
        },
    }


def own_pod(seen: Snapshot) -> Thing | None:
    """The pod with the three ways, if it is there."""
    return seen.thing("Pod", demo.NAMESPACE, POD)


def volume_of(seen: Snapshot, pod: str) -> Volume | None:
    """The volume of this pod that holds the application's Secret."""
    wanted = (demo.NAMESPACE, pod, demo.SECRET)
    return next((v for v in seen.volumes if (v.namespace, v.pod, v.secret) == wanted), None)


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _note(seen: Snapshot, volume: Volume | None) -> str:
    if seen.lab == "stopped":
        return "The lab is stopped. `labkit up` starts it."
    if volume is None:
        return seen.problem or "No pod mounts the Secret yet."
    return seen.problem


def _why_not(seen: Snapshot) -> str:
    if seen.lab != "up":
        return "The lab does not run."
    if seen.thing("Secret", demo.NAMESPACE, demo.SECRET) is None:
        return f"There is no Secret {demo.SECRET} yet."
    return ""


def _folder(volume: Volume) -> dict[str, Any]:
    last = volume.swaps[-1]
    before = volume.swaps[-2].target if len(volume.swaps) > 1 else ""
    return {"target": volume.target, "before": before, "at": last.at, "files": list(last.files)}


def _swaps(volume: Volume) -> list[dict[str, Any]]:
    """The last swaps, newest first.  The first time that a volume is written is none."""
    pairs = zip(volume.swaps, volume.swaps[1:], strict=False)
    told = [
        {"at": new.at, "from": old.target, "to": new.target, "files": list(new.files)}
        for old, new in pairs
    ]
    return told[::-1][:_KEPT]


def _ways(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    has_changed = shown["version"] > 1
    ways = {
        "file": {
            "where": shown["file"]["path"],
            "mark": shown["file"]["fingerprint"] or "",
            "changed": has_changed,
            "same": True,
            "word": "Has the new value" if has_changed else "As at the start",
            "at": shown["loaded_at"],
        }
    }
    for other in shown["other_sources"]:
        changed, same = bool(other["changed_since_start"]), other["matches_file"]
        ways[other["kind"]] = {
            "where": other["where"],
            "mark": other["fingerprint"] or "",
            "changed": changed,
            "same": same is not False,
            "word": other["error"]
            or ("Changed" if changed else "As at the start")
            + ("" if same is not False else ", not what the file holds"),
            "at": other["read_at"],
        }
    return [
        {"kind": kind, "title": title, **ways[kind]}
        for kind, title in TITLES.items()
        if kind in ways
    ]


def as_lines(state: Mapping[str, Any]) -> list[str]:
    """The same as lines of text."""
    about = ", ".join(filter(None, [state["where"], state["sync"]]))
    lines = [state["title"] + (f" ({about})" if about else "")]
    if state["note"]:
        lines.append(state["note"])
    if folder := state["folder"]:
        lines += [f"  {file} -> ..data/{file}" for file in folder["files"]]
        lines.append(f"  ..data -> {folder['target'] or 'a folder of the moment'}")
        swaps = state["swaps"]
        lines.append("Swaps so far: none" if not swaps else "Swaps, the newest first:")
        lines += [
            f"  {_clock(swap['at'])}  {swap['from'] or '(gone)'} -> {swap['to']}" for swap in swaps
        ]
    if state["ways"]:
        lines.append("The same Secret in the same pod:")
        lines += [
            f"  {way['title']:<24} {way['where']:<22} mark {way['mark']:<8}  {way['word']}"
            for way in state["ways"]
        ]
        lines.append(MARKS)
    return lines


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


# -- the widget --------------------------------------------------------------------------------


class VolumeView(Following, files="volume"):
    """The folder and what stands beside it.  Made by ``views.volume(lab)``."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._page = _OwnPage(lab.api, self.redraw)
        super().__init__(
            lab,
            lambda seen: state_of(seen, self._page.shown),
            {"start": self.start, "remove": self.remove},
        )
        self.at_end(self._page.end)
        self._page.follow(self.latest)

    def start(self, _: Mapping[str, Any]) -> None:
        """Run the pod that has the Secret in all three ways; safe to repeat."""
        self._lab.apply(MANIFEST)

    def remove(self, _: Mapping[str, Any]) -> None:
        """Take that pod away; safe to repeat."""
        self._lab.api.delete("v1", "Pod", POD, demo.NAMESPACE)

    def as_text(self) -> str:
        return "\n".join(as_lines(self.state))

    def as_html(self) -> str:
        first, *rest = as_lines(self.state)
        text = html.escape("\n".join(rest))
        return f"<figure><figcaption>{html.escape(first)}</figcaption><pre>{text}</pre></figure>"

    def _take(self, snapshot: Snapshot) -> None:
        super()._take(snapshot)
        self._page.follow(snapshot)


class _OwnPage:
    """What the page of the pod with the three ways shows, asked again when the node has
    changed its folder, and not otherwise."""

    def __init__(self, kube: Kube, redraw: Callable[[], None]) -> None:
        self.shown: Mapping[str, Any] | None = None
        self._app = demo.App(kube, "", pod_name=POD, pod_port=_PORT)
        self._redraw = redraw
        self._wanted: tuple[str, str] | None = None  # the pod's uid and what ..data leads to

    def follow(self, seen: Snapshot) -> None:
        """Ask if there is something new to be told; quick, the asking is a thread's."""
        pod, volume = own_pod(seen), volume_of(seen, POD)
        wanted = (pod.uid, volume.target) if pod and volume and pod.health == "ok" else None
        if wanted == self._wanted:
            return
        if wanted is None or self._wanted is None or wanted[0] != self._wanted[0]:
            self.shown = None
        self._wanted = wanted
        if wanted:
            threading.Thread(
                target=self._ask, args=(wanted,), name="volume-view", daemon=True
            ).start()
        else:
            self._redraw()

    def end(self) -> None:
        """Ask no more."""
        self._wanted = None

    def _ask(self, wanted: tuple[str, str]) -> None:
        # The node has swapped: the application reads the file a moment later.
        deadline = time.monotonic() + _PATIENCE
        while self._wanted == wanted and time.monotonic() < deadline:
            try:
                shown = self._app.credentials()
            except ClusterError:
                shown = None
            if shown and shown["version"]:
                self.shown = {key: value for key, value in shown.items() if key != "values"}
                if shown["file"]["target"] == wanted[1]:
                    self._redraw()
                    return
            time.sleep(_PAUSE)
        self._redraw()
