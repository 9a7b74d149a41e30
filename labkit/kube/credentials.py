"""The bearer token of a kubeconfig's user: a word, a file, or what a plugin answers.

A token that ends is asked for again shortly before, so a lab's processes may live longer than
it.  A plugin is a program that the kubeconfig names (``aws``, ``gke-gcloud-auth-plugin``); it
is run as kubectl runs it, with no terminal: one that wants to ask something is refused.

Source: ``ExecConfig`` of client-go's ``clientcmd/api/v1`` and ``ExecCredential`` of
``client.authentication.k8s.io``.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.kube.objects import Object

Source = Callable[[], "Credential"]

_PATIENCE = 30.0  # seconds that a plugin may take
_EARLY = 60.0  # seconds before its end that a token counts as over
_FILE = 60.0  # seconds after which a token's file is read again, as client-go does
_FOREVER = float("inf")


@dataclass(frozen=True)
class Credential:
    """A token and, where a plugin gives one, a client certificate with its key; good until
    ``until`` (unix seconds)."""

    token: str | None = field(default=None, repr=False)
    client_cert: tuple[str, str] | None = field(default=None, repr=False)
    until: float = _FOREVER


class Renewed:
    """A credential that is asked for anew when it is over.  Threads may share it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._held: Credential | None = None

    def __repr__(self) -> str:
        return "Renewed()"

    def __call__(self) -> Credential:
        """The one that is good now.  Raises UsageError where there is none to be had."""
        with self._lock:
            if self._held is None or time.time() >= self._held.until:
                self._held = self._source()
            return self._held


def from_file(path: Path) -> Source:
    """What stands in the file ``path`` at the time."""

    def read() -> Credential:
        try:
            return Credential(path.read_text().strip(), until=time.time() + _FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                "The kubeconfig names a file that cannot be read",
                seen=f"{path}: {getattr(error, 'strerror', None) or type(error).__name__}",
                todo="Mend the path in the kubeconfig.",
            ) from error

    return read


def from_plugin(plugin: Object, cluster: Object) -> Source:
    """What the program answers that the ``exec`` entry of a user names."""

    def run() -> Credential:
        command = str(plugin.get("command", ""))
        try:
            done = subprocess.run(
                [command, *map(str, plugin.get("args") or ())],
                env=_environment(plugin, cluster),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = getattr(error, "strerror", None) or f"no answer within {_PATIENCE:g} s"
            hint = str(plugin.get("installHint") or "").strip()
            raise _failed(command, str(reason), hint) from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise _failed(command, said[-1][:300] if said else f"exit code {done.returncode}")
        try:
            return _credential(json.loads(done.stdout)["status"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _failed(command, "its answer is no ExecCredential") from error

    return run


def _credential(status: dict[str, Any]) -> Credential:
    pair = (status.get("clientCertificateData"), status.get("clientKeyData"))
    stamp = status.get("expirationTimestamp")
    return Credential(
        token=status.get("token"),
        client_cert=(str(pair[0]), str(pair[1])) if all(pair) else None,
        until=datetime.fromisoformat(stamp).timestamp() - _EARLY if stamp else _FOREVER,
    )


def _environment(plugin: Object, cluster: Object) -> dict[str, str]:
    own = {str(each["name"]): str(each["value"]) for each in plugin.get("env") or ()}
    about: Object = {
        "kind": "ExecCredential",
        "apiVersion": plugin.get("apiVersion") or "client.authentication.k8s.io/v1",
        "spec": {"interactive": False},
    }
    if plugin.get("provideClusterInfo"):
        about["spec"]["cluster"] = {
            key: value for key, value in cluster.items() if key != "certificate-authority"
        }
    return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(about)}


def _failed(command: str, seen: str, todo: str = "") -> UsageError:
    return UsageError(
        f"The plugin {command!r}, by which the kubeconfig signs in, gave no credential",
        seen=seen,
        todo=todo or "`kubectl --kubeconfig FILE get namespaces` should work first.",
    )
