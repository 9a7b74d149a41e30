"""From a push to what the cluster has: Argo CD's times, its memory and what it costs idle.

Everything is as lesson 07 has it: an empty repository, one commit, one `kubectl apply`.  The
lab that is measured on is taken to lesson 07's beginning, and left in no lesson.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path

from bench.footprint import MIB, cpu_seconds, memory_of
from bench.results import Measure
from bench.sandbox import Say, until
from labkit import app, argocd, gitrepo
from labkit.errors import ClusterError, LabError
from labkit.lab import Lab
from labkit.paths import manifest
from labkit.play import environment, must_play
from labkit.position import Position

_LESSON = Position(7, "bare", argocd=True)
_APPLICATIONS = 6
_PROGRAMS = ("argocd-application-controller", "argocd-repo-server", "valkey-server")
_LIMIT = 300.0  # seconds
_SETTLE = 15.0
"""Seconds after the last change before Argo CD counts as idle: all has been compared."""


def measure(lab: Lab, count: int, pushes: int, window: float, say: Say) -> list[Measure]:
    """``count`` bring-ups from an empty cluster; on the last, ``pushes`` changes of a line,
    then what Argo CD takes over a ``window`` of so many seconds with nothing to do."""
    installs: list[float] = []
    greens: list[float] = []
    pages: list[float] = []
    try:
        for turn in range(count):
            lab.move_to(_LESSON)
            argocd.remove(lab.api)
            installs.append(_first_sync(lab))
            lab.move_to(_LESSON)
            page, green = _bring_up(lab)
            pages.append(page)
            greens.append(green)
            say(
                f"gitops {turn + 1} of {count}: first sync {installs[-1]:.1f} s after Argo CD's "
                f"install, page {page:.1f} s and green {green:.1f} s after the push"
            )
        synced = [_push_to_synced(lab, turn) for turn in range(pushes)]
        say(f"gitops: {pushes} pushes applied, slowest {max(synced):.2f} s")
        time.sleep(_SETTLE)
        shares = _idle_shares(lab, window)
        memory = {name: size / MIB for name, size in memory_of(lab).items() if name in _PROGRAMS}
        say(f"gitops idle: {sum(shares.values()):.1f} %, {sum(memory.values()):.0f} MiB")
    finally:
        lab.move_to(Position())
    return [
        Measure("gitops-install", "Argo CD's install → first sync", "s", tuple(installs)),
        Measure("gitops-page", "first push → the secret on the page", "s", tuple(pages)),
        Measure(
            "gitops-green",
            "first push → six green Applications",
            "s",
            tuple(greens),
            note="20 s of it are fixed in ESO's chart",
        ),
        Measure("gitops-push", "push of a line → applied and Synced", "s", tuple(synced)),
        Measure(
            "gitops-memory",
            "memory of Argo CD, all deployed",
            "MiB",
            (sum(memory.values()),),
            note="PSS: " + ", ".join(f"{name} {size:.0f}" for name, size in memory.items()),
            details={"by_program": memory},
        ),
        Measure(
            "gitops-cpu",
            "Argo CD idle, share of one core",
            "%",
            (sum(shares.values()),),
            note=f"over {window:.0f} s: "
            + ", ".join(f"{name} {share:.1f}" for name, share in shares.items()),
            details={"by_program": shares},
        ),
    ]


def _clone(lab: Lab) -> Path:
    shutil.rmtree(lab.paths.platform, ignore_errors=True)
    _play(lab, f'git clone --quiet {gitrepo.url(gitrepo.PLATFORM)} "$PLATFORM" 2>&1')
    return lab.paths.platform


def _play(lab: Lab, script: str) -> None:
    must_play(script, environment(lab), "A step of the bench")


def _first_sync(lab: Lab) -> float:
    """Seconds from the first object of Argo CD to a first Application that is synced."""
    clone = _clone(lab)
    (clone / "first").mkdir()
    (clone / "first" / "first.yaml").write_text(_FIRST_OBJECT)
    _play(lab, 'cd "$PLATFORM" && git add . && git commit -qm First && git push -q')
    began = time.monotonic()
    argocd.install(lab.api, lab.setup_for(lab.engine).gitops().crds)
    gitrepo.install(lab.api, lab.setup_for(lab.engine).gitops().git, with_argocd=True)
    lab.apply(_FIRST_APPLICATION)
    argocd.wait(lab.api, ["first"], timeout=_LIMIT)
    return time.monotonic() - began


_FIRST_OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n"
_FIRST_APPLICATION = f"""
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: first, namespace: argocd}}
spec:
  project: default
  source: {{repoURL: {gitrepo.url(gitrepo.PLATFORM)}, targetRevision: main, path: first}}
  destination: {{server: https://kubernetes.default.svc, namespace: default}}
  syncPolicy: {{automated: {{}}}}
"""


def _bring_up(lab: Lab) -> tuple[float, float]:
    """Seconds from the push to the secret on the page, and to everything green."""
    clone = _clone(lab)
    shutil.copytree(manifest("07-gitops"), clone, dirs_exist_ok=True)
    _play(lab, 'cd "$PLATFORM" && git add . && git commit -qm "The whole platform"')
    root = manifest("argocd-root/platform.yaml")
    began = time.monotonic()
    _play(lab, f'cd "$PLATFORM" && git push -q && kubectl apply -f "{root}"')
    until(lambda: _shows(lab), what="the secret is on the page", limit=_LIMIT)
    page = time.monotonic() - began
    while len(argocd.wait(lab.api, timeout=_LIMIT)) < _APPLICATIONS:
        time.sleep(0.1)
    return page, time.monotonic() - began


def _shows(lab: Lab) -> bool:
    try:
        return bool(app.App(lab.api, "").credentials().get("version"))
    except ClusterError:
        return False  # there is no such Service yet, or nobody behind it


def _push_to_synced(lab: Lab, turn: int) -> float:
    """Seconds from the start of ``git push`` to Argo CD's word that it has applied it."""
    file = lab.paths.platform / "shop" / "demo.yaml"
    lines = [line for line in file.read_text().splitlines(keepends=True) if "turn:" not in line]
    file.write_text("".join([*lines, f'    turn: "{turn}"\n']))  # below annotations
    _play(lab, f'cd "$PLATFORM" && git commit -qam "Turn {turn}"')
    head = must_play('git -C "$PLATFORM" rev-parse HEAD', environment(lab), "A step").output.strip()
    variables = environment(lab)
    began = time.monotonic()
    must_play('cd "$PLATFORM" && git push -q', variables, "The push")

    def is_synced() -> bool:
        found = lab.api.get(argocd.API, "Application", "shop", argocd.NAMESPACE)
        if found is None:
            return False
        seen = argocd.read(found)
        operation = found["status"].get("operationState") or {}
        applied = (operation.get("syncResult") or {}).get("revision") == head
        return seen.is_green and seen.revision == head and applied and seen.phase == "Succeeded"

    until(is_synced, what="the change is applied", limit=_LIMIT, pause=0.02)
    took = time.monotonic() - began
    argocd.wait(lab.api, timeout=_LIMIT)
    return took


def _idle_shares(lab: Lab, window: float) -> dict[str, float]:
    """Percent of one core by program of Argo CD over the next ``window`` seconds."""
    before = cpu_seconds(lab)
    began = time.monotonic()
    time.sleep(window)
    after = cpu_seconds(lab)
    span = time.monotonic() - began
    found: dict[str, float] = defaultdict(float)
    for name in _PROGRAMS:
        if name not in after:
            raise LabError(f"{name} does not run", todo="See `kubectl -n argocd get pods`.")
        found[name] = 100 * (after[name] - before.get(name, 0.0)) / span
    return dict(found)
