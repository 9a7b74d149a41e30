"""What runs: the lab's record, its processes and its workloads, as one answer."""

from __future__ import annotations

from typing import Any, cast

import hvac
import psutil
import requests

from labkit import app, launch, position, vault, workloads
from labkit.errors import ApiError, ClusterError, LabError
from labkit.foreign import Kept
from labkit.kube import Kube
from labkit.paths import DEFAULT_LAB, LabPaths


def of(name: str) -> dict[str, Any]:
    """The contract of ``labkit status --json``; also true of a lab that is down.

    ``{"name", "ready", "kubeconfig", "sync", "mode", "vault": {"address", "version"},
    "app": {"url"}, "programs": [{"name", "version", "pid", "rss_bytes", "restarts"}]}``;
    ``lesson`` is the number of the lesson that it is in, or null, ``cluster`` says whose cluster
    it is in where that is somebody else's (``{"context", "server"}``, else null), and
    ``problem`` what is wrong where something is.
    """
    paths = LabPaths.of(name)
    found: dict[str, Any] = {
        "name": name,
        "ready": False,
        "lesson": None,
        "kubeconfig": str(paths.kubeconfig),
        "vault": {"address": vault.ADDRESS, "version": None},
        "app": {"url": None},
        "programs": [],
    }
    record = launch.running(name)
    if record is None:
        return {**found, "problem": launch.last_problem(name) or "it is not running"}
    found |= {"sync": record.sync, "mode": record.mode, "cluster": _cluster(paths)}
    found["programs"] = [
        {
            "name": program.name,
            "version": program.version,
            "pid": program.pid,
            "rss_bytes": _rss(program.pid),
            "restarts": program.restarts,
            "state": program.state,
        }
        for program in record.programs
    ]
    here = position.read(paths.position)
    found["lesson"] = here.lesson
    try:
        kube = Kube.from_kubeconfig(paths.kubeconfig)
        found["app"]["url"] = app.address(kube, door=paths.page_url) or None
        if not here.has("vault"):  # what there is of it comes from the learner's Git
            found["ready"] = workloads.is_up(kube, here)
            found["vault"]["version"] = _version_of_vault(kube)
            return found if found["ready"] else _with_mend(found, "up")
        health = vault.health(vault.open_client(kube))
        found["vault"]["version"] = health.get("version")
        if health.get("sealed"):
            found["problem"] = "Vault is sealed"
        elif here.has("application"):
            shown = app.App(kube, "").credentials()
            found["ready"] = bool(shown.get("version"))
            found["problem"] = None if found["ready"] else shown.get("error")
        else:
            found["ready"] = workloads.is_up(kube, here)
    except (LabError, hvac.exceptions.VaultError, requests.RequestException, ValueError) as error:
        found["problem"] = str(error)
        is_silent = isinstance(error, ClusterError) and not isinstance(error, ApiError)
        if is_silent and (cluster := found["cluster"]):  # nothing that `labkit up` could mend
            what = f"the cluster of the context {cluster['context']} does not answer"
            return {**found, "problem": f"{what}: {getattr(error, 'seen', '')}"}
    mend = "up" if here.lesson is None else f"lesson {here.lesson}"
    return found if found["ready"] else _with_mend(found, mend)


def _cluster(paths: LabPaths) -> dict[str, str] | None:
    kept = Kept.read(paths)
    return {"context": kept.context, "server": kept.server} if kept else None


def _version_of_vault(kube: Kube) -> str | None:
    try:
        return cast("str | None", vault.health(vault.open_client(kube)).get("version"))
    except (LabError, hvac.exceptions.VaultError, requests.RequestException, ValueError):
        return None


def _with_mend(found: dict[str, Any], mend: str) -> dict[str, Any]:
    problem = str(found.get("problem") or "something of it is missing").rstrip(".")
    return {**found, "problem": f"{problem}. `labkit {mend}{_option(found['name'])}` mends it."}


def _option(name: str) -> str:
    return "" if name == DEFAULT_LAB else f" --name {name}"


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"The lab {found['name']} is {'ready' if found['ready'] else 'not ready'}."]
    if found.get("lesson") is not None:
        lines.append(f"  It is in lesson {found['lesson']:02}; `labkit reset` ends that.")
    if found.get("problem"):
        lines.append(f"  {found['problem']}")
    if found["programs"]:
        version = found["vault"]["version"] or "no answer"
        lines += [
            f"  App:        {found['app']['url'] or 'not deployed'}",
            f"  Vault:      {found['vault']['address']} ({version})",
            f"  Kubeconfig: {found['kubeconfig']}",
            _where(found),
            "",
            f"  {'PROGRAM':<28}{'VERSION':<12}{'PID':>8}{'MEMORY':>10}{'RESTARTS':>10}",
        ]
        lines += [
            f"  {program['name']:<28}{program['version']:<12}{program['pid'] or '-':>8}"
            f"{program['rss_bytes'] / 1e6:>7.0f} MB{program['restarts']:>10}"
            + ("" if program["state"] == "running" else f"  {program['state']}")
            for program in found["programs"]
        ]
    return "\n".join(lines)


def _where(found: dict[str, Any]) -> str:
    if cluster := found.get("cluster"):
        return f"  In the cluster of the context {cluster['context']}, {cluster['server']}"
    return f"  Secrets reach files in sync mode {found['sync']}; volumes by {found['mode']}"


def _rss(pid: int | None) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
