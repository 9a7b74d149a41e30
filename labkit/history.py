"""Look for secrets that nobody has told us of, in every commit of a Git repository.

``scan`` knows the lab's secrets and looks for exactly these.  A scanner such as detect-secrets
guesses by patterns and by how random a text looks, so it finds what nobody knew of, and now
and then something harmless.  It looks at files; this gives it the files of each commit that
can be reached from a branch or a tag.

What it finds is named by commit, file, line and kind, and never shown.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labkit import git
from labkit.errors import LabError


@dataclass(frozen=True)
class Guess:
    """What looks like a secret: its kind in the scanner's words, where, and in which commit."""

    commit: str
    subject: str
    path: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.kind}  (in the commit “{self.subject}”)"


@dataclass(frozen=True)
class Scanned:
    """How many commits were looked at, and what was found, the oldest first."""

    commits: int
    guesses: tuple[Guess, ...]

    def __str__(self) -> str:
        found = [str(guess) for guess in self.guesses] or ["Nothing that looks like a secret."]
        return "\n".join([f"{self.commits} commits:", *found])


def scan(folder: Path | str) -> Scanned:
    """Have detect-secrets look at each commit of the repository in ``folder``.

    A finding is told once, with the first commit that had it.  Raises LabError with the words
    of git or of the scanner.

    Source: https://github.com/Yelp/detect-secrets (``scan --all-files``).
    """
    listed = _git(folder, "log", "--all", "--reverse", "--format=%H %s").decode().splitlines()
    subjects = dict(line.split(" ", 1) for line in listed)
    with tempfile.TemporaryDirectory(prefix="labkit-history-") as place:
        for commit in subjects:
            (Path(place) / commit).mkdir()
            if not _git(folder, "ls-tree", commit):
                continue  # no file in it, and such an archive is none for tarfile
            with tarfile.open(fileobj=io.BytesIO(_git(folder, "archive", commit))) as tar:
                tar.extractall(Path(place) / commit, filter="data")
        results = _detect(Path(place))
    found: dict[tuple[str, int, str], Guess] = {}
    for commit, subject in subjects.items():
        for file, guesses in results.items():
            if file.startswith(f"{commit}/"):
                path = file.partition("/")[2]
                for each in guesses:
                    line, kind = int(str(each["line_number"])), str(each["type"])
                    found.setdefault((path, line, kind), Guess(commit, subject, path, line, kind))
    return Scanned(len(subjects), tuple(found.values()))


def _git(folder: Path | str, *words: str) -> bytes:
    return git.output(*words, folder=folder, todo="Give the folder of a clone.")


def _detect(folder: Path) -> dict[str, list[dict[str, object]]]:
    # Its search for words finds every ``secretKey: password`` of an ExternalSecret, which is a
    # name; what looks random is what is looked for here.
    words = ["scan", "--all-files", "--disable-plugin", "KeywordDetector", "."]
    program = [sys.executable, "-m", "detect_secrets", *words]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            "detect-secrets failed",
            seen=(done.stderr.strip().splitlines() or [""])[-1],
            todo="It is installed with labkit: run `make setup`.",
        )
    results: dict[str, list[dict[str, object]]] = json.loads(done.stdout)["results"]
    return results
