"""What is known to fail, with a reason each, and how a run compares with that.

The list is ``bench/known_misses.toml``: an entry is a reason, the modes that it holds for
and the tests that fail for it.  A miss that is not on the list and an entry that passes
are both faults: the list is to tell the truth.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.conformance.groups import MODES
from bench.conformance.suite import Result
from labkit.errors import UsageError

FILE = Path(__file__).parent.parent / "known_misses.toml"


@dataclass(frozen=True)
class Miss:
    """A test that is known to fail in ``modes``, and why.

    ``only_as_root``: where root runs the lab.  ``not_run``: it is not even tried, since
    what it does would be done to this machine.
    """

    test: str
    modes: tuple[str, ...]
    reason: str
    only_as_root: bool = False
    not_run: bool = False

    def holds_in(self, mode: str) -> bool:
        """Whether the test is to fail in ``mode`` here."""
        return mode in self.modes and (not self.only_as_root or os.geteuid() == 0)


@dataclass(frozen=True)
class Verdict:
    """A run against the list: what failed unannounced, what passed though listed."""

    unexpected: tuple[Result, ...]
    passing: tuple[Miss, ...]

    @property
    def is_good(self) -> bool:
        return not self.unexpected and not self.passing


def read(path: Path = FILE) -> list[Miss]:
    """The list.  Raises UsageError for an entry with a mistake."""
    try:
        entries = tomllib.loads(path.read_text()).get("miss", [])
        found = [
            Miss(
                test,
                tuple(entry["modes"]),
                " ".join(entry["reason"].split()),
                bool(entry.get("only_as_root")),
                bool(entry.get("not_run")),
            )
            for entry in entries
            for test in entry["tests"]
        ]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path} cannot be used", seen=str(error)) from error
    for miss in found:
        if not set(miss.modes) <= set(MODES) or not miss.reason:
            raise UsageError(f"{path} has an entry without a mode or a reason", seen=miss.test)
    return found


def judge(results: Iterable[Result], misses: Iterable[Miss], mode: str) -> Verdict:
    """Compare what was run in ``mode`` with the list."""
    known = {miss.test: miss for miss in misses if miss.holds_in(mode)}
    results = list(results)
    return Verdict(
        unexpected=tuple(
            result for result in results if not result.passed and result.test not in known
        ),
        passing=tuple(
            known[result.test] for result in results if result.passed and result.test in known
        ),
    )
