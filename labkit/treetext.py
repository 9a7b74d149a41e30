"""Trees of Applications and how they read, as text and as HTML.

A tree is data, made by ``apptree``.  It reads the same each time: no ages, no hashes but
that of the commit, and many objects of one kind that are all the same are one line.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from labkit import argocd

APPLICATION = argocd.APPLICATION.kind
NOT_TRACKED = "not tracked"
LEGEND = (
    "not tracked: made by a controller in the cluster, and not by Argo CD, which neither "
    "compares nor prunes it."
)
_FOLD = 4  # more alike than this are one line
_NOTHING = "–"
_HEADS = ("NAME", "KIND", "SYNC", "HEALTH", "")


@dataclass(frozen=True)
class Node:
    """One object of a tree.

    ``sync`` is "" for what Argo CD does not compare: hooks, and what is not in Git but was
    made by a controller (``is_tracked`` False); ``health`` is "" for kinds that have none.
    ``note`` says what is to be known besides.
    """

    group: str
    kind: str
    namespace: str
    name: str
    sync: str
    health: str
    note: str = ""
    wave: int = 0
    is_tracked: bool = True
    below: tuple[Node, ...] = ()

    @property
    def sync_word(self) -> str:
        """``sync``, or why there is none."""
        return self.sync or ("hook" if self.is_tracked else NOT_TRACKED)

    def walk(self) -> Iterator[Node]:
        """This one and all below it."""
        yield self
        for node in self.below:
            yield from node.walk()


@dataclass(frozen=True)
class Tree:
    """One Application with the objects that it deploys; ``is_root``: by hand, and not by
    another Application of the same overview."""

    app: argocd.Application
    wave: int
    is_root: bool
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        return self.app.name

    @property
    def revision(self) -> str:
        """The commit that it was compared with, short."""
        return self.app.revision[:7]

    def walk(self) -> Iterator[Node]:
        """Every object of it, each before what it owns."""
        for node in self.nodes:
            yield from node.walk()


@dataclass(frozen=True)
class _Row:
    branch: str
    name: str
    kind: str
    sync: str
    health: str
    note: str

    @property
    def cells(self) -> tuple[str, ...]:
        health = self.health or _NOTHING
        return (self.branch + self.name, self.kind, self.sync, health, self.note)


def lines(trees: tuple[Tree, ...]) -> list[str]:
    """Trees with aligned columns; then why an Application is not green, in Argo CD's words."""
    rows = [_HEADS, *(row.cells for row in _rows(trees))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    drawn = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    below = _below(trees)
    return [line.rstrip() for line in drawn] + (["", *below] if below else [])


def table(trees: tuple[Tree, ...]) -> str:
    """The same as an HTML table."""
    rows = "".join(
        f"<tr><th scope='row' style='text-align: left; font-weight: normal; white-space: pre'>"
        f"<span aria-hidden='true'>{row.branch}</span>{html.escape(row.name)}</th>"
        + "".join(
            f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row.cells[1:]
        )
        + "</tr>"
        for row in _rows(trees)
    )
    heads = "".join(f"<th style='text-align: left'>{head.title()}</th>" for head in _HEADS)
    below = "".join(f"<p>{html.escape(line)}</p>" for line in _below(trees))
    return f"<table><tr>{heads}</tr>{rows}</table>{below}"


def _below(trees: tuple[Tree, ...]) -> list[str]:
    said = [f"{tree.name}: {tree.app.message}" for tree in trees if tree.app.message]
    if any(not node.is_tracked for tree in trees for node in tree.walk()):
        said.append(LEGEND)
    return said


# -- lines ---------------------------------------------------------------------------------


def shown(nodes: tuple[Node, ...], trees: Mapping[str, Tree]) -> tuple[Node, ...]:
    """Siblings as they are drawn: many that are alike as one, named by their number, and
    Applications as they tell of themselves."""
    return tuple(_as_app(node, trees) for node in _folded(nodes))


def _folded(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    alike: dict[tuple[str, ...], list[Node]] = {}
    for node in nodes:
        if not node.below and not node.note and node.kind != APPLICATION:
            key = (node.group, node.kind, node.sync, node.health)
            alike.setdefault(key, []).append(node)
    first = {id(group[0]): len(group) for group in alike.values() if len(group) > _FOLD}
    rest = {id(node) for group in alike.values() if len(group) > _FOLD for node in group[1:]}
    return tuple(
        replace(node, name=f"{first[id(node)]} objects") if id(node) in first else node
        for node in nodes
        if id(node) not in rest
    )


def _as_app(node: Node, trees: Mapping[str, Tree]) -> Node:
    """An Application's node as that Application tells of itself.

    Whoever deploys it says only whether its manifest is as in Git.
    """
    tree = trees.get(node.name) if node.kind == APPLICATION else None
    if tree is None:
        return node
    note = node.note or (f"its own manifest is {node.sync}" if node.sync != "Synced" else "")
    return replace(node, sync=tree.app.sync, health=tree.app.health, note=note)


def _rows(trees: tuple[Tree, ...]) -> Iterator[_Row]:
    by_name = {tree.name: tree for tree in trees}
    drawn: set[str] = set()

    def draw(nodes: tuple[Node, ...], before: str) -> Iterator[_Row]:
        for node in nodes:
            is_last = node is nodes[-1]
            below, note = shown(node.below, by_name), node.note
            tree = by_name.get(node.name) if node.kind == APPLICATION else None
            if tree and tree.name not in drawn:
                drawn.add(tree.name)
                below, note = shown(tree.nodes, by_name), node.note or tree.revision
            yield _Row(
                before + ("└─ " if is_last else "├─ "),
                node.name,
                node.kind,
                node.sync_word,
                node.health,
                note,
            )
            yield from draw(below, before + ("   " if is_last else "│  "))

    # Applications that deploy each other have no root: whatever is left comes last.
    for tree in (*(tree for tree in trees if tree.is_root), *trees):
        if tree.name not in drawn:
            drawn.add(tree.name)
            app = tree.app
            yield _Row("", tree.name, APPLICATION, app.sync, app.health, tree.revision)
            yield from draw(shown(tree.nodes, by_name), "")
