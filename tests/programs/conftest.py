"""A catalogue of one tiny program of our own, and caches of our own to build it in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import programs
from labkit.programs.catalogue import CATALOGUE, Entry, GoModule, variable_of

TINY = """package main

import "os"

func main() { println("I am", os.Args[0]) }
"""


def tiny_catalogue(folder: Path, source: str = TINY) -> dict[str, Entry]:
    """Two names, one binary, no dependencies; the module is written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text("module tiny\n\ngo 1.26.0\n")
    (folder / "main.go").write_text(source)
    module = GoModule(folder=folder, names=("tiny", "tinier"), module="tiny", disk=10**8)
    return {name: Entry(name, "1.0", module) for name in module.names}


@pytest.fixture(autouse=True)
def no_programs_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CATALOGUE:
        monkeypatch.delenv(variable_of(name), raising=False)


@pytest.fixture(scope="session")
def standard_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go's build cache with the standard library in it, as one real first build leaves it."""
    root = tmp_path_factory.mktemp("first")
    programs.ensure(
        ["tiny"],
        catalogue=tiny_catalogue(root / "module"),
        cache=root / "cache",
        keep_build_cache=True,
        progress=programs.silent,
    )
    return root / "cache" / "go" / "build"


@pytest.fixture
def cache(tmp_path: Path, standard_library: Path) -> Path:
    """An empty cache, but for the compiled standard library."""
    root = tmp_path / "cache"
    (root / "go").mkdir(parents=True)
    (root / "go" / "build").symlink_to(standard_library)
    return root


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Entry]:
    return tiny_catalogue(tmp_path / "module")


@pytest.fixture
def events() -> list[programs.Event]:
    return []


Ensure = Callable[..., dict[str, programs.Program]]


@pytest.fixture
def ensure(tiny: dict[str, Entry], cache: Path, events: list[programs.Event]) -> Ensure:
    """``ensure`` on the tiny catalogue; its events are collected."""

    def call(*names: str, **options: object) -> dict[str, programs.Program]:
        options = {"catalogue": tiny, "cache": cache, "progress": events.append, **options}
        return programs.ensure(names or ("tiny",), **options)  # type: ignore[arg-type]

    return call
