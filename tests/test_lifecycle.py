"""Up and down, side by side, interrupted and killed: nothing is left, and `up` works again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from harness import Home, home, until

from labkit import host

ROUNDS = int(os.environ.get("LABKIT_KILLS", "8"))


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def read_until(command: subprocess.Popen[str], beginning: str) -> str:
    """The first line of a command's output that begins so."""
    assert command.stdout is not None
    for line in command.stdout:
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError(f"{beginning!r} was never printed")


def assert_down(place: Home, name: str) -> None:
    assert place.run("down", "--name", name)[0] == 0
    assert place.living() == {}
    assert list(place.state.iterdir()) == []
    assert list(place.temporary.iterdir()) == []


def test_up_twice_at_once_is_one_lab(place: Home) -> None:
    first, second = place.begin("kernel", "a"), place.begin("kernel", "a")
    outputs = [command.communicate(timeout=180)[0] for command in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert sum("Waiting for another command" in said for said in outputs) == 1
    assert sum("Starting the node" in said for said in outputs) == 1
    assert_down(place, "a")


def test_labs_side_by_side_do_not_meet(place: Home) -> None:
    starting = [place.begin("kernel", name) for name in ("a", "b")]
    for command in starting:
        assert command.communicate(timeout=180)[0].splitlines()[-1].startswith("up")
    records = [place.record(name) for name in ("a", "b")]
    assert records[0]["server"] != records[1]["server"]
    assert place.run("down", "--name", "a")[0] == 0
    assert place.run("kernel", "b")[1].splitlines() == [f"up {place.pid_of('guardian', 'b')}"]
    assert_down(place, "b")


def test_a_path_too_long_for_sockets_works_and_leaves_nothing() -> None:
    with home(long=True) as place:
        code, said = place.run("kernel", "a")
        assert code == 0, said
        assert [path.name[:7] for path in place.temporary.iterdir()] == ["labkit-"]
        assert_down(place, "a")
        assert place.run("down", "--name", "a") == (0, "The lab a is not running.\n")


def test_a_lab_keeps_its_sync_mode(place: Home) -> None:
    asked = place.begin("up", "--name", "a", "--sync", "kubelet")
    read_until(asked, "The lab a is ready")
    assert asked.wait(30) == 0
    assert place.run("kernel", "a")[0] == 0, "who asks for no mode gets what runs"
    code, said = place.run("up", "--name", "a", "--sync", "watch")
    assert code == 1
    assert "runs with --sync kubelet" in said
    assert_down(place, "a")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
@pytest.mark.parametrize("step", ["Looking at", "Starting etcd", "Starting the node"])
def test_an_interrupted_up_takes_back_what_it_began(
    place: Home, number: signal.Signals, code: int, step: str
) -> None:
    command = place.begin("up", "--name", "a")
    read_until(command, step)
    command.send_signal(number)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == code, said
    assert place.living() == {}
    assert not list((place.state / "a").glob("run*"))
    assert place.run("kernel", "a")[0] == 0
    assert_down(place, "a")


def test_down_ends_a_start_of_another_command(place: Home) -> None:
    command = place.begin("kernel", "a")
    read_until(command, "Starting etcd")
    assert_down(place, "a")
    assert "taken down while it was starting" in command.communicate(timeout=30)[0]
    assert command.returncode == 1


def test_sigterm_to_the_guardian_is_a_graceful_end(place: Home) -> None:
    kernel = place.begin("kernel", "a", "stay")
    read_until(kernel, "runs a pod")
    # A pod is Running while its launcher still prepares what its program will see.
    until(lambda: "sleep 1000" in place.living().values(), what="the pod's program runs")
    guardian = place.pid_of("guardian", "a")
    assert guardian is not None
    assert {*host.descendants(guardian)} <= {*place.living()}, "none is missed by counting"
    os.kill(guardian, signal.SIGTERM)
    until(place.is_empty, what="nothing of the lab lives")
    record = place.record("a")
    assert (record["phase"], record["error"]) == ("stopped", None)
    assert kernel.poll() is None, "a kernel is not touched"


def test_a_lab_whose_folder_is_removed_ends(place: Home) -> None:
    assert place.run("kernel", "a")[0] == 0
    shutil.rmtree(place.state)
    until(place.is_empty, what="nothing of the lab lives")
    assert not place.state.exists()


@pytest.mark.parametrize("victim", ["supervisor", "guardian"])
def test_a_lab_that_was_killed_says_so(place: Home, victim: str) -> None:
    kernel = place.begin("kernel", "a", "stay")
    read_until(kernel, "runs a pod")
    pid = place.pid_of(victim, "a")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(place.is_empty, what="nothing of the lab lives")
    code, said = place.run("status", "--name", "a")
    assert code == 1
    assert f"The lab's {victim}" in said
    assert not list((place.state / "a").glob("run*"))


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_kill_at_any_moment_leaves_nothing(round_: int) -> None:
    """1. Start; 2. kill; 3. all is gone, or the lab is whole; 4. `up` works; 5. `down` clears."""
    dice = random.Random()
    victim = ["command", "supervisor", "guardian", "both"][round_ % 4]
    usual = _up_time()
    long, cold = dice.random() < 0.5, dice.random() < 0.25
    with home(long=long, cold=cold) as place:
        began = time.monotonic()
        words = ["up", "--name", "a"] if dice.random() < 0.3 else ["kernel", "a", "stay"]
        kernel = place.begin(*words)  # 1
        moment = began + dice.uniform(0, usual * (3 if cold else 1.3))
        until(lambda: time.monotonic() > moment)  # a moment of no significance: that is the point
        roles = {"both": ("guardian", "supervisor")}.get(victim, (victim,))
        if victim == "command":
            pids = [kernel.pid]
        else:
            until(lambda: all(place.pid_of(role, "a") for role in roles), what=f"a {victim}")
            pids = [pid for role in roles if (pid := place.pid_of(role, "a"))]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)  # 2
        what = (
            f"{victim} killed after {time.monotonic() - began:.2f} s ({words=}, {long=}, {cold=})"
        )
        if victim == "command":
            kernel.wait()
            until(lambda: place.is_empty() or _is_whole(place), what=what)  # 3
        else:
            until(place.is_empty, what=f"{what}: {place.living()}")
            kernel.kill()
        code, said = place.run("kernel", "a")  # 4
        assert code == 0, f"{what}: {said}"
        assert len([*place.temporary.iterdir()]) == int(long), what
        assert not [*place.cache.glob("golden/.making-*")], what
        assert_down(place, "a")  # 5


