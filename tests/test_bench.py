"""What the benches conclude from figures and results; the figures themselves are no tests."""

from __future__ import annotations

from bench.conformance import groups, misses, page
from bench.conformance.misses import Miss
from bench.conformance.suite import Result
from bench.goals import GOALS
from bench.results import Measure, as_table

SECRETS = "[sig-node] Secrets should patch a secret [Conformance]"
PROBE = "[sig-node] Probing container should have monotonically increasing restart count"


def test_a_verdict_is_about_the_goals_own_statistic() -> None:
    slow_once = Measure("page-forced", "", "s", samples=(*[0.1] * 18, 0.8, 0.9))
    assert slow_once.median == 0.1
    assert slow_once.p95 == 0.8
    assert slow_once.is_met is False
    assert Measure("page-forced", "", "s", samples=(*[0.1] * 19, 0.9)).is_met is True
    assert Measure("plane", "", "s", samples=(1.0, 2.0), peer=(2.0, 1.5)).is_met is True
    assert Measure("crowd", "", "labs", samples=(7.0,)).is_met is False
    assert Measure("crowd", "", "labs", problem="too little memory").is_met is None


def test_every_goal_has_a_row_that_can_be_printed() -> None:
    rows = [Measure(key, key, "s", samples=(1.0,), peer=(2.0,)) for key in GOALS]
    assert as_table([*rows, Measure("none", "", "", problem="why")]).row_count == len(GOALS) + 1


def test_the_list_of_misses_is_held_to_the_truth_both_ways() -> None:
    failed = Result(SECRETS, passed=False, seconds=1.0, message="why")
    passed = Result(SECRETS, passed=True, seconds=1.0)
    listed = [Miss(SECRETS, ("rewrite",), "because")]
    assert misses.judge([failed], listed, "rewrite").is_good
    assert misses.judge([passed], listed, "mounts").is_good
    assert misses.judge([failed], listed, "mounts").unexpected == (failed,)
    assert misses.judge([passed], listed, "rewrite").passing == tuple(listed)


def test_the_kept_list_names_tests_of_the_groups_once_each() -> None:
    listed = [(miss.test, mode) for miss in misses.read() for mode in miss.modes]
    assert len(listed) == len(set(listed))
    assert all(groups.is_meant(test) for test, _ in listed)


def test_tests_that_fight_over_a_port_run_one_after_the_other() -> None:
    fighting = [PROBE, "[sig-node] Probing container … tcp:8080 liveness probe"]
    parts = groups.in_parts([SECRETS, *fighting], 4)
    assert parts == [fighting, [SECRETS]]


def test_the_page_says_the_score_of_each_mode_and_the_reasons() -> None:
    runs = {
        "mounts": [Result(SECRETS, passed=True, seconds=1.0)],
        "rewrite": [Result(SECRETS, passed=False, seconds=1.0)],
    }
    text = page.as_markdown(runs, [Miss(SECRETS, ("rewrite",), "because")])
    assert "| Secrets | 1 / 1 | 0 / 1 |" in text
    assert "- because\n  - `[sig-node] Secrets" in text
