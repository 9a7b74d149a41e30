"""What goes wrong while a program is made: each is told in one line and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import until

from labkit import host, programs
from labkit.errors import ProgramError
from labkit.programs.catalogue import CATALOGUE, Entry, GoModule
from labkit.programs.golang import WHEEL_VERSION, Version, find_go
from labkit.programs.store import Store

from .conftest import Ensure, tiny_catalogue

DRIVER = Path(__file__).with_name("driver.py")

LONGER = """package main

import (
	"encoding/json"
	"os"
)

func main() { json.NewEncoder(os.Stdout).Encode("longer") }
"""


def visible(cache: Path) -> list[str]:
    """What is in the programs' part of the cache but locks and the list of what was verified."""
    return [
        str(path.relative_to(cache / "programs"))
        for path in (cache / "programs").rglob("*")
        if path.is_file() and path.name != "verified.json" and not path.name.endswith(".lock")
    ]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_no_room(ensure: Ensure, cache: Path) -> None:
    with pytest.raises(ProgramError, match=r"0\.5 GB are needed.*0\.1 GB are free.*LABKIT_CACHE"):
        ensure(free=lambda folder: 10**8)
    assert visible(cache) == []


def test_no_network_and_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    with pytest.raises(ProgramError, match=r"could not be downloaded.*GOPROXY=off.*network"):
        programs.ensure(["etcd"], cache=tmp_path, progress=programs.silent)
    assert visible(tmp_path) == []


