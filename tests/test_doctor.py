"""Each thing that may be wrong with a machine, made here for a moment: seen, and not otherwise."""

from __future__ import annotations

import datetime
import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from labkit import host
from labkit.doctor import (
    LOOKS,
    Finding,
    Look,
    examine,
    folders,
    in_short,
    interpreter,
    kernel,
    machine,
    network,
    remains,
)
from labkit.doctor import cache as program_cache
from labkit.doctor.finding import Remark, ok
from labkit.errors import ClusterError
from labkit.lab import Lab
from labkit.ledger import Ledger
from labkit.programs.catalogue import CATALOGUE, GoModule
from labkit.programs.store import Store

Run = Callable[..., subprocess.CompletedProcess[str]]
SECRET = "hunter2"


def seen(topic: str) -> Finding:
    """What the doctor says of one topic, in this process."""
    (found,) = examine({topic: LOOKS[topic]}, patience=20)
    return found


def worst(remarks: list[Remark]) -> Finding:
    return Finding.of("it", remarks)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of this test's own, with a short path, which any user may enter.

    State and cache are in it, and nothing is set that could interfere.
    """
    for name in (*network.ROUTES, "no_proxy", "kubeconfig"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with tempfile.TemporaryDirectory(prefix="lk") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("LABKIT_STATE", f"{folder}/s")
        monkeypatch.setenv("LABKIT_CACHE", f"{folder}/c")
        yield Path(folder)


@contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """A server on loopback that takes connections, and answers each with ``answer``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if answer:
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def dead_port() -> int:
    return host.free_ports(1)[0]


def as_nobody(code: str, *, env: dict[str, str], uid: int = 65534) -> str:
    """What ``code`` prints, run by a user who owns nothing (by this one, unless it is root).

    labkit is imported before, as it may lie in a folder that nobody else may enter.
    """
    begin = (
        "import encodings.idna, os, resource\nfrom labkit import doctor\n"
        "from labkit.doctor import folders, kernel\n"
        f"if os.geteuid() == 0:\n    os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin + code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


# -- the whole ---------------------------------------------------------------------------


def test_json_has_four_keys_and_every_fault_a_fix(labkit: Run, place: Path) -> None:
    done = labkit("doctor", "--json")
    found = json.loads(done.stdout)
    assert [*{finding["topic"]: 1 for finding in found}] == [finding["topic"] for finding in found]
    assert {finding["topic"] for finding in found} == {*LOOKS}
    for finding in found:
        assert set(finding) == {"topic", "level", "seen", "fix"}
        assert finding["level"] in {"ok", "note", "problem"}
        assert finding["seen"]
        assert bool(finding["fix"]) is (finding["level"] != "ok"), finding
    assert done.returncode == (1 if found[0]["level"] == "problem" else 0)
    (volumes,) = (finding for finding in found if finding["topic"] == "Volumes")
    assert volumes["seen"].split(":")[0] in {"mounts", "rewrite"}


def test_it_fails_exactly_when_there_is_a_problem(labkit: Run, place: Path) -> None:
    (place / "file").touch()
    done = labkit("doctor", env={"LABKIT_STATE": str(place / "file" / "s")})
    assert done.returncode == 1
    assert done.stdout.startswith("problem ")
    assert "Folders: state: " in done.stdout
    assert "Set LABKIT_STATE" in done.stdout


def test_with_all_dead_it_ends_changes_nothing_and_tells_no_secret(
    labkit: Run, place: Path
) -> None:
    """A server and a proxy that take a connection and then say nothing, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = kubeconfig(place, server=f"https://127.0.0.1:{port}", token=SECRET)
        dead = f"http://me:{SECRET}@127.0.0.1:{dead_port()}"
        before = sorted(place.rglob("*"))
        done = labkit(
            "doctor",
            env={"KUBECONFIG": str(config), "HTTPS_PROXY": dead, "http_proxy": f"me:{SECRET}@x:1"},
            timeout=60,
        )
    for topic in ("Kubeconfig", "Proxy"):
        assert f"note     {topic}" in done.stdout, done.stdout + done.stderr
    assert "does not answer within" in done.stdout
    assert "nothing answers there" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert sorted(place.rglob("*")) == before


def test_a_look_that_fails_or_hangs_is_a_note_and_the_others_are_told() -> None:
    def fail() -> list[Remark]:
        raise RuntimeError(SECRET)

    def full() -> list[Remark]:
        raise OSError(5, "Input/output error", "/somewhere")

    never = threading.Event()
    looks = {
        "broken": Look(fail),
        "disk": Look(full),
        "hanging": Look(lambda: [ok(str(never.wait()))]),
        "fine": Look(lambda: [ok("well")]),
    }
    found = {finding.topic: finding for finding in examine(looks, patience=0.2)}
    never.set()
    assert found["broken"].level == found["disk"].level == found["hanging"].level == "note"
    assert "RuntimeError" in found["broken"].seen
    assert SECRET not in str(found["broken"])
    assert "Input/output error" in found["disk"].seen
    assert "did not end in time" in found["hanging"].seen
    assert found["fine"] == Finding("fine", "ok", "well")


# -- up that fails -----------------------------------------------------------------------


def test_up_that_fails_asks_in_short(labkit: Run, place: Path) -> None:
    env = {"LABKIT_ETCD": "/nowhere/etcd", "LABKIT_CACHE": "", "LABKIT_MODE": "rewrite"}
    done = labkit("up", "--name", "a", "--json", env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    first, *rest = done.stderr.strip().splitlines()
    assert first.startswith("labkit: LABKIT_ETCD names no program")
    assert 1 < len(rest) <= 5
    assert any(line.startswith("problem: Programs: LABKIT_ETCD names no") for line in rest)
    assert "`labkit doctor`" in rest[-1]
    assert not any(line.startswith("ok") for line in rest)


def test_wrong_words_are_not_examined(labkit: Run, place: Path) -> None:
    for words, code in ((["--name", "A"], 1), (["--wombat"], 2)):
        done = labkit("up", *words)
        assert done.returncode == code
        assert "doctor" not in done.stderr


def test_a_notebook_shows_it_below_the_error() -> None:
    error = ClusterError("It does not start", seen="nothing")
    assert error._render_traceback_() == ["ClusterError: It does not start. Seen: nothing."]
    error.add_note(in_short())
    assert "`labkit doctor`" in error._render_traceback_()[-1]


# -- machine -----------------------------------------------------------------------------


def cgroup(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_containers_memory_counts_when_it_is_less(tmp_path: Path) -> None:
    assert "container" not in worst(machine.memory(tmp_path)).seen
    second = cgroup(
        tmp_path / "2",
        {
            "proc/self/cgroup": "0::/box/inner\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/box/memory.max": "2000000000\n",
            "sys/fs/cgroup/box/memory.current": "1900000000\n",
            "sys/fs/cgroup/box/memory.stat": "anon 1\ninactive_file 200000000\n",
            "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/box/pids.max": "150\n",
            "sys/fs/cgroup/box/pids.current": "120\n",
        },
    )
    found = worst(machine.memory(second))
    assert "0.3 GB left of this container's 2.0 GB (cgroup v2), which counts" in found.seen
    assert found.level in {"problem", "note"}  # a note where a lab runs already
    assert found.fix
    assert worst(machine.processor(second)).level == "note"
    assert worst(machine.processor(tmp_path)).level == "ok"
    limits = worst(kernel.limits(root=second))
    assert limits.is_fatal
    assert "150 processes and threads, and 30 are left" in limits.seen
    first = cgroup(
        tmp_path / "1",
        {
            "proc/self/cgroup": "4:memory:/gone/from/here\n1:cpu,cpuacct:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "500000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "100000000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert "0.4 GB left of this container's 0.5 GB (cgroup v1)" in worst(machine.memory(first)).seen
    assert worst(machine.processor(first)).level == "ok"
    (first / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert "container" not in worst(machine.memory(first)).seen


@pytest.mark.parametrize(
    ("year", "words"), [(2001, "before labkit or its programs were made"), (2060, "after labkit")]
)
def test_a_clock_that_is_far_off(place: Path, year: int, words: str) -> None:
    off = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()
    found = worst(machine.clock(now=lambda: off, steady=lambda: 0.0))
    assert found.level == "note"
    assert words in found.seen
    assert "is dated" in found.seen, "a file made now is not of then"
    assert "timedatectl" in found.fix
    assert seen("Clock").level == "ok"


def test_a_clock_that_jumps(place: Path) -> None:
    readings = iter([0.0, 30.0])
    found = worst(machine.clock(steady=lambda: next(readings)))
    assert "it moved by -30" in found.seen


def test_python_and_what_is_installed_in_it() -> None:
    assert worst(interpreter.python((3, 10, 4))).is_fatal
    assert interpreter.distributions(["PyYAML>=1", "x[y]>=1 ; extra == 'test'", "psutil"]) == []
    assert worst(interpreter.distributions(["no-such-thing>=1"])).level == "note"
    old = worst(interpreter.distributions(["psutil>=1000.1", "typer==0.0.1"]))
    assert old.level == "note"
    assert "psutil>=1000.1 is wanted" in old.seen
    assert "pip install 'psutil>=1000.1' 'typer==0.0.1'" in old.fix
    assert seen("Python").level == "ok"
    assert seen("JupyterLab").level == "ok"


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert seen("Git").level == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert seen("Git").level == "note"


# -- kernel ------------------------------------------------------------------------------


def test_why_there_are_no_mounts(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "user").mkdir()
    reason, _ = kernel.refusal(tmp_path, root=False)
    assert "seccomp" in reason
    (tmp_path / "user" / "max_user_namespaces").write_text("0\n")
    reason, fix = kernel.refusal(tmp_path, root=False)
    assert "user.max_user_namespaces is 0" in reason
    assert "sysctl -w user.max_user_namespaces=15000" in fix
    (tmp_path / "kernel" / "unprivileged_userns_clone").write_text("0\n")
    assert "unprivileged_userns_clone is 0" in kernel.refusal(tmp_path, root=False)[0]
    assert "not even root" in kernel.refusal(tmp_path, root=True)[0]


def test_a_chosen_mode_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_MODE", "rewrite")
    assert seen("Volumes") == Finding("Volumes", "ok", "rewrite: LABKIT_MODE asks for it")
    monkeypatch.setenv("LABKIT_MODE", "magic")
    assert seen("Volumes").is_fatal


def test_few_files_and_few_watches(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert "open" not in worst(kernel.limits(tmp_path)).fix
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        found = worst(kernel.limits(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found.level == "note"
    assert "600 files open" in found.seen
    assert "ulimit -n" in found.fix
    (tmp_path / "fs" / "inotify").mkdir(parents=True)
    (tmp_path / "fs" / "inotify" / "max_user_instances").write_text("8\n")
    assert "max_user_instances is 8" in worst(kernel.limits(tmp_path)).seen
    assert seen("Limits").level == "ok"


# -- folders -----------------------------------------------------------------------------


def test_a_home_that_cannot_be_written(place: Path) -> None:
    home = place / "h"
    home.mkdir()
    code = "print(doctor.Finding.of('Home', folders.home()))\n"
    code += "print(doctor.Finding.of('Folders', folders.folders()))"
    own = {"HOME": str(home), "LABKIT_STATE": "", "LABKIT_CACHE": ""}
    home.chmod(0o555)
    told = as_nobody(code, env=own)
    assert f"note     Home: {home} cannot be written" in told
    assert f"problem  Folders: state: {home} cannot be written; cache: {home} cannot" in told
    assert "Set LABKIT_STATE to a folder of yours." in told
    home.chmod(0o777)
    told = as_nobody(code, env=own)
    assert "ok       Home" in told
    assert "ok       Folders" in told


def test_without_a_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert seen("Home").level == "ok"
    monkeypatch.setenv("HOME", str(place / "gone"))
    assert "is no folder" in seen("Home").seen
    monkeypatch.delenv("HOME")
    assert "HOME is not set" in seen("Home").seen
    assert "Set HOME" in seen("Home").fix


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a user whom nobody has named")
def test_a_user_with_no_home_and_few_processes() -> None:
    unset = "[os.environ.pop(name, '') for name in ('HOME', 'LABKIT_STATE', 'LABKIT_CACHE')]\n"
    limit = (
        "resource.setrlimit(resource.RLIMIT_NPROC, (50, 50))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
    )
    code = f"{unset}print(*doctor.examine(), sep='\\n')\n{limit}print(*kernel.limits())"
    told = as_nobody(code, env={}, uid=54321)
    assert "problem  Folders: This user has no home folder" in told
    assert "note     Home: HOME is not set" in told
    assert "ok       Limits" in told
    assert "problem', seen='a process may have 200 files open, and no more" in told
    assert "problem', seen='you may have 50 processes and threads, and " in told
    assert "failed" not in told


def test_a_path_with_no_room_for_sockets(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen("Folders").level == "ok"
    long = place / ("long" * 30)
    monkeypatch.setenv("LABKIT_STATE", str(long))
    found = seen("Folders")
    assert found.level == "note"
    assert "too long a path for unix sockets" in found.seen
    assert "Set LABKIT_STATE" in found.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.skipif(not host.can_mount_namespace(), reason="no mount namespaces here")
def test_file_systems_that_will_not_do(place: Path) -> None:
    cases = [
        ("size=1m", "Disk", "free at"),
        ("size=900m,nr_inodes=50", "Disk", "free inodes at"),
        ("size=900m,noexec", "Folders", "mounted noexec"),
        ("size=900m,ro", "Folders", "cannot be written"),
    ]
    code = (
        "import json, os, subprocess, sys\nfrom labkit.doctor import LOOKS, examine\n"
        "for options, topic, _ in json.loads(sys.argv[1]):\n"
        "    folder = sys.argv[2] + '/' + options.replace(',', '')\n"
        "    os.mkdir(folder)\n"
        "    mount = ['mount', '-t', 'tmpfs', '-o', options, 'none', folder]\n"
        "    subprocess.run(mount, check=True)\n"
        "    os.environ |= {'LABKIT_STATE': folder + '/s', 'LABKIT_CACHE': folder + '/c'}\n"
        "    print(json.dumps(examine({topic: LOOKS[topic]})[0].to_json()), flush=True)\n"
        "os.environ |= {'LABKIT_STATE': sys.argv[2] + '/s', 'LABKIT_PACKS': 'none'}\n"
        "sys.exit(subprocess.call([sys.executable, '-m', 'labkit', 'up']))\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", code, json.dumps(cases), str(place)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases), done.stderr
    for (_, _, words), finding in zip(cases, found, strict=True):
        assert finding["level"] == "problem", finding
        assert words in finding["seen"]
        assert "LABKIT_" in finding["fix"]
    assert done.returncode == 1, "with a cache that cannot be written, and is empty"
    assert "Read-only file system" in done.stderr
    assert "problem: Folders: cache: " in done.stderr


# -- network -----------------------------------------------------------------------------


def test_a_row_of_ports_can_be_had(tmp_path: Path) -> None:
    assert "NodePorts would be" in seen("Ports").seen
    (tmp_path / "net" / "ipv4").mkdir(parents=True)
    (tmp_path / "net" / "ipv4" / "ip_local_port_range").write_text("61000\t61500\n")
    assert "61000 to 61500" in worst(network.ports(tmp_path)).seen


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network of its own")
@pytest.mark.skipif(not host.can_mount_namespace(), reason="no namespaces here")
def test_without_loopback_and_with_no_row_of_ports() -> None:
    """In a network namespace of its own, where no other lab can be disturbed."""
    code = (
        "import fcntl, socket, struct\nfrom labkit.doctor import network\n"
        "def tell(): print(*network.ports())\n"
        "tell()\n"
        "control = socket.socket()\n"
        "fcntl.ioctl(control, 0x8914, struct.pack('16sh', b'lo', 1))\n"  # SIOCSIFFLAGS, IFF_UP
        "tell()\n"
        "held = [socket.create_server(('127.0.0.1', port)) for port in range(30008, 32768, 16)]\n"
        "tell()\n"
    )
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    down, up, full = done.stdout.splitlines()
    assert "level='problem'" in down
    assert "127.0.0.1 cannot be reached" in down
    assert "level='ok'" in up
    assert "level='problem'" in full
    assert "no 16 free ports in a row" in full
    assert "labkit down --all" in full


def test_a_proxy_that_answers_and_spares_loopback(place: Path) -> None:
    assert worst(network.proxies({})).level == "ok"
    with listening() as port:
        env = {
            "https_proxy": f"http://u:{SECRET}@127.0.0.1:{port}",
            "NO_PROXY": "127.0.0.0/8,localhost",
        }
        found = worst(network.proxies(env))
        assert found.level == "ok", found
        assert "loopback is not excepted" in worst(network.proxies(env | {"NO_PROXY": ""})).seen
        differ = worst(network.proxies(env | {"HTTPS_PROXY": f"http://127.0.0.1:{port}/"}))
        assert "https_proxy and HTTPS_PROXY differ" in differ.seen


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"proxy:{SECRET}", "which has no scheme"),
        (f"http://u:{SECRET}@", "which is no address"),
        (f"http://u:p@h:{SECRET}x", "which is no address"),
        ("http://127.0.0.1:DEAD", "nothing answers there"),
    ],
)
def test_a_proxy_that_is_none(place: Path, value: str, words: str) -> None:
    value = value.replace("DEAD", str(dead_port()))
    found = worst(network.proxies({"HTTP_PROXY": value, "no_proxy": "*"}))
    assert found.level == "note"
    assert words in found.seen
    assert "u:" not in str(found)
    assert found.fix


def test_a_labs_own_proxy_is_known(lab: Lab) -> None:
    own = lab.paths.proxy_url.read_text().strip()
    found = worst(network.proxies({"http_proxy": own, "HTTP_PROXY": own}))
    assert found.level == "ok"
    assert "the lab test's own" in found.seen
    assert own.rpartition("@")[0] not in str(found)


# -- the user's kubeconfig ---------------------------------------------------------------


def kubeconfig(folder: Path, *, server: str, context: str = "c", token: str = SECRET) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    file = folder / "kubeconfig.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def look_at(config: Path | str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setenv("KUBECONFIG", str(config))
    return seen("Kubeconfig")


def test_no_kubeconfig_is_needed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert seen("Kubeconfig").level == "ok"
    found = look_at(place / "gone", monkeypatch)
    assert found.level == "note"
    assert "no such file" in found.seen
    assert "unset KUBECONFIG" in found.fix


@pytest.mark.parametrize("text", ["{", f"token: {SECRET}: x\n\t- ", "- a\n- b\n", "contexts: [1]"])
def test_a_kubeconfig_that_is_garbage(
    place: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (place / "config").write_text(text)
    found = look_at(place / "config", monkeypatch)
    assert found.level == "note"
    assert "is not YAML" in found.seen or "is no kubeconfig" in found.seen
    assert SECRET not in str(found)


def test_a_kubeconfig_for_nothing_that_lives(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = f"https://127.0.0.1:{dead_port()}"
    missing = look_at(kubeconfig(place, server=server, context="gone"), monkeypatch)
    assert "its current context gone does not exist" in missing.seen
    assert "(there are: c)" in missing.fix
    none = look_at(kubeconfig(place, server=server, context=""), monkeypatch)
    assert "has no current context" in none.seen
    dead = look_at(kubeconfig(place, server=server), monkeypatch)
    assert f"its server {server} does not answer (Connection refused)" in dead.seen
    assert dead.level == missing.level == none.level == "note"
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as port:
        other = look_at(kubeconfig(place, server=f"http://127.0.0.1:{port}"), monkeypatch)
        assert "not as a Kubernetes API does" in other.seen


def test_a_kubeconfig_for_a_cluster_that_lives(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copyfile(lab.paths.kubeconfig, copy)
    found = look_at(copy, monkeypatch)
    assert found.level == "ok", found
    assert "its server answers" in found.seen
    empty = tmp_path / "empty"
    empty.write_text("current-context: nobody\n")
    assert "nobody does not exist" in look_at(f"{empty}:{copy}", monkeypatch).seen, "merged"
    assert look_at(f"{copy}:{empty}", monkeypatch).level == "ok"
    assert look_at(lab.paths.kubeconfig, monkeypatch).seen == "the lab test's own"


# -- programs, labs and what is left -----------------------------------------------------


def publish(cache: Path, module: GoModule) -> Path:
    """A build in a cache of one's own: the store's own way, with small files."""
    store = Store(cache)
    with store.aside(module) as aside:
        made = aside / "made"
        made.mkdir()
        for name in module.names:
            (made / name).write_bytes(secrets.token_bytes(1000))
        store.publish(module, made, go="1", seconds=1.0)
    return store.folder(module)


def test_programs_that_are_missing_and_damaged(place: Path) -> None:
    etcd = CATALOGUE["etcd"].source
    assert isinstance(etcd, GoModule)
    built = publish(place / "c", etcd)
    found = seen("Programs")
    assert found.level == "note"
    assert "not here yet: kube-apiserver, " in found.seen
    assert "etcd" not in found.seen
    assert "labkit programs get" in found.fix
    assert "kube-apiserver" in program_cache.missing_builds()
    with (built / "etcd").open("ab") as file:
        file.write(b"!")
    found = seen("Programs")
    assert "etcd 3." in found.seen
    assert "damaged" in found.seen
    assert "Run `labkit programs get etcd`." in found.fix


def test_room_that_nobody_needs(place: Path) -> None:
    assert seen("Program cache").level == "ok"
    etcd = CATALOGUE["etcd"].source
    assert isinstance(etcd, GoModule)
    old = publish(place / "c", etcd).with_name("0123456789abcdef")
    go = place / "c" / "go" / "build"
    for folder in (old, go, place / "c" / "downloads"):
        folder.mkdir(parents=True)
        with (folder / "large").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 120_000_000)
    found = seen("Program cache")
    assert found.level == "note"
    assert "0.1 GB of older builds" in found.seen
    assert "0.1 GB of Go's caches" in found.seen
    assert "0.1 GB of packs" in found.seen
    assert f"rm -r {old}" in found.fix
    assert "labkit programs get" in found.fix
    shutil.rmtree(old)
    shutil.rmtree(place / "c" / "downloads")
    (place / "c" / "go" / "keep").touch()
    assert seen("Program cache").level == "ok"
    assert "kept on request" in seen("Program cache").seen


def test_a_lab_that_ended_and_its_processes(place: Path) -> None:
    assert seen("Leftovers").level == seen("Labs").level == "ok"
    folder = place / "s" / "a"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as child:
        Ledger(folder / "ledger").add(child.pid, host.process_start_time(child.pid) or 0.0, "etcd")
        found = seen("Leftovers")
        assert found.level == "note"
        assert f"processes of the lab a, which has ended: {child.pid}" in found.seen
        assert "labkit down --name a" in found.fix
        child.kill()
    assert seen("Leftovers").level == "ok"
    assert seen("Labs").seen == "not running: a"
    assert "labkit up --name a" in seen("Labs").fix


def test_a_temp_folder_that_nobody_uses() -> None:
    with socket.socket(socket.AF_UNIX) as held:
        folder = Path("/tmp") / f"labkit-{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        try:
            later = folder.stat().st_mtime + 3600
            assert folder in remains.unused(Path("/tmp"), now=later)
            assert folder not in remains.unused(Path("/tmp")), "it may just be made"
            held.bind(str(folder / "x.sock"))
            assert folder not in remains.unused(Path("/tmp"), now=later)
        finally:
            shutil.rmtree(folder)


def test_running_labs_are_told(lab: Lab) -> None:
    assert "test" in seen("Labs").seen
    assert seen("Labs").level == "ok" or "not running" in seen("Labs").seen
    assert folders.disk()
