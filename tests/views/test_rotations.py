"""What is told of rotations, from lines as the witnesses write them."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.journey import COURSE
from labkit.rotations import Circumstances, Evidence, rotations, seconds_of
from labkit.snapshot import Rotation, Vault
from labkit.vault import AuditEntry

PATH = f"secret/data/{COURSE.key}"
ESO = "kubernetes-external-secrets-external-secrets"
EXTERNAL: dict[str, Any] = {
    "metadata": {"name": COURSE.external_secret, "namespace": COURSE.namespace},
    "spec": {"refreshInterval": "15s"},
    "status": {
        "refreshTime": "1970-01-01T00:16:30Z",
        "conditions": [{"type": "Ready", "status": "True", "message": "secret synced"}],
    },
}
T = 1000.0  # of the first write; ESO has read last at 990


def write(at: float, version: int) -> AuditEntry:
    return AuditEntry(at, "response", "update", PATH, "root", "", version=version)


def read(at: float, version: int) -> AuditEntry:
    return AuditEntry(at, "response", "read", PATH, ESO, "", version=version)


def update(at: float) -> dict[str, Any]:
    return {
        "verb": "update",
        "objectRef": {
            "resource": "secrets",
            "name": COURSE.secret,
            "namespace": COURSE.namespace,
        },
        "user": {"username": "system:serviceaccount:external-secrets:external-secrets"},
        "responseStatus": {"code": 200},
        "stageTimestamp": at,
    }


def swap(at: float) -> dict[str, Any]:
    return {
        "at": at,
        "event": "volume-swapped",
        "namespace": COURSE.namespace,
        "pod": "gitops-secrets-deploy-1",
        "uid": "u",
        "volume": "credentials",
        "source": {"kind": "Secret", "name": COURSE.secret},
    }


def loaded(at: float, version: int) -> dict[str, Any]:
    return {"event": "reloaded", "version": version, "at": at}


def ack(at: float, version: int) -> dict[str, Any]:
    return {"event": "ack", "version": version, "at": at, "client": "page"}


def tell(evidence: Evidence, now: float = T + 1, **around: Any) -> list[Rotation]:
    given = {"vault": Vault("open"), "external": EXTERNAL, **around}
    return list(rotations(evidence, Circumstances(now, **given), COURSE))


def proven(rotation: Rotation) -> list[float | None]:
    return [hop.seconds for hop in rotation.hops]


def test_a_whole_one_has_six_hops() -> None:
    [found] = tell(
        Evidence(
            [write(T, 5), read(T + 0.1, 5)],
            [update(T + 0.2)],
            [swap(T + 0.3)],
            [loaded(T + 0.4, 7), ack(T + 0.5, 7)],
        )
    )
    assert (found.version, found.progress, found.waits_for) == (5, "done", "")
    assert proven(found) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert found.seconds == 0.5
    assert "ESO" not in found.why


def test_what_eso_has_not_read_waits_for_its_next_refresh_and_stalls_after_it() -> None:
    evidence = Evidence([write(T, 5)])
    [found] = tell(evidence)
    assert (found.progress, found.waits_for) == ("under way", "eso-read")
    assert "refreshInterval 15s" in found.why
    assert found.due is not None
    assert 1005.0 <= found.due <= 1010.0  # read at 990, every 15 s, and a little patience
    [late] = tell(evidence, now=1030.0)
    assert (late.progress, late.due) == ("stalled", None)


@pytest.mark.parametrize(
    ("around", "why"),
    [
        ({"vault": Vault("sealed")}, "Vault is sealed"),
        ({"operator": False}, "ESO does not run"),
        ({"external": None}, "there is no ExternalSecret my-db-credentials"),
        ({"external": {**EXTERNAL, "spec": {"refreshInterval": "0"}}}, "ESO never reads again"),
        ({"words": {T: "the ExternalSecret says SecretSyncedError: 403"}}, "SecretSyncedError"),
    ],
)
def test_what_is_broken_is_named_at_once(around: dict[str, Any], why: str) -> None:
    [found] = tell(Evidence([write(T, 5)]), **around)
    assert (found.progress, found.waits_for) == ("stalled", "eso-read")
    assert why in found.why


def test_a_kubelet_may_take_a_minute_and_a_half() -> None:
    evidence = Evidence([write(T, 5), read(T + 0.1, 5)], [update(T + 0.2)])
    [watching] = tell(evidence, now=T + 20)
    assert (watching.progress, watching.waits_for) == ("stalled", "file-swapped")
    [kubelet] = tell(evidence, now=T + 20, sync="kubelet")
    assert kubelet.progress == "under way"
    [unmounted] = tell(evidence, mounted=False, sync="kubelet")
    assert "no pod mounts the Secret" in unmounted.why


def test_a_version_that_eso_never_read_is_overtaken_by_the_next() -> None:
    first, second = tell(
        Evidence(
            [write(T, 5), write(T + 0.5, 6), read(T + 1, 6)],
            [update(T + 1.1)],
            [swap(T + 1.2)],
            [loaded(T + 1.3, 7), ack(T + 1.4, 7)],
        )
    )
    assert (first.progress, first.waits_for) == ("overtaken", "eso-read")
    assert proven(first) == [0.0, None, None, None, None, None]
    assert second.progress == "done"


def test_two_versions_in_one_swap_are_the_second_ones() -> None:
    first, second = tell(
        Evidence(
            [write(T, 5), read(T + 0.1, 5), write(T + 10, 6), read(T + 10.1, 6)],
            [update(T + 0.2), update(T + 10.2)],
            [swap(T + 60)],
            [loaded(T + 60.1, 7)],
        ),
        now=T + 61,
        sync="kubelet",
    )
    assert (first.progress, first.waits_for) == ("overtaken", "file-swapped")
    assert (second.progress, second.waits_for) == ("under way", "page-updated")


def test_the_same_version_of_another_vault_is_another_rotation() -> None:
    """A Vault that lost its memory counts from 1 again."""
    first, second = tell(
        Evidence(
            [write(T, 1), read(T + 0.1, 1), write(T + 100, 1)], [update(T + 0.2)], [swap(T + 0.3)]
        ),
        now=T + 101,
    )
    assert proven(first)[:4] == [0.0, 0.1, 0.2, 0.3]
    assert proven(second) == [0.0, None, None, None, None, None]


def test_an_apps_restart_takes_its_history_along() -> None:
    [found] = tell(
        Evidence([write(T, 5), read(T + 0.1, 5)], [update(T + 0.2)], [swap(T + 0.3)]),
        now=T + 100,
        app_started=T + 50,
    )
    assert (found.progress, found.waits_for) == ("unproven", "app-reloaded")


def test_only_a_change_of_the_external_secret_is_a_forced_sync() -> None:
    def change(query: str, user: str = "labkit-admin") -> dict[str, Any]:
        return {
            "verb": "patch",
            "requestURI": f"/apis/external-secrets.io/v1/x{query}",
            "objectRef": {
                "resource": "externalsecrets",
                "name": COURSE.external_secret,
                "namespace": COURSE.namespace,
            },
            "user": {"username": user},
            "stageTimestamp": "1970-01-01T00:16:40.050Z",
        }

    def is_forced(line: dict[str, Any]) -> bool:
        return tell(Evidence([write(T, 5), read(T + 0.1, 5)], [line]))[0].forced

    assert is_forced(change(""))
    assert is_forced(change("?fieldManager=kubectl-annotate"))
    assert not is_forced(change("?fieldManager=labkit&force=true"))
    assert not is_forced(change("", "system:serviceaccount:external-secrets:external-secrets"))


def test_durations() -> None:
    assert [seconds_of(each) for each in ("15s", "1h0m0s", "1m30s", "0", "", "0s")] == [
        15.0, 3600.0, 90.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip
