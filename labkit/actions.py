"""What can be done to a running lab at the press of a button, each with its command line.

Rotate, choose how often ESO reads, stop and start Vault, pause ESO: the same as a learner
does in a terminal, and told as such.  Showing them is left to ``views.control``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit import app, eso, vault, workloads
from labkit import lab as labs
from labkit.errors import LabError, UsageError
from labkit.kube import Object
from labkit.lab import Lab
from labkit.rotations import seconds_of

INTERVALS = ("5s", "15s", "1m", "1h")
"""Choices of refreshInterval; the course's own is 15s."""
FORGETS = (
    "This Vault keeps everything in memory. Stopping it makes it forget every secret, policy and "
    "role; ESO cannot read meanwhile, and the app goes on with the values that it has."
)
"""To be read before Vault is stopped."""
_PATIENCE = 60.0  # seconds for a pod to go or to come
_OPERATOR = "external-secrets"

Say = Callable[[str], None]
"""Gets a line on what was done; never a secret."""


@dataclass(frozen=True)
class Action:
    """``lines`` are the commands that do the same in a terminal; ``run`` does it and
    returns what came of it in a sentence.  Raises LabError."""

    title: str
    lines: tuple[str, ...]
    run: Callable[[Say], str]


def rotate(lab: Lab, *, forced: bool, tool: str = "bao") -> Action:
    """A new random password in Vault; ``forced`` asks ESO to read it at once.

    ``tool`` is the engine's own command line, ``bao`` or ``vault``.
    """
    lines: tuple[str, ...] = (
        "head -c 12 /dev/urandom | base64 | tr -d '\\n' "
        f"| {tool} kv patch -mount={vault.MOUNT} {vault.KEY} password=-",
    )
    if forced:
        lines += (
            f"kubectl -n {app.NAMESPACE} annotate externalsecret {app.EXTERNAL_SECRET} "
            "force-sync=$(date +%s) --overwrite",
        )

    def run(say: Say) -> str:
        if forced:
            _external(lab)
        client = lab.vault
        values = vault.read(client) or workloads.first_values()
        version = vault.write(client, {**values, "password": workloads.new_password()})
        if not forced:
            return f"Vault has version {version}. ESO reads it at its next refresh."
        eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
        return f"Vault has version {version}, and ESO was asked to read it now."

    return Action("Rotate now" if forced else "Rotate, and wait for ESO", lines, run)


def refresh_every(lab: Lab, interval: str) -> Action:
    """Another refreshInterval for the app's ExternalSecret.  Raises UsageError for what is
    no length of time."""
    if not seconds_of(interval):
        raise UsageError("That is no length of time", seen=repr(interval), todo="Try 15s or 1h.")
    line = (
        f"kubectl -n {app.NAMESPACE} patch externalsecret {app.EXTERNAL_SECRET} --type merge "
        f'-p \'{{"spec":{{"refreshInterval":"{interval}"}}}}\''
    )

    def run(_: Say) -> str:
        _external(lab)
        body = {"spec": {"refreshInterval": interval}}
        lab.api.patch(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, body, app.NAMESPACE)
        return f"ESO reads every {interval} from now on."

    return Action(f"Read every {interval}", (line,), run)


def stop_vault(lab: Lab) -> Action:
    """Scale Vault to nothing and wait until it is gone."""

    def run(_: Say) -> str:
        _scale(lab, "StatefulSet", "vault", vault.NAMESPACE, 0)
        lab.wait_for(f"pod/{vault.POD}", _is_gone, namespace=vault.NAMESPACE, timeout=_PATIENCE)
        return "Vault is stopped, and what was in it is forgotten."

    return Action("Stop Vault", (_scale_line("statefulset", "vault", vault.NAMESPACE, 0),), run)


def start_vault(lab: Lab) -> Action:
    """Start Vault again and set it up as ``labkit up`` does, which this is."""

    def run(say: Say) -> str:
        _scale(lab, "StatefulSet", "vault", vault.NAMESPACE, 1)
        labs.up(lab.name, progress=say)
        lesson = lab.position.lesson
        if lesson is None:
            return (
                "Vault runs again: new, initialised, unsealed, and set up with a new secret, "
                "which ESO reads at its next refresh."
            )
        return (
            "Vault runs again: new, initialised, unsealed, and empty. "
            f"`labkit lesson {lesson}` begins the lesson over."
        )

    lines = (_scale_line("statefulset", "vault", vault.NAMESPACE, 1), "labkit up")
    return Action("Start Vault", lines, run)


def pause_eso(lab: Lab) -> Action:
    """Scale ESO to nothing: nobody reads from Vault until it is back."""

    def run(_: Say) -> str:
        _scale(lab, "Deployment", _OPERATOR, eso.NAMESPACE, 0)
        lab.wait_for(f"deployment/{_OPERATOR}", _has_none, namespace=eso.NAMESPACE)
        return "ESO is paused. Secrets stay as they are."

    return Action("Pause ESO", (_scale_line("deployment", _OPERATOR, eso.NAMESPACE, 0),), run)


def resume_eso(lab: Lab) -> Action:
    """Let ESO work again."""

    def run(_: Say) -> str:
        _scale(lab, "Deployment", _OPERATOR, eso.NAMESPACE, 1)
        lab.wait_for(f"deployment/{_OPERATOR}", "Available", namespace=eso.NAMESPACE)
        return "ESO is at work again."

    return Action("Resume ESO", (_scale_line("deployment", _OPERATOR, eso.NAMESPACE, 1),), run)


def _external(lab: Lab) -> Object:
    found = lab.api.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)
    if found is None:
        raise LabError(
            f"There is no ExternalSecret {app.EXTERNAL_SECRET} in {app.NAMESPACE}",
            todo="Make it first (lesson 04), or run `labkit reset`.",
        )
    return found


def _scale(lab: Lab, kind: str, name: str, namespace: str, replicas: int) -> None:
    lab.api.patch("apps/v1", kind, name, {"spec": {"replicas": replicas}}, namespace)


def _scale_line(kind: str, name: str, namespace: str, replicas: int) -> str:
    return f"kubectl -n {namespace} scale {kind} {name} --replicas={replicas}"


def _is_gone(pod: Object | None) -> bool:
    return pod is None


def _has_none(deployment: Object | None) -> bool:
    return not ((deployment or {}).get("status") or {}).get("replicas")
