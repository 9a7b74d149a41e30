"""A real, throw-away Git repository: committed to, cloned and searched as any other.

Neither the user's nor the system's Git configuration has a say in it.  What is committed
is the ways' business, and removing it the ground's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit import git
from labkit.paths import make_private_dir
from labkit.scan import Leak, Searched, Searcher

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "labkit",
    "GIT_AUTHOR_EMAIL": "labkit@example.org",
    "GIT_COMMITTER_NAME": "labkit",
    "GIT_COMMITTER_EMAIL": "labkit@example.org",
}


@dataclass(frozen=True)
class Repository:
    """A work tree with its history."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Repository:
        """A new, empty one."""
        make_private_dir(folder)
        made = cls(folder)
        made._git("init", "--quiet", "--initial-branch=main")
        return made

    def commit(self, files: Mapping[str, str], message: str) -> None:
        """Write ``files`` (text by name) and commit them."""
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", message)

    def clone(self, name: str) -> Repository:
        """A clone beside it: what whoever may read the repository has."""
        target = self.folder.with_name(name)
        self._git("clone", "--quiet", "--no-local", str(self.folder), str(target))
        return Repository(target)

    def pull(self) -> None:
        """Get what is new in the repository that this is a clone of."""
        self._git("pull", "--quiet", "--ff-only")

    @property
    def commits(self) -> tuple[str, ...]:
        """The hashes of the history, oldest first."""
        return tuple(self._git("rev-list", "--reverse", "HEAD").split())

    def show(self, commit: str, name: str) -> str:
        """A file as it was in a commit."""
        return self._git("show", f"{commit}:{name}")

    def search(self, searcher: Searcher) -> tuple[Searched, dict[str, list[Leak]]]:
        """Every object of the history searched; the outcome, and its leaks by what leaked."""
        searched = searcher.in_git(self.folder)
        found: dict[str, list[Leak]] = {}
        for leak in searched.leaks:
            found.setdefault(leak.what, []).append(leak)
        return searched, found

    def _git(self, *words: str) -> str:
        env = {**os.environ, **_ENVIRONMENT}
        return git.text(git.output(*words, folder=self.folder, env=env))
