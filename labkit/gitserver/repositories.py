"""The bare repositories: made where missing, set up, tidied, emptied.

What a repository allows is written in its own config and told by git itself to whoever
meets it: how much a push may bring, that force-pushes are fine (cleaning a history takes
one), that the branch which HEAD names cannot be deleted.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from .config import Config

BRANCH = "main"
_HOOK = Path(__file__).with_name("hook.py")


class GitError(Exception):
    """git cannot be run or did not do it; the text is one line with git's own words."""


class Repositories:
    """The repositories of a server; each is a folder ``NAME.git``."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._changing = threading.Lock()

    def path(self, name: str) -> Path | None:
        """The folder of the repository called ``name``; None when it is not one of them."""
        return self.config.folder / f"{name}.git" if name in self.config.names else None

    def prepare(self) -> None:
        """Have every repository there and set up; safe to repeat.  Raises GitError.

        To be called before anybody is served: what an earlier process left half done when it
        was killed (locks, packs that never arrived) is taken away.
        """
        self.config.folder.mkdir(parents=True, exist_ok=True)
        for pattern in (".new-*", ".old-*", ".body-*"):
            for left in self.config.folder.glob(pattern):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for name in self.config.names:
            path = self.config.folder / f"{name}.git"
            if path.exists():
                _tidy(path)
            else:
                self._make(name).rename(path)
            self._set_up(path)

    def empty(self, name: str) -> None:
        """Put an empty repository in the place of ``name``.  Raises GitError."""
        with self._changing:
            path = self.config.folder / f"{name}.git"
            new, old = self._make(name), self.config.folder / f".old-{name}"
            self._set_up(new)
            path.rename(old)
            new.rename(path)
            shutil.rmtree(old, ignore_errors=True)  # a push that is still at work may write there

    def _make(self, name: str) -> Path:
        """A new one beside its place, so that there is never half a repository there."""
        new = self.config.folder / f".new-{name}"
        self._git("init", "--quiet", "--bare", "--template=", str(new))
        self._git("-C", str(new), "symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        return new

    def _set_up(self, path: Path) -> None:
        settings = {
            "http.receivepack": "true",
            "http.getanyfile": "false",  # the dumb protocol: a file at a time
            "receive.maxInputSize": str(self.config.max_push),
            "receive.fsckObjects": "true",
            "receive.denyNonFastForwards": "false",
            "receive.denyDeleteCurrent": "refuse",
            "receive.autogc": "false",  # no process that outlives the push
            "pack.threads": "1",
            "pack.windowMemory": "16m",
            "core.bigFileThreshold": "2m",
        }
        for key, value in settings.items():
            self._git("-C", str(path), "config", key, value)
        hook = path / "hooks" / "post-receive"
        hook.parent.mkdir(exist_ok=True)
        # By the shell: the first line of a script has no room for a long path, or one with spaces.
        command = shlex.join([sys.executable, "-I", "-S", str(_HOOK)])
        hook.write_text(f"#!/bin/sh\nexec {command}\n")
        hook.chmod(0o755)

    def _git(self, *words: str) -> None:
        try:
            subprocess.run(
                [self.config.git, *words],
                env=self.config.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
        except OSError as error:
            raise GitError(f"{self.config.git} cannot be run: {error.strerror}") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
            raise GitError(f"git {' '.join(words)}: {said}") from error


def _tidy(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(".lock"):
                (Path(folder) / name).unlink()
    for left in path.glob("objects/*incoming-*"):
        shutil.rmtree(left)
