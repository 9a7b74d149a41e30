"""The same lab on HashiCorp Vault: the tests of Vault and of rotation, on another engine.

Run when its binary is there (`labkit programs get vault`, or one on PATH); the tests are
the other files' own, with this module's lab in place of the session's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_lab import (  # noqa: F401 - collected here, and run on this module's lab
    test_a_denied_read_stalls_the_journey_and_says_where,
    test_a_rotation_reaches_the_page_in_the_same_pod,
    test_a_sealed_vault_is_unsealed,
    test_a_vault_that_lost_everything_is_set_up_again,
    test_reset_removes_what_a_learner_made,
    test_the_app_knows_where_its_values_come_from,
)
from test_vault import (  # noqa: F401
    test_a_service_account_without_a_role_is_refused_by_kubernetes,
    test_a_token_for_another_audience_is_refused,
    test_an_unknown_role_is_refused,
    test_another_service_account_is_refused,
    test_reading_what_is_not_there,
    test_the_audit_device_names_the_reader_and_never_the_value,
    test_the_bound_service_account_gets_a_short_lived_token,
    test_the_same_name_in_another_namespace_is_refused,
)

from labkit import lab as labs
from labkit import programs, tour
from labkit.errors import LabError
from labkit.journey import HOPS
from labkit.lab import Lab

pytestmark = pytest.mark.hashicorp


@pytest.fixture(scope="module")
def lab(state: Path) -> Iterator[Lab]:
    """A lab whose Vault is HashiCorp's."""
    try:
        programs.resolve("vault")
    except LabError as error:
        pytest.skip(f"HashiCorp Vault is not here: {error}")
    running = labs.up("hashicorp", engine="hashicorp", progress=print)
    yield running
    running.stop()


def test_it_is_hashicorps(lab: Lab) -> None:
    assert lab.engine.name == "hashicorp"
    assert lab.status()["vault"]["version"].startswith("1.")


def test_the_tour(lab: Lab) -> None:
    said: list[str] = []
    walked = tour.walk(lab, say=said.append)
    assert [hop.name for hop in walked.hops] == list(HOPS)
    assert (walked.pod_restarts, walked.same_pod) == (0, True)
    assert "HashiCorp Vault holds" in said[0]