def _is_whole(place: Home) -> bool:
    return (place.state / "a" / "lab.json").exists() and place.record("a")["phase"] == "ready"


_measured: list[float] = []


def _up_time() -> float:
    """How long a start takes here, in seconds; measured once."""
    if not _measured:
        with home() as place:
            began = time.monotonic()
            assert place.run("kernel", "a")[0] == 0
            _measured.append(time.monotonic() - began)
    return _measured[0]


def test_two_ups_at_once_end_in_one_whole_lab(place: Home) -> None:
    both = [place.begin("up", "--name", "a", "--json") for _ in range(2)]
    said = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    code, found = place.run("status", "--name", "a", "--json")
    assert (code, '"ready": true' in found) == (0, True), found


def test_a_new_lab_in_a_removed_ones_place_is_left_alone(place: Home) -> None:
    assert place.run("kernel", "a")[0] == 0
    old = [place.pid_of(role, "a") for role in ("guardian", "supervisor")]
    assert all(old)
    shutil.rmtree(place.state)
    code, said = place.run("kernel", "a")
    assert code == 0, said
    before = place.pid_of("supervisor", "a")
    until(
        lambda: not any(pid in place.living() for pid in old),
        what="the removed lab's processes end",
    )
    code, said = place.run("kernel", "a")
    assert (code, place.pid_of("supervisor", "a")) == (0, before), said
