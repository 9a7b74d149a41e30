"""The environment in which ``kubectl``, ``bao`` and ``curl`` just work.

Notebook kernels get it set, terminals get it through ``eval "$(labkit env)"``.  Secrets
stay in their 0600 files: variables name the file, or a shell reads it at that moment.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit import gitconfig, gitrepo, position, vault
from labkit.paths import LabPaths, manifest

_LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Variable:
    """One variable: a plain ``value``, or the content of ``file`` (0600)."""

    name: str
    value: str = ""
    file: Path | None = None

    def export(self) -> str:
        """The line for a POSIX shell; a file's content does not appear in it."""
        if self.file:
            return f'export {self.name}="$(cat {shlex.quote(str(self.file))})"'
        return f"export {self.name}={shlex.quote(self.value)}"

    def read(self) -> str:
        """The value itself."""
        return self.file.read_text().strip() if self.file else self.value


def variables(
    paths: LabPaths, engine: vault.Engine, program_dirs: tuple[Path, ...], base: Mapping[str, str]
) -> list[Variable]:
    """What to set for a lab, given the environment ``base`` that is there now.

    ``http_proxy`` makes Service names work for every program that honours it; it covers
    plain http only, so package installers (https) go their usual way.
    """
    found = [
        Variable("KUBECONFIG", str(paths.kubeconfig)),
        Variable("PATH", _front(base.get("PATH", ""), program_dirs)),
        Variable("no_proxy", _no_proxy(base)),
        Variable("NO_PROXY", _no_proxy(base)),
    ]
    if paths.proxy_url.exists():
        found += [Variable(name, file=paths.proxy_url) for name in ("http_proxy", "HTTP_PROXY")]
    # Else their colour codes end up in notebooks' outputs and in shell variables.
    found += [Variable(name, "1") for name in ("BAO_CLI_NO_COLOR", "VAULT_CLI_NO_COLOR")]
    if engine.name == "openbao":
        found += [
            Variable("BAO_ADDR", vault.ADDRESS),
            Variable("VAULT_ADDR", vault.ADDRESS),
            Variable("BAO_TOKEN_PATH", str(paths.vault_token)),
        ]
    else:
        found += [
            Variable("VAULT_ADDR", vault.ADDRESS),
            Variable("VAULT_TOKEN", file=paths.vault_token),
        ]
    if paths.git_credentials.exists():
        own = gitconfig.variables(gitrepo.BASE_URL, paths.git_credentials, base)
        found += [Variable(name, value) for name, value in own.items()]
    if position.read(paths.position).argocd:
        found.append(Variable("PLATFORM", str(paths.platform)))
        found.append(Variable("MANIFESTS", str(manifest(""))))
    return [*found, Variable("LABKIT_LAB", paths.name)]


def enter(found: list[Variable]) -> None:
    """Set the variables in this process (a notebook's kernel)."""
    os.environ.update({variable.name: variable.read() for variable in found})


def _front(path: str, dirs: tuple[Path, ...]) -> str:
    first = [str(folder) for folder in dict.fromkeys(dirs)]
    rest = [part for part in path.split(os.pathsep) if part and part not in first]
    return os.pathsep.join([*first, *rest])


def _no_proxy(base: Mapping[str, str]) -> str:
    kept = [part for part in base.get("no_proxy", base.get("NO_PROXY", "")).split(",") if part]
    return ",".join(dict.fromkeys([*kept, *_LOCAL]))
