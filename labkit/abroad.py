"""A lab in somebody else's cluster: finding it a place, and taking it away from there.

It puts ``foreign`` and ``launch`` together: first everything is asked, then the lab's folder
and its claim in the cluster are made, then its door is opened.  Bringing up Vault, ESO and the
app there is left to ``workloads``, as anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from labkit import app, launch, vault, workloads
from labkit.errors import ClusterError, LabError, UsageError
from labkit.foreign import Claim, Held, Kept, Target, check, claim, reach, stock, take_away
from labkit.kube import Kube, Object, load_manifests
from labkit.paths import DEFAULT_LAB, LabPaths, manifest
from labkit.position import Position

Progress = Callable[[str], None]

SYNC = "kubelet"
"""How Secrets reach files there: by the cluster's own kubelets."""
_PATIENCE = 180.0  # seconds that another command may work on the same lab


def settle(name: str, kubeconfig: Path | None, context: str | None, *, progress: Progress) -> None:
    """Give the lab ``name`` its place in the cluster behind ``kubeconfig``; safe to repeat.

    For a lab that has one already, both may be None.  Raises UsageError and LabError with
    the reason, and changes nothing then, neither there nor here.
    """
    paths = LabPaths.of(name)
    with launch.locked(paths, time.monotonic() + _PATIENCE, progress):
        kept = Kept.read(paths)
        if kubeconfig is None:
            if context is not None:
                raise UsageError("Which kubeconfig has this context?", todo="Add --kubeconfig F.")
            if kept is None:
                raise ClusterError(f"The lab {name} is in no other cluster")
            target = reach(paths.kubeconfig)
        else:
            target = reach(kubeconfig, context)
            _check_same(name, kept, target)
        progress(f"The cluster of the context {target.context} answers: {target.version}")
        mine = kept.claim(name) if kept else Claim.new(name)
        if kept and claim.found(target.kube, name) == mine:
            return
        is_found = check(target, mine, _brings(mine))
        if kept is None:
            launch.adopt(name)
            kept = Kept(target.source, target.context, target.kube.server, mine.owner)
        kept.write(paths, target if kubeconfig else None)
        mine.stake(target.kube)
        progress(
            "It has an External Secrets Operator, which is used as it is"
            if is_found
            else "It has no External Secrets Operator: one is brought, until the lab goes down"
        )


def take_down(
    name: str,
    kubeconfig: Path | None = None,
    context: str | None = None,
    *,
    forget: bool = False,
    progress: Progress,
) -> bool:
    """Take the lab ``name`` away from its cluster and from this machine; whether it was there.

    With a ``kubeconfig``: from the cluster behind it, where this machine has lost the lab's
    folder.  ``forget``: from this machine alone, where its cluster is gone for good.
    Raises ClusterError when the cluster does not answer, and changes nothing then.
    """
    paths = LabPaths.of(name)
    if kubeconfig is None:
        kept = Kept.read(paths)
        if kept is None:
            raise ClusterError(f"The lab {name} is in no other cluster")
        if not forget:
            _leave(_target_of(name, paths), kept.claim(name), progress)
        launch.bring_down(name)
        return True
    target = reach(kubeconfig, context)
    there = claim.found(target.kube, name)
    space = target.kube.get("v1", "Namespace", f"labkit-{name}")
    if there is None and (space is None or not Claim(name, "").is_on(space)):
        return False
    _leave(target, there or Claim(name, ""), progress)
    if (kept := Kept.read(paths)) is not None and there and kept.owner == there.owner:
        launch.bring_down(name)
    return True


def held(paths: LabPaths) -> Held | None:
    """The client of a lab in somebody else's cluster; None for a lab with one of its own."""
    kept = Kept.read(paths)
    return Held.open(paths.kubeconfig, kept.claim(paths.name)) if kept else None


def check_move(kube: Held, there: Position) -> None:
    """May the lab go to this place in the course?  Raises LabError; changes nothing but the
    names that the lab's claim knows as its own."""
    if there.argocd or not there.has("vault"):
        raise LabError(
            "Argo CD and what it deploys are not for somebody else's cluster yet",
            seen="lesson 07 takes away and makes cluster-wide things that others may use",
            todo="Do it in a lab of its own: `labkit up --name git`, `labkit lesson 7 --name git`.",
        )
    spaces = {space["metadata"]["name"]: space for space in kube.list("v1", "Namespace")}
    theirs = [
        name for name in there.names.values() if name in spaces and not kube.owns(spaces[name])
    ]
    if theirs:
        raise UsageError(
            "A namespace of that name is somebody else's",
            seen=", ".join(theirs),
            todo="Choose another name for the lesson's things.",
        )
    kube.claim.learn(kube, there.names.values())


def provide_app(kube: Kube, namespace: str = app.NAMESPACE) -> None:
    """See to it that a namespace, which is there and the lab's, can run the course's app;
    nothing to do in a cluster of one's own."""
    if isinstance(kube, Held):
        stock.provide(kube, kube.claim, namespace)


def _leave(target: Target, mine: Claim, progress: Progress) -> None:
    take_away(Held(target.kube, mine), progress=progress)


def _target_of(name: str, paths: LabPaths) -> Target:
    try:
        return reach(paths.kubeconfig)
    except (ClusterError, UsageError) as error:
        option = "" if name == DEFAULT_LAB else f" --name {name}"
        raise ClusterError(
            f"The lab {name} was not taken down: its cluster cannot be asked",
            seen=error.seen or error.what,
            todo=f"Try again when it answers. If it is gone for good, `labkit down{option} "
            "--forget` removes what this machine keeps of the lab, Vault's keys too.",
        ) from error


def _check_same(name: str, kept: Kept | None, target: Target) -> None:
    if kept and (kept.server, kept.context) != (target.kube.server, target.context):
        raise LabError(
            f"The lab {name} is in another cluster",
            seen=f"{kept.server}, context {kept.context}",
            todo=f"Take it down first (`labkit down --name {name}`), or give the new one a name.",
        )


def _brings(mine: Claim) -> list[Object]:
    """What will be applied, but for CRDs and the lessons' own things."""
    files = (*workloads.PLATFORM, vault.ENGINES["openbao"].manifest)
    found = [obj for file in files for obj in load_manifests(manifest(file))]
    return [*found, *stock.policy(mine)]
