"""Applications as trees: what each deploys, and what came of that in the cluster.

Argo CD says which objects an Application manages and how they are; whatever those own
(a Deployment its ReplicaSet, an ExternalSecret its Secret) is found by ownerReferences, as
Argo CD's "Resource Overview" does it.  Reading is done here and in ``board``; text and HTML
are ``treetext``'s, asking Argo CD for something is ``appwork``'s.

Left out, as there is nothing to learn from them: ReplicaSets of former versions and
ControllerRevisions.  Of Secrets nothing but metadata is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labkit import argocd, treetext
from labkit.errors import ApiError
from labkit.kube import Kube, Object
from labkit.kube.objects import METADATA_LIST
from labkit.markup import as_html
from labkit.snapshot import Deployed, Health, Managed, Thing
from labkit.things import HIDDEN, KINDS, kind_of, thing_of
from labkit.treetext import APPLICATION, Node, Tree

_HEALTH: Mapping[Health, str] = {
    "ok": "Healthy",
    "progressing": "Progressing",
    "bad": "Degraded",
    "unknown": "Unknown",
}
_OLD = "scaled to 0"  # what things says of a ReplicaSet that a newer one has replaced


@dataclass(frozen=True)
class Overview:
    """Trees of Applications: who deploys others first, then by sync wave and name.

    ``problem`` says why there is nothing to see ("" otherwise).  As text it has no times,
    so that the same state always reads the same.
    """

    trees: tuple[Tree, ...]
    problem: str = ""

    def __getitem__(self, name: str) -> Tree:
        """The tree of one Application.  Raises KeyError."""
        for tree in self.trees:
            if tree.name == name:
                return tree
        raise KeyError(name)

    def __str__(self) -> str:
        return self.problem or "\n".join(treetext.lines(self.trees))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = treetext.table(self.trees) if self.trees else f"<p>{as_html(self.problem)}</p>"
        return {"text/plain": str(self), "text/html": shown}


def look(kube: Kube, names: Iterable[str] = ()) -> Overview:
    """Every Application (or the one, or those, of ``names``) with its tree, as it is now.

    Raises ApiError when the cluster refuses.
    """
    wanted = {names} if isinstance(names, str) else set(names)
    found = _listed(kube, argocd.APPLICATION.path(argocd.NAMESPACE))
    chosen = [deployed_of(obj) for obj in found if not wanted or obj["metadata"]["name"] in wanted]
    if not chosen:
        # Its kinds may still be there when it is gone: a namespace tells.
        is_there = kube.get("v1", "Namespace", argocd.NAMESPACE) is not None
        return Overview((), _no_such(wanted) if is_there else NOT_INSTALLED)
    things: list[Thing] = []
    for resource in KINDS:
        accept = METADATA_LIST if resource.kind == "Secret" else ""
        for obj in _listed(kube, resource.path(), accept):
            if obj["metadata"].get("namespace") not in HIDDEN:
                things.append(thing_of(resource.kind, obj))
    return overview(chosen, things)


NOT_INSTALLED = "Argo CD is not installed here. `labkit up --argocd` adds it."
NOTHING = "There is no Application yet."


def _no_such(names: set[str]) -> str:
    if not names:
        return NOTHING
    return (
        f"There is no Application {' or '.join(sorted(names))}. "
        "`kubectl get applications -A` lists all that there are."
    )


def _listed(kube: Kube, path: str, accept: str = "") -> list[Object]:
    """The objects of a collection; none where the cluster does not serve their kind."""
    try:
        found: list[Object] = kube.request("GET", path, accept=accept).get("items") or []
    except ApiError as error:
        if error.status == 404:
            return []
        raise
    return found


def deployed_of(obj: Object) -> Deployed:
    """What an Application object says, without what changes at every look of Argo CD."""
    managed = sorted(
        map(_managed, (obj.get("status") or {}).get("resources") or ()),
        key=lambda each: (each.wave, each.kind, each.namespace, each.name),
    )
    notes = obj["metadata"].get("annotations") or {}
    return Deployed(argocd.read(obj), _whole(notes.get(argocd.WAVE)), tuple(managed))


def _managed(entry: Object) -> Managed:
    health = entry.get("health") or {}
    return Managed(
        group=str(entry.get("group") or ""),
        kind=str(entry["kind"]),
        namespace=str(entry.get("namespace") or ""),
        name=str(entry["name"]),
        sync=str(entry.get("status") or ("" if entry.get("hook") else "Unknown")),
        health=str(health.get("status") or ""),
        message=" ".join(str(health.get("message") or "").split()),
        wave=_whole(entry.get("syncWave")),
        is_surplus=bool(entry.get("requiresPruning")),
        is_hook=bool(entry.get("hook")),
    )


def _whole(number: object) -> int:
    try:
        return int(str(number or 0))
    except ValueError:  # Argo CD takes a wave that is no number for 0, too
        return 0


def overview(found: Iterable[Deployed], things: Iterable[Thing]) -> Overview:
    """The trees of these Applications, from what is known of the cluster.  Pure."""
    deployed = list(found)
    made = {
        each.name
        for by in deployed
        for each in by.managed
        if each.kind == APPLICATION and each.name != by.app.name
    }
    owned, known = _owned(things)
    trees = [
        Tree(
            app=each.app,
            wave=each.wave,
            is_root=each.app.name not in made,
            nodes=tuple(_grow(each, owned, known)),
        )
        for each in deployed
    ]
    trees.sort(key=lambda tree: (not tree.is_root, tree.wave, tree.name))
    return Overview(tuple(trees), "" if trees else NOTHING)


_Owner = tuple[str, str]  # a namespace, and kind and name as Thing.owned_by has them


def _owned(
    things: Iterable[Thing],
) -> tuple[dict[_Owner, list[Thing]], dict[tuple[str, str, str], Thing]]:
    """Things by their owner, and by what they are themselves."""
    owned: dict[_Owner, list[Thing]] = {}
    known = {}
    for thing in things:
        known[thing.kind, thing.namespace, thing.name] = thing
        if not (thing.kind == "ReplicaSet" and thing.message == _OLD):
            for owner in thing.owned_by:
                for where in {thing.namespace, ""}:  # an owner may belong to no namespace
                    owned.setdefault((where, owner), []).append(thing)
    return owned, known


def _grow(
    deployed: Deployed,
    owned: Mapping[_Owner, list[Thing]],
    known: Mapping[tuple[str, str, str], Thing],
) -> Iterator[Node]:
    mine = {(each.kind, each.namespace, each.name) for each in deployed.managed}

    def below(namespace: str, owner: str, above: frozenset[str]) -> tuple[Node, ...]:
        children = [
            (thing, _child(thing))
            for thing in owned.get((namespace, owner), ())
            if (thing.kind, thing.namespace, thing.name) not in mine and thing.uid not in above
        ]
        return tuple(
            replace(
                node,
                below=below(
                    thing.namespace,
                    f"{kind_of(node.group, node.kind)}/{node.name}",
                    above | {thing.uid},
                ),
            )
            for thing, node in sorted(children, key=lambda each: (each[1].kind, each[1].name))
        )

    for each in deployed.managed:
        thing = known.get((each.kind, each.namespace, each.name))
        owner = f"{kind_of(each.group, each.kind)}/{each.name}"
        yield Node(
            group=each.group,
            kind=each.kind,
            namespace=each.namespace,
            name=each.name,
            sync=each.sync,
            # Argo CD may keep it to itself (controller.resource.health.persist).
            health=each.health or (_health(thing) if thing and not each.is_hook else ""),
            note=_note(each),
            wave=each.wave,
            below=below(each.namespace, owner, frozenset()),
        )


def _note(each: Managed) -> str:
    said = ["no longer in Git, to be pruned"] if each.is_surplus else []
    if each.message and each.health not in {"Healthy", ""}:
        said.append(each.message)
    return "; ".join(said)


def _child(thing: Thing) -> Node:
    """What a controller made of something that an Application deployed."""
    group = _GROUPS[thing.kind]
    note = thing.message if thing.health in {"bad", "progressing"} else ""
    if thing.tracking:
        note = "; ".join(filter(None, (note, _annotation(thing, group))))
    return Node(
        group=group,
        kind=thing.kind,
        namespace=thing.namespace,
        name=thing.name,
        sync="",
        health=_health(thing),
        note=note,
        is_tracked=False,
    )


def _annotation(thing: Thing, group: str) -> str:
    """What it means that it has a tracking annotation all the same."""
    of = thing.tracking.partition(":")[2]
    if of == f"{group}/{thing.kind}:{thing.namespace}/{thing.name}":
        return f"tracked by {thing.tracking.partition(':')[0]}"
    # A Deployment's annotations are copied to its ReplicaSets: why the value names its object.
    whose = "its owner" if _tail(of) in thing.owned_by else _tail(of)
    return f"tracking-id copied from {whose}"


def _tail(identity: str) -> str:
    """``apps/Deployment:demo/web`` as Thing.owned_by names it."""
    group_kind, _, name = identity.partition(":")
    group, _, kind = group_kind.partition("/")
    return f"{kind_of(group, kind)}/{name.rpartition('/')[2]}"


def _health(thing: Thing) -> str:
    """In Argo CD's word for it, which has none for a Secret."""
    return "" if thing.kind == "Secret" else _HEALTH[thing.health]


_GROUPS = {each.kind: each.api_version.rpartition("/")[0] for each in KINDS}