def test_a_pin_that_does_not_match_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A go.sum with another hash: the download is not used, whatever it holds."""
    proxy = tmp_path / "proxy" / "example.com" / "dep" / "@v"
    proxy.mkdir(parents=True)
    (proxy / "v1.0.0.info").write_text('{"Version":"v1.0.0"}')
    (proxy / "v1.0.0.mod").write_text("module example.com/dep\n")
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path / 'proxy'}")
    catalogue = tiny_catalogue(
        tmp_path / "module", 'package main\n\nimport _ "example.com/dep"\n\nfunc main() {}\n'
    )
    wrong = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    with (tmp_path / "module" / "go.mod").open("a") as file:
        file.write("\nrequire example.com/dep v1.0.0\n")
    (tmp_path / "module" / "go.sum").write_text(
        f"example.com/dep v1.0.0 {wrong}\nexample.com/dep v1.0.0/go.mod {wrong}\n"
    )
    with pytest.raises(ProgramError, match="not what is pinned"):
        programs.ensure(
            ["tiny"], catalogue=catalogue, cache=tmp_path / "c", progress=programs.silent
        )


def test_a_compile_error_shows_its_lines(ensure: Ensure, tmp_path: Path, cache: Path) -> None:
    tiny_catalogue(tmp_path / "module", "package main\n\nfunc main() { nonsense() }\n")
    with pytest.raises(ProgramError, match="undefined: nonsense"):
        ensure()
    assert visible(cache) == []


def test_an_edit_that_does_not_fit_is_refused(tmp_path: Path, cache: Path) -> None:
    """The pin has moved on: what was to be edited stands elsewhere, or twice."""
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    (upstream / "go.mod").write_text("module example.test/up\n\ngo 1.26.0\n")
    (upstream / "up.go").write_text('package up\n\nconst Address = "0.0.0.0"\n')
    source = 'package main\n\nimport "example.test/up"\n\nfunc main() { println(up.Address) }\n'
    tiny_catalogue(tmp_path / "module", source)
    with (tmp_path / "module" / "go.mod").open("a") as file:
        file.write("\nrequire example.test/up v0.0.0\n")
        file.write(f"\nreplace example.test/up v0.0.0 => {upstream}\n")

    def entry(old: str) -> dict[str, Entry]:
        module = GoModule(
            folder=tmp_path / "module",
            names=("tiny",),
            module="example.test/up",
            edits=(("up.go", old, '"127.0.0.1"'),),
            disk=10**8,
        )
        return {"tiny": Entry("tiny", "1.0", module)}

    with pytest.raises(ProgramError, match=r"is 0 times in up\.go"):
        programs.ensure(["tiny"], catalogue=entry("localhost"), cache=cache)
    found = programs.ensure(["tiny"], catalogue=entry('"0.0.0.0"'), cache=cache)
    told = subprocess.run([found["tiny"].path], capture_output=True, text=True, check=True)
    assert told.stderr == "127.0.0.1\n"
    assert '"0.0.0.0"' in (upstream / "up.go").read_text()  # what Go keeps is left alone


def test_go_too_old_gives_way_to_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "cache")
    script(tmp_path / "bin" / "go", "echo go1.20.1")
    wheel = store.go / "toolchain" / f"go-{WHEEL_VERSION}" / "go" / "bin" / "go"
    script(wheel, f"echo go{WHEEL_VERSION}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found = find_go(Version(1, 26, 0), store, lambda detail: None)
    assert (found.path, str(found.version)) == (wheel, WHEEL_VERSION)


def test_go_too_old_and_no_wheel_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "go", "echo go1.20.1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    store = Store(tmp_path / "cache")
    told: list[str] = []
    with pytest.raises(ProgramError, match=r"could not be fetched.*1\.20\.1.*No matching"):
        find_go(Version(1, 26, 0), store, told.append)
    assert "1.20.1, 1.26.0 is needed" in told[0]
    assert list((store.go / "toolchain").iterdir()) == []


def test_two_processes_build_once(tmp_path: Path, cache: Path, tiny: dict[str, Entry]) -> None:
    argv = [sys.executable, str(DRIVER), str(tmp_path / "module"), str(cache)]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("ready" in text for text in said) == 1


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_leaves_nothing_and_goes_on(
    tmp_path: Path, standard_library: Path, sig: signal.Signals
) -> None:
    """A real compile, ended in the middle; the next one begins where it was."""
    catalogue = tiny_catalogue(tmp_path / "module", LONGER)
    cache = tmp_path / "cache"
    shutil.copytree(standard_library, cache / "go" / "build")
    argv = [sys.executable, str(DRIVER), str(tmp_path / "module"), str(cache)]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    total = 0
    for line in process.stdout:
        if "compiling" in line:
            done, total = map(int, line.split()[-1].split("/"))
            if done >= total // 2:
                break
    children = [(pid, host.process_start_time(pid)) for pid in host.descendants(process.pid)]
    process.send_signal(sig)
    process.wait(timeout=30)
    process.stdout.close()
    assert [name for name in visible(cache) if ".building" not in name] == []
    if sig == signal.SIGINT:
        assert not any(began and host.is_same_process(pid, began) for pid, began in children)
        assert visible(cache) == []
    again: list[programs.Event] = []
    programs.ensure(["tiny"], catalogue=catalogue, cache=cache, progress=again.append)
    assert 0 < max(event.total for event in again) < total
    assert not any(".building" in name for name in visible(cache))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_the_command_interrupted_exits_130_with_one_line(
    tmp_path: Path, sig: signal.Signals
) -> None:
    """The go of this test says its version, then says its pid and waits for ever."""
    fake = script(
        tmp_path / "go",
        'if [ "$1" = env ]; then echo go1.99.0; exit; fi\n'
        "echo go: downloading $$ v1\nexec sleep 1000",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.programs", "get", "etcd"],
        env={**os.environ, "LABKIT_CACHE": str(tmp_path / "cache"), "LABKIT_GO": str(fake)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert CATALOGUE["etcd"].version in process.stderr.readline()
    while not (started := host.descendants(process.pid)):
        pass
    process.send_signal(sig)
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert rest == "Interrupted; `labkit programs get` goes on from here.\n"
    until(lambda: not any(host.process_start_time(pid) for pid in started), "they are reaped")
    assert visible(tmp_path / "cache") == []
