"""The licences of everything that is linked into a program, for whoever passes it on.

Go knows which modules a build reads; each brings its licence in its own folder of Go's module
cache.  Nothing is judged here: the texts are collected, as their authors ask.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import ProgramError
from labkit.programs.catalogue import GO_FLAGS, GoModule
from labkit.programs.golang import Limits, environment, find_go, required_version
from labkit.programs.store import Store

_NAMES = ("licen", "copying", "notice", "patents")
_FOLDER = "licences"


@dataclass(frozen=True)
class Licences:
    """``texts``: each licence file by its name in the pack; ``of``: the names, sorted."""

    texts: dict[str, bytes]
    of: list[str]


def licences_of(module: GoModule, store: Store) -> Licences:
    """The licence files of ``module``'s build: Go's own, and those of every module in it.

    Go fetches what is not in its module cache.  Raises ProgramError when it cannot.
    """
    go = find_go(required_version([module.folder]), store, lambda _: None)
    shown = "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}\t{{.Dir}}{{end}}{{end}}"
    argv = [str(go.path), "list", *GO_FLAGS, "-deps", "-f", shown, module.package]
    store.go.mkdir(parents=True, exist_ok=True)
    with store.using_go_caches():
        answer = subprocess.run(
            argv,
            cwd=module.folder,
            env=dict(environment(go, store, store.go, Limits.of(None, None))),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise ProgramError(
                f"The licences of {module.name} could not be collected",
                seen=answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "",
                todo="Connect to the network: Go fetches the modules that it needs.",
            )
        places = dict(line.split("\t") for line in answer.stdout.splitlines() if line)
        texts = _read("go", go.path.resolve().parent.parent)
        for name, place in sorted(places.items()):
            texts |= _read(name, Path(place))
    return Licences(texts, sorted(texts))


def _read(name: str, folder: Path) -> dict[str, bytes]:
    return {
        f"{_FOLDER}/{name}/{file.name}": file.read_bytes()
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name.lower().startswith(_NAMES)
    }
