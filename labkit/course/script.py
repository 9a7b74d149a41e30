"""One text for exercise and solution: a script with the learner's part marked.

The solution is a shell script as a person would type it, with the course's own names in
it.  What the learner fills in is derived from it, so the two cannot drift apart:

* ``blanks`` are pieces of it such as ``"role: ⟦demo⟧"``; the marked part becomes ``____``.
* ``render`` puts other names in place of the course's.

Running a script is ``play``'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.errors import UsageError
from labkit.paths import manifest

BLANK = "____"
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,40}[a-z0-9])?")


def render(text: str, defaults: Mapping[str, str], names: Mapping[str, str]) -> str:
    """``text`` with each default name, where it stands as a whole word, replaced.

    All at once: a name that equals another's default is not replaced twice.
    """
    changes = {defaults[key]: value for key, value in names.items() if defaults[key] != value}
    if not changes:
        return text
    words = sorted(changes, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])")
    return pattern.sub(lambda found: changes[found.group(1)], text)


def blank(script: str, blanks: Sequence[str]) -> str:
    """The script with the marked part of each of ``blanks`` left to the learner.

    Raises ValueError when a piece is not in the script exactly once: the exercise is wrong.
    """
    for piece in blanks:
        before, start, rest = piece.partition("⟦")
        answer, end, after = rest.partition("⟧")
        if not start or not end or script.count(before + answer + after) != 1:
            raise ValueError(f"{piece!r} is not in the script exactly once")
        script = script.replace(before + answer + after, before + BLANK + after)
    return script


def blanks_in(script: str) -> list[int]:
    """The line numbers (from 1) of what is still to be filled in; comments do not count."""
    return [
        number
        for number, line in enumerate(script.splitlines(), 1)
        if BLANK in line and not line.lstrip().startswith("#")
    ]


def has_commands(script: str) -> bool:
    """Whether there is anything in the script but comments and empty lines."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in script.splitlines())


def applied(*files: str) -> str:
    """``kubectl apply`` of course manifests, word for word, as part of a script."""
    texts = [_without_head(manifest(file)) for file in files]
    return "kubectl apply -f - <<'YAML'\n" + "---\n".join(texts) + "YAML\n"


def _without_head(file: Path) -> str:
    lines = file.read_text().splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "".join(lines)


def check_names(defaults: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """All names of a lesson, the given ones in place of its own.

    Raises UsageError for a name that the lesson does not have, or that cannot be one.
    """
    for key, value in names.items():
        if key not in defaults:
            raise UsageError(
                f"This lesson has nothing called {key!r}",
                todo=f"It lets you name: {', '.join(defaults) or 'nothing'}.",
            )
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise UsageError(
                f"{key}={value!r} cannot be a name",
                todo="Use lower-case letters, digits and dashes, such as team-blue.",
            )
    found = {**defaults, **names}
    if len(set(found.values())) != len(found):
        raise UsageError(
            "Two things of this lesson would have the same name",
            seen=", ".join(f"{key}={value}" for key, value in found.items()),
            todo="Give each a name of its own.",
        )
    return found
