"""The application and its file: swaps, faults, and what each way of watching sees."""

from __future__ import annotations

import os
import statistics
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from demo_app_process import CREDENTIALS, App, Volume, wait_for

from labkit import demo_app
from labkit.demo_app.config import Config
from labkit.demo_app.journal import Journal
from labkit.demo_app.store import Store

Start = Callable[..., App]


def test_it_lives_before_its_folder_and_reads_it_when_it_comes(
    volume: Volume, start: Start
) -> None:
    app = start()
    assert app.request("GET", "/health/live")[0] == 200
    assert app.ready() == (503, f"not ready: the folder {volume.path} does not exist")
    volume.path.mkdir()
    missing = (503, f"not ready: there is no file {volume.file}")
    wait_for(lambda: app.ready() == missing)
    volume.swap(CREDENTIALS.format("first"))
    shown = app.wait_version(1)
    assert app.ready() == (200, "ready with version 1")
    assert shown["values"]["db_user"] == "demo_user"
    assert shown["sources"]["db_user"] == {"path": str(volume.file), "kind": "file", "line": 2}
    assert shown["file"]["target"].startswith("..2026")
    assert app.history("loaded")[0]["changed"] == ["db_con", "db_user", "db_password"]


def test_a_swap_is_seen_within_50_ms(volume: Volume, start: Start) -> None:
    volume.swap(CREDENTIALS.format("0"))
    app = start()
    delays = []
    for version in range(2, 14):
        at = volume.swap(CREDENTIALS.format(version))
        app.wait_version(version)
        event = app.history("reloaded")[-1]
        assert event["changed"] == ["db_password"]
        delays.append(event["at"] - at)
    assert statistics.median(delays) < 0.05, delays


def test_of_50_quick_swaps_the_last_is_shown(volume: Volume, start: Start) -> None:
    volume.swap(CREDENTIALS.format("0"))
    app = start()
    for number in range(1, 51):
        volume.swap(CREDENTIALS.format(number))
    wait_for(lambda: app.password() == "50")
    versions = [event["version"] for event in app.history("reloaded")]
    assert versions == list(range(2, len(versions) + 2))
    assert not app.history("load-failed")


def test_a_plain_file_may_be_replaced_or_rewritten(volume: Volume, start: Start) -> None:
    volume.path.mkdir()
    volume.file.write_text(CREDENTIALS.format("aaaa"))
    app = start()
    other = volume.path / "other"
    other.write_text(CREDENTIALS.format("bbbb"))
    other.rename(volume.file)
    app.wait_version(2)
    for version, password in enumerate(["cccc", "dddd", "eeee"], start=3):
        volume.file.write_text(CREDENTIALS.format(password))  # the same size and inode
        assert app.wait_version(version)["version"] == version
        assert app.password() == password


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'db_con="c"\ndb_user="u"\ndb_passwo', 'line 3: expected key="value"'),
        (b"db_password=topsecret-two\n", "line 1: the value must stand in double quotes"),
        (b"\xff\xfe", "line 1: this is not UTF-8 text"),
        (b"", "the file is empty"),
        (b"#" * ((1 << 20) + 1), "is larger than 1 MiB"),
        (None, "there is no file"),
        ("folder", "is not a regular file"),
        ("pipe", "is not a regular file"),
    ],
)
def test_a_fault_keeps_the_last_good_values_and_says_so(
    volume: Volume, start: Start, content: bytes | str | None, reason: str
) -> None:
    volume.swap(CREDENTIALS.format("topsecret-one"))
    app = start()
    if isinstance(content, bytes):
        volume.swap(content)
    else:
        volume.file.unlink()
        if content == "folder":
            volume.file.mkdir()
        elif content == "pipe":
            os.mkfifo(volume.file)
    wait_for(lambda: app.get("/api/credentials")["stale"])
    shown = app.get("/api/credentials")
    assert reason in shown["error"]
    assert shown["error_at"] >= shown["loaded_at"]
    assert (shown["version"], app.password()) == (1, "topsecret-one")
    assert app.ready()[0] == 200
    [failed] = app.history("load-failed")
    assert failed["error"] == shown["error"]

    if content is None or content in ("folder", "pipe"):
        if volume.file.is_dir():
            volume.file.rmdir()
        volume.file.unlink(missing_ok=True)
        volume.file.symlink_to("..data/credentials")
        wait_for(lambda: app.history("recovered"))
        assert app.get("/api/credentials")["version"] == 1
    else:
        volume.swap(CREDENTIALS.format("topsecret-three"))
        app.wait_version(2)
    shown = app.get("/api/credentials")
    assert (shown["stale"], shown["error"]) == (False, None)
    assert "topsecret" not in app.log.read_text()


