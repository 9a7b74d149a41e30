"""The ``argocd`` command on PATH, in core mode: with no server, with your kubeconfig's rights.

In core mode the command takes the namespace of Argo CD from the kubeconfig's current
context.  Changing that context would change it for ``kubectl`` too, so a small script of
the same name puts a context of its own before the kubeconfig, for this one command.

Source: "Argo CD Core" in Argo CD's operator manual.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import yaml

from labkit import argocd
from labkit.paths import make_private_dir, write_private

_CONTEXT = "argocd"


def write(folder: Path, program: Path, kubeconfig: Path) -> Path:
    """Write the script and its context into ``folder``; the script.  Safe to repeat."""
    make_private_dir(folder)
    context = folder / "argocd.kubeconfig"
    write_private(context, json.dumps(_context_of(kubeconfig), indent=2) + "\n")
    # It leaves what it compared in temporary files: they end with the lab.
    temporary = make_private_dir(folder / "tmp")
    script = folder / "argocd"
    write_private(
        script,
        "#!/bin/sh\n"
        "umask 077\n"
        f"KUBECONFIG={shlex.quote(str(context))}:{shlex.quote(str(kubeconfig))}"
        f' ARGOCD_OPTS="--core $ARGOCD_OPTS" TMPDIR={shlex.quote(str(temporary))}\n'
        "export KUBECONFIG ARGOCD_OPTS TMPDIR\n"
        f'exec {shlex.quote(str(program))} "$@"\n',
    )
    script.chmod(0o700)
    return script


def _context_of(kubeconfig: Path) -> dict[str, object]:
    """A kubeconfig with one context: the current one of ``kubeconfig``, in Argo CD's namespace."""
    whole = yaml.safe_load(kubeconfig.read_text())
    current = next(
        each["context"] for each in whole["contexts"] if each["name"] == whole["current-context"]
    )
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "contexts": [{"name": _CONTEXT, "context": {**current, "namespace": argocd.NAMESPACE}}],
        "current-context": _CONTEXT,
    }
