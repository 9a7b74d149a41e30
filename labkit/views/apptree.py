"""Applications as Argo CD's "Resource Overview" shows them, live, with what can be asked of it.

Drawn from the watcher's snapshots (``apptree``); what the buttons do is ``appwork``'s, and
told as the ``argocd`` command that each stands for.  A difference is fetched when somebody
asks, with the values of Secrets masked by Argo CD, and is never part of ``state``.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from labkit import apptree, appwork, treetext
from labkit import lab as labs
from labkit.apptree import Overview
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.snapshot import Snapshot
from labkit.treetext import Node, Tree
from labkit.views.following import Following, one

_LONG = 12
"""A tree of more lines than this is folded at first, when all is well."""
_STOPPED = "The lab is stopped. `labkit up` starts it."


@dataclass(frozen=True)
class Told:
    """The last thing that was asked about an Application: ``ok`` is None until it is done."""

    line: str
    said: str = ""
    ok: bool | None = None


def show(lab: Lab) -> AppTree:
    """The Applications of this lab, live."""
    return one(AppTree, lab, lambda: AppTree(lab))


# -- what is shown ---------------------------------------------------------------------------


def overview_of(seen: Snapshot) -> Overview:
    """The overview that a snapshot holds, or why there is none."""
    found = apptree.overview(seen.deployed, seen.things)
    if found.trees:
        return found
    if seen.lab != "up":
        return replace(found, problem=seen.problem or _STOPPED)
    return found if seen.argocd else replace(found, problem=apptree.NOT_INSTALLED)


def state_of(seen: Snapshot, told: Mapping[str, Told]) -> dict[str, Any]:
    """What the view shows: ``apps`` in the order of their sync waves, each with its nodes
    and with what can be asked about it."""
    overview = overview_of(seen)
    by_name = {tree.name: tree for tree in overview.trees}
    return {
        "summary": _summary(overview, seen),
        "apps": [
            _app(tree, by_name, told.get(tree.name), is_up=seen.lab == "up")
            for tree in overview.trees
        ],
        "legend": treetext.LEGEND if overview.trees else "",
    }


def _summary(overview: Overview, seen: Snapshot) -> str:
    """How things are, in a line."""
    if overview.problem:
        return overview.problem
    count = len(overview.trees)
    wrong = [tree.app for tree in overview.trees if not tree.app.is_green]
    words = "; ".join(f"{app.name} is {app.sync}, {app.health}" for app in wrong)
    line = f"{count} Application{'' if count == 1 else 's'}: {words or 'Synced and Healthy'}."
    return line if seen.lab == "up" else f"{seen.problem}. Last seen: {line}"


def _app(
    tree: Tree, by_name: Mapping[str, Tree], told: Told | None, *, is_up: bool
) -> dict[str, Any]:
    app = tree.app
    nodes = treetext.shown(tree.nodes, by_name)
    is_syncing = app.phase == "Running"
    busy = "It is being done." if told and told.ok is None else ""
    busy = busy or ("" if is_up else "The lab does not run.")
    why = {
        "refresh": busy,
        "sync": busy or ("It is being synced." if is_syncing else ""),
        "diff": busy,
    }
    return {
        "name": tree.name,
        "sync": app.sync,
        "health": app.health,
        "about": ", ".join(
            filter(
                None,
                (
                    "" if tree.is_root else f"sync wave {tree.wave}",
                    f"commit {tree.revision}" if tree.revision else "",
                    "being synced" if is_syncing else "",
                ),
            )
        ),
        "message": app.message,
        "count": _count(tree),
        "open": sum(1 for node in nodes for _ in node.walk()) <= _LONG or not app.is_green,
        "nodes": _nodes(nodes, by_name),
        "differs": app.sync == "OutOfSync",
        "asks": {
            what: {"line": appwork.command(what, tree.name), "why": reason}
            for what, reason in why.items()
        },
        "told": asdict(told) if told else None,
    }


def _count(tree: Tree) -> str:
    """How many objects there are, and of which sync those are that Argo CD compares."""
    kinds: dict[str, int] = {}
    nodes = list(tree.walk())
    for node in nodes:
        if node.is_tracked:
            kinds[node.sync_word] = kinds.get(node.sync_word, 0) + 1
    made = sum(not node.is_tracked for node in nodes)
    words = [f"{number} {word}" for word, number in sorted(kinds.items())]
    words += [f"{made} made from them"] if made else []
    head = f"{len(nodes)} object{'' if len(nodes) == 1 else 's'}"
    return f"{head}: {', '.join(words)}" if words else "no object"


def _nodes(nodes: tuple[Node, ...], by_name: Mapping[str, Tree]) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{node.kind}.{node.group}/{node.namespace}/{node.name}",
            "kind": node.kind,
            "name": node.name,
            "namespace": node.namespace,
            "sync": node.sync_word,
            "health": node.health,
            "note": node.note,
            "below": _nodes(treetext.shown(node.below, by_name), by_name),
        }
        for node in nodes
    ]


class AppTree(Following, files="apptree"):
    """The trees.  Made by ``views.apptree(lab)``."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._told: dict[str, Told] = {}
        self._guard = threading.Lock()
        asks: dict[str, Callable[[Mapping[str, Any]], None]] = {
            what: self._press(what) for what in ("refresh", "sync", "diff")
        }
        super().__init__(lab, lambda seen: state_of(seen, self._told), asks)

    def ask(self, what: str, name: str) -> threading.Thread:
        """Begin what a button does (refresh, sync, diff) for the Application of this name;
        the thread that does it.  Raises LabError when it cannot be done now."""
        # The lab may have been started anew since this was made: another API, other keys.
        lab = labs.attach(self._lab.name)
        line = appwork.command(what, name)
        with self._guard:
            before = self._told.get(name)
            if before and before.ok is None:
                raise LabError(
                    f"`{line}` cannot be done now", seen=f"`{before.line}` is being done"
                )
            self._told = {**self._told, name: Told(line)}
        self.redraw()
        thread = threading.Thread(
            target=self._run, args=(lab, what, name), name=f"labkit-{what}-{name}", daemon=True
        )
        thread.start()
        return thread

    def _press(self, what: str) -> Callable[[Mapping[str, Any]], None]:
        def press(asked: Mapping[str, Any]) -> None:
            self.ask(what, str(asked["app"]))

        return press

    def _run(self, lab: Lab, what: str, name: str) -> None:
        try:
            if what == "diff":
                found = appwork.diff(lab, name)
                # In a message and not in `state`, which is stored with the notebook.
                self.send({"did": "diff", "app": name, "text": found.text})
                said = "" if found.text else str(found)
            else:
                said = (appwork.sync if what == "sync" else appwork.refresh)(lab, name)
            self._tell(name, said, ok=True)
        except LabError as error:
            self._tell(name, str(error), ok=False)
        except BaseException as error:
            self._tell(name, f"It ended with an unexpected {type(error).__name__}.", ok=False)
            raise

    def _tell(self, name: str, said: str, *, ok: bool) -> None:
        with self._guard:
            self._told = {**self._told, name: replace(self._told[name], said=said, ok=ok)}
        self.redraw()

    # -- as text ---------------------------------------------------------------------------

    def as_text(self) -> str:
        overview = overview_of(self.latest)
        return f"Applications\n{self.state['summary']}" + (
            f"\n\n{overview}" if overview.trees else ""
        )

    def as_html(self) -> str:
        overview = overview_of(self.latest)
        head = f"<p><b>Applications</b></p><p>{html.escape(self.state['summary'])}</p>"
        return head + (treetext.table(overview.trees) if overview.trees else "")