def test_watching_the_file_sees_one_swap_and_then_none(volume: Volume, start: Start) -> None:
    volume.swap(CREDENTIALS.format("one"))
    app = start(WATCH_MODE="file")
    control = start()
    assert app.get("/api/credentials")["watch"] == {"mode": "file", "active": True}
    volume.swap(CREDENTIALS.format("two"))
    app.wait_version(2)
    control.wait_version(2)
    assert app.get("/api/credentials")["watch"] == {"mode": "file", "active": False}
    for version, password in enumerate(["three", "four"], start=3):
        volume.swap(CREDENTIALS.format(password))
        control.wait_version(version)
    assert app.password() == "two"
    assert app.get("/api/credentials")["stale"] is False  # it does not know any better


def test_watching_off_reads_once(volume: Volume, start: Start) -> None:
    volume.swap(CREDENTIALS.format("one"))
    app = start(WATCH_MODE="off")
    control = start()
    volume.swap(CREDENTIALS.format("two"))
    control.wait_version(2)
    assert app.password() == "one"
    assert app.get("/api/credentials")["watch"] == {"mode": "off", "active": False}


def test_file_variable_and_subpath_stand_side_by_side(volume: Volume, start: Start) -> None:
    volume.swap(CREDENTIALS.format("one"))
    copy = volume.path / "copied"
    copy.write_text(CREDENTIALS.format("one"))
    app = start(APP_SUBPATH_FILE=str(copy), APP_ENV_VAR="MY_SECRET", MY_SECRET="one")
    before = app.get("/api/credentials")
    assert [source["matches_file"] for source in before["other_sources"]] == [True, True]
    volume.swap(CREDENTIALS.format("two"))
    after = app.wait_version(2)
    variable, subpath = after["other_sources"]
    assert (variable["kind"], variable["where"]) == ("env", "MY_SECRET")
    assert (subpath["kind"], subpath["where"]) == ("subpath", str(copy))
    for source in (variable, subpath):
        assert source["matches_file"] is False
        assert source["changed_since_start"] is False
        assert source["value"] == "•" * 8
        assert source["fingerprint"] == before["file"]["fingerprint"]
    assert after["file"]["fingerprint"] != before["file"]["fingerprint"]
    revealed = app.get("/api/credentials?reveal=1")["other_sources"]
    assert [source["value"] for source in revealed] == ["one", "one"]
    absent = start(APP_ENV_VAR="NOT_THERE").get("/api/credentials")["other_sources"]
    assert absent[0]["error"] == "the variable is not set"


def test_a_thousand_reloads_take_no_more_memory(volume: Volume) -> None:
    journal = Journal()
    store = Store(Config(secrets_dir=volume.path), journal, {}, log=lambda _: None)

    def reload(count: int) -> int:
        for _ in range(count):
            volume.swap(CREDENTIALS.format(store.state.version))
            store.tick()
        # Only what was allocated on the application's way: other tests' threads live on.
        ours = tracemalloc.Filter(True, f"{Path(demo_app.__file__).parent}/*", all_frames=True)
        traces = tracemalloc.take_snapshot().filter_traces([ours]).traces
        return sum(trace.size for trace in traces)

    tracemalloc.start(10)
    try:
        before = reload(250)
        after = reload(1000)
    finally:
        tracemalloc.stop()
    assert store.state.version == 1250
    assert before > 0
    assert after - before < 64 * 1024
