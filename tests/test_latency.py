"""Measuring rotations: every hop proven, the rest untouched, nothing left behind."""

from __future__ import annotations

import base64
import itertools
import os
import signal
import threading

import harness
import hvac
import pytest

from labkit import chart, eso, host, lanes, latency, vault
from labkit.errors import LabError, UsageError
from labkit.lab import Lab
from labkit.lane import FOLDER, NAMESPACE
from labkit.latency import Latencies
from labkit.trail import HOPS, Witnesses


def witnesses(lab: Lab) -> Witnesses:
    return Witnesses(lab.paths.api_audit, lab.paths.journal, lab.sync)


def measure(lab: Lab, rotations: int, *modes: str) -> Latencies:
    return latency.measure(
        lab.api, lab.vault, witnesses=witnesses(lab), rotations=rotations, modes=modes
    )


def assert_nothing_is_left(lab: Lab) -> None:
    assert lab.api.get("v1", "Namespace", NAMESPACE) is None
    client = lab.vault
    assert lanes.POLICY not in client.sys.list_policies()["data"]["policies"]
    with pytest.raises(hvac.exceptions.InvalidPath):
        client.auth.kubernetes.read_role(lanes.ROLE)
    for number in range(1, lanes.MOST + 1):
        with pytest.raises(hvac.exceptions.InvalidPath):
            client.secrets.kv.v2.read_secret_metadata(
                f"{FOLDER}/lane-{number}", mount_point=vault.MOUNT
            )


@pytest.fixture(scope="module")
def measured(lab: Lab) -> Latencies:
    return measure(lab, 4, *latency.MODES)


def test_each_rotation_has_its_six_hops_in_order(measured: Latencies) -> None:
    assert list(measured.samples) == ["15s", "5s", "forced"]
    for samples in measured.samples.values():
        assert len(samples) == 4
        assert len({sample.at for sample in samples}) == 4
        for sample in samples:
            assert len(sample.seconds) == len(HOPS)
            assert sample.seconds[0] == 0
            assert all(a <= b for a, b in itertools.pairwise(sample.seconds))
    for mode in measured.samples:
        steps = [measured.step(mode, hop) for hop in HOPS]
        whole = measured.step(mode, latency.TOTAL)
        assert [sum(each) for each in zip(*steps, strict=True)] == pytest.approx(whole)
    asked = sorted(measured.since_write("forced", "page-updated"))
    assert asked[0] < 5, "a sync that is asked for waits for no interval"


def test_the_apps_run_on_and_only_the_mounted_file_changes(measured: Latencies) -> None:
    assert measured.same_pod
    assert measured.restarts == 0
    assert len(measured.lanes) == 4
    for lane in measured.lanes:
        assert lane.same_start
        assert lane.started_at
        assert lane.versions == 3, "one rotation in each mode"
        assert not lane.env_changed
        assert not lane.subpath_changed


def test_the_outcome_reads_as_text_and_as_a_picture(measured: Latencies) -> None:
    data, metadata = measured._repr_mimebundle_()
    assert data["text/plain"] == measured.table()
    assert all(hop in measured.table() for hop in HOPS[1:])
    assert f"node sync mode {measured.sync}" in measured.table()
    assert "environment variable: another value in 0 of 4 apps" in measured.table()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "Never changed: environment variable and subPath file." in metadata["image/png"]["alt"]
    axes = measured.plot().axes[0]
    assert len(axes.get_yticks()) == len(HOPS) * 3 + 2, "a row for each hop and mode, two for never"
    markers = {str(line.get_marker()) for line in axes.get_lines()} & set(chart.MARKERS)
    assert len(markers) == 3, "modes are told apart without colour"


def test_nothing_is_left_behind(lab: Lab, measured: Latencies) -> None:
    assert_nothing_is_left(lab)


def test_an_interrupt_takes_the_lanes_away(lab: Lab) -> None:
    def interrupt() -> None:
        def is_under_way() -> bool:
            found = lab.api.get(eso.API, "ExternalSecret", "lane-2", NAMESPACE)
            return bool(found and found["spec"]["refreshInterval"] == "300s")

        harness.until(is_under_way, what="rotations are under way", timeout=60)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        measure(lab, 2, "300s")
    thread.join()
    assert_nothing_is_left(lab)


def claim(lab: Lab, owner: str) -> None:
    lab.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "annotations": {"labkit/owner": owner}},
        }
    )


def test_what_a_killed_measurement_left_is_taken_away(lab: Lab) -> None:
    claim(lab, f"{os.getppid()} 1.0 {host.boot_id()}")  # that process began at another time
    vault.write(lab.vault, {"a": "b"}, key=f"{FOLDER}/lane-9")
    assert len(measure(lab, 1, "forced").samples["forced"]) == 1
    assert_nothing_is_left(lab)


def test_another_measurement_is_left_alone(lab: Lab) -> None:
    parent = os.getppid()
    claim(lab, f"{parent} {host.process_start_time(parent)!r} {host.boot_id()}")
    with pytest.raises(LabError, match=f"process {parent} has the namespace"):
        measure(lab, 1, "forced")
    assert lab.api.get("v1", "Namespace", NAMESPACE) is not None
    lanes.remove(lab.api, lab.vault)
    assert_nothing_is_left(lab)


def test_what_cannot_be_measured_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="soon"):
        measure(lab, 1, "soon")
    with pytest.raises(UsageError, match="rotations"):
        measure(lab, 0, "forced")


def test_where_no_logs_can_be_read_others_have_seen_it(lab: Lab) -> None:
    """A watch on the Secrets and the files' own times, as in somebody else's cluster."""
    by_logs = measure(lab, 2, "forced")
    seen = latency.measure(
        lab.api,
        lab.vault,
        witnesses=Witnesses(None, None, "watch"),
        rotations=2,
        modes=("forced",),
    )
    for measured in (by_logs, seen):
        (samples,) = measured.samples.values()
        assert len(samples) == 2
        assert all(list(each.seconds) == sorted(each.seconds) for each in samples)
