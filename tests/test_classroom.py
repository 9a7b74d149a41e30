"""Two users of one machine, each with labs of their own: one tries to read the other's secrets.

Both are real unprivileged users, so this needs root (as in a container of a CI) and is skipped
elsewhere.  What was tried and what came of it is written to ``artifacts/isolation.txt``; that
the trying finds anything at all is shown with weaknesses made on purpose.
"""

from __future__ import annotations

import json
import re
import secrets
import stat
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from otherusers import REPO, User, abstract_sockets_of, users

from labkit.node import launch

ANNA, BERT = 60001, 60002
INTRUDER = Path(__file__).parent / "intruder.py"
LABS = ("one", "two")
"""Anna's: as this machine has it, and without mount namespaces."""
CANARY = "canary-" + secrets.token_hex(12)

ROTATE = """
import json, sys
from labkit import lab as labs, scan, vault
lab = labs.attach(sys.argv[1])
lab.journey({**vault.read(lab.vault), "password": sys.stdin.read()})
keys = (lab.paths.vault_token, lab.paths.vault_unseal_key)
found = scan.needles(lab.api, lab.vault, keys)
print(json.dumps({
    "mode": lab.record.mode,
    "page": int(lab.app.url.rpartition(":")[2]),
    "needles": {needle.what: needle.value for needle in found},
    "inside": ["/secrets/credentials", "/run/secrets/kubernetes.io/serviceaccount/token",
               str(lab.paths.vault_token)],
}))
"""
"""Run by Anna: the canary becomes the password, on the page; prints what is secret in her lab."""
CREDENTIALS = """
import json, sys
from labkit import lab as labs
lab = labs.attach(sys.argv[1])
print(json.dumps({
    "proxy": lab.paths.proxy_url.read_text().partition("//")[2].rpartition("@")[0],
    "vault": lab.paths.vault_token.read_text().strip(),
    "token": lab.api.token("external-secrets", "external-secrets"),
}))
"""
"""Run by Bert: what opens his own lab."""

KERNEL = """
import json, sys
from jupyter_client.manager import KernelManager
from traitlets.config import Config
manager = KernelManager(config=Config(json.loads(sys.argv[1])))
manager.start_kernel()
print(json.dumps([manager.iopub_port, manager.shell_port, manager.control_port,
                  manager.stdin_port, manager.hb_port]), flush=True)
sys.stdin.read()
manager.shutdown_kernel(now=True)
"""
"""Run by Anna: a notebook's kernel, as Jupyter starts it with this configuration."""
LISTEN = """
import json, sys, zmq
from zmq.utils.monitor import recv_monitor_message
bad = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
bad += zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED
for number, port in enumerate(json.loads(sys.argv[1])):
    listening = zmq.Context.instance().socket(zmq.DEALER if number else zmq.SUB)
    if not number:
        listening.subscribe(b"")
    watching = listening.get_monitor_socket()
    listening.connect(f"tcp://127.0.0.1:{port}")
    while (event := recv_monitor_message(watching)["event"]) not in (
        zmq.EVENT_HANDSHAKE_SUCCEEDED, *bad
    ):
        pass
    print("refused" if event in bad else "open")
    listening.disable_monitor()
    listening.close(linger=0)
"""
"""Run by Bert: listens to such a kernel, or tries to."""

PUBLIC = {
    "kube-controller-manager": r"/healthz",
    "external-secrets": r"/healthz",
    "vault": r"/v1/sys/health|/v1/sys/seal-status|/ui/|/",
}
"""What these programs answer to whoever asks: that they are well, and the files of Vault's page."""


@dataclass(frozen=True)
class Machine:
    """The two users with their labs up; ``told`` is what Anna says of each of hers."""

    anna: User
    bert: User
    told: dict[str, dict[str, Any]]
    own: dict[str, Any]

    @property
    def needles(self) -> dict[str, str]:
        """All of Anna's secrets, by what they are."""
        found = {"the canary": CANARY}
        for lab, told in self.told.items():
            found |= {f"{lab}: {what}": value for what, value in told["needles"].items()}
            root = self.anna.state / lab
            found[f"{lab}: the proxy's credential"] = (
                (root / "proxy-url").read_text().partition("//")[2].rpartition("@")[0]
            )
            # Keys: a line of each is enough to know it by.
            for file in (root / "kubeconfig", *root.rglob("*.key")):
                lines = re.findall(r"^[\w+/=]{60,}$", file.read_text(), re.MULTILINE)
                keys = re.findall(r"client-key-data: (\S+)", file.read_text()) or lines[:1]
                found |= {f"{lab}: {file.relative_to(root)}": line for line in keys}
        return found

    def hunt(self, **targets: list[Any]) -> list[dict[str, Any]]:
        """Let Bert try all that Anna has, or only ``targets``."""
        every: dict[str, Any] = {
            "ports": self.anna.ports(),
            "sockets": self.anna.sockets(),
            "files": self.anna.files(),
            "pids": self.anna.pids(),
        }
        asked = {
            **{kind: targets.get(kind, [] if targets else found) for kind, found in every.items()},
            "needles": self.needles,
            "own": self.own,
            "inside": self.told[LABS[0]]["inside"],
        }
        said = self.bert.run(sys.executable, "-I", str(INTRUDER), said=json.dumps(asked))
        return [json.loads(line) for line in said.splitlines()]

    def listeners(self) -> dict[str, str]:
        """Which program of Anna's listens at each address."""
        found = {}
        for pid in self.anna.pids():
            process = psutil.Process(pid)
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    found[f"{each.laddr.ip}:{each.laddr.port}"] = _name_of(process)
        return found


def _name_of(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    names = {"bao": "vault", "demo_app": "the app", "supervisor": "the node and the network"}
    for mark, name in names.items():
        if mark in words.replace("/", " ").replace(".", " ").split():
            return name
    return process.name()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with users(ANNA, BERT) as (anna, bert):
        starting = [
            (anna.begin(sys.executable, "-m", "labkit", "up", "--name", LABS[0])),
            (anna.begin(sys.executable, "-m", "labkit", "up", "--name", LABS[1],
                        LABKIT_MODE="rewrite")),
            (bert.begin(sys.executable, "-m", "labkit", "up", "--name", "own")),
        ]  # fmt: skip
        for command in starting:
            _, problem = command.communicate(timeout=180)
            assert command.returncode == 0, problem[-3000:]
        told = {name: json.loads(anna.python(ROTATE, name, said=CANARY)) for name in LABS}
        own = json.loads(bert.python(CREDENTIALS, "own"))
        pki = bert.state / "own" / "pki"
        own["certificates"] = {
            each.stem: (str(each), str(each.with_suffix(".key")))
            for each in sorted(pki.rglob("*.crt"))
            if each.with_suffix(".key").exists()
        }
        yield Machine(anna, bert, told, own)


def test_one_user_reads_nothing_of_anothers_but_the_apps_page(machine: Machine) -> None:
    listeners = machine.listeners()
    attempts = machine.hunt()
    _write(machine, listeners, attempts)
    pages = {
        *(f"127.0.0.1:{told['page']}" for told in machine.told.values()),
        *(address for address, name in listeners.items() if name == "the app"),
    }
    leaks = [each for each in attempts if each["leaks"] and each["target"] not in pages]
    assert leaks == []
    # Each page shows the canary, which is how we know that it could have been found.
    shown = {each["target"] for each in attempts if "the canary" in each["leaks"]}
    assert shown == pages
    assert [each for each in attempts if each["got"] in ("WRITABLE", "ATTACHED")] == []
    done = [
        each
        for each in attempts
        if each["kind"] == "process" and each["got"].endswith("bytes") and not _is_public(each)
    ]
    assert done == []
    assert [each for each in attempts if each["got"] == "connected"] == []
    assert {address.rpartition(":")[0] for address in listeners} == {"127.0.0.1"}
    assert set(listeners) == {f"{host}:{port}" for host, port in machine.anna.ports()}
    opened = [
        each
        for each in attempts
        if each["kind"] == "port"
        and each["target"] not in pages
        and re.search(r"^2|^3| 2\d\d ", each["got"])
        and not _is_known(listeners[each["target"]], each["how"])
    ]
    assert opened == []


def _is_public(each: dict[str, Any]) -> bool:
    from intruder import PUBLIC as known

    return each["how"].removeprefix("/proc/PID/") in known


def _is_known(program: str, how: str) -> bool:
    path = how.split()[1] if " " in how else how
    return bool(re.fullmatch(PUBLIC.get(program, "-"), path))


def test_a_weakness_that_is_made_on_purpose_is_found(machine: Machine) -> None:
    anna = machine.anna
    token = (anna.state / "one" / "vault-token").read_text()
    weak = anna.home / "notes.txt"
    anna.run("sh", "-c", f"umask 022; cat > {weak}", said=token)
    assert stat.S_IMODE(weak.stat().st_mode) == 0o644
    server = (
        "import socket, sys, threading\n"
        "secret = sys.stdin.readline().encode()\n"
        "def serve(raw):\n"
        "    while True:\n"
        "        peer, _ = raw.accept(); peer.recv(9)\n"
        "        peer.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + secret); peer.close()\n"
        "tcp = socket.create_server(('127.0.0.1', 0))\n"
        "unix = socket.socket(socket.AF_UNIX); unix.bind('\\0lk-weak'); unix.listen()\n"
        "threading.Thread(target=serve, args=(tcp,), daemon=True).start()\n"
        "threading.Thread(target=serve, args=(unix,), daemon=True).start()\n"
        "print(tcp.getsockname()[1], flush=True); sys.stdin.read()\n"
    )
    before = set(anna.pids())
    serving = anna.begin(sys.executable, "-c", server)
    told = anna.begin("sh", "-c", "read wait", "login", f"--password={CANARY}")
    try:
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write(CANARY + "\n")
        serving.stdin.flush()
        port = int(serving.stdout.readline())
        assert ("127.0.0.1", port) in anna.ports()
        new = [pid for pid in anna.pids() if pid not in before]
        attempts = machine.hunt(
            ports=[each for each in anna.ports() if each[1] == port],
            sockets=abstract_sockets_of(new),
            files=[each for each in anna.files() if each.endswith(".txt")],
            pids=new,
        )
    finally:
        serving.communicate("")
        told.communicate("")
        weak.unlink()
    found = {(each["kind"], each["target"]) for each in attempts if each["leaks"]}
    assert found == {
        ("port", f"127.0.0.1:{port}"),
        ("unix socket", "@lk-weak"),
        ("file", str(weak)),
        ("process", str(told.pid)),
    }


def test_what_a_notebook_shows_is_heard_by_nobody_else(machine: Machine) -> None:
    """Its kernel has ports for whoever connects; that of the outputs asks for no key at all."""
    configuration = (REPO / "labkit/_jupyter/jupyter_server_config.json").read_text()
    for chosen, outcome in ((configuration, "refused"), ("{}", "open")):
        kernel = machine.anna.begin(sys.executable, "-c", KERNEL, chosen)
        try:
            assert kernel.stdout is not None
            ports = kernel.stdout.readline()
            told = machine.bert.python(LISTEN, ports).split()
        finally:
            kernel.communicate("")
        assert told == [outcome] * 5


def test_a_closed_folder_of_the_host_keeps_no_container_from_its_volume(machine: Machine) -> None:
    if machine.told[LABS[0]]["mode"] != "mounts":
        pytest.skip("no mount namespaces for users here")
    anna = machine.anna
    anna.run("sh", "-c", f"echo shown > {anna.home}/volume; mkdir {anna.home}/root")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as closed:  # 0700, and root's
        target = f"{closed}/in/side"
        launcher = (sys.executable, "-I", "-S", launch.__file__, "--root", f"{anna.home}/root")
        said = anna.run(*launcher, "--bind", f"{anna.home}/volume", target, "--", "cat", target)
    assert said == "shown\n"


# -- what is told ----------------------------------------------------------------------


def _write(machine: Machine, listeners: dict[str, str], attempts: list[dict[str, Any]]) -> None:
    """Each attempt with what it got, those of one kind with one result in one line."""
    modes = ", ".join(f"{name} ({told['mode']})" for name, told in machine.told.items())
    lines = [
        f"{len(attempts)} attempts of user {BERT}, with a lab of their own, at all that belongs to "
        f"user {ANNA}",
        f"with the labs {modes}; {len(machine.needles)} secrets looked for in every answer.",
    ]
    for kind in ("port", "unix socket", "file", "process"):
        lines += ["", f"{kind.upper()} {'-' * 60}"]
        grouped: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for each in attempts:
            if each["kind"] == kind:
                title, how = _title(machine, listeners, each)
                grouped[title][_got(each)].append(how)
        for title, results in sorted(grouped.items()):
            told = (f"{got} for {_few(hows)}" for got, hows in sorted(results.items()))
            lines.append(f"{title}: {'; '.join(told)}")
    text = "\n".join(lines) + "\n"
    for number, name in enumerate(LABS):
        text = text.replace(str(machine.anna.state / name), f"LAB{number + 1}")
    folder = REPO / "artifacts"
    folder.mkdir(exist_ok=True)
    (folder / "isolation.txt").write_text(text.replace(str(machine.anna.home), "HOME"))


def _title(machine: Machine, listeners: dict[str, str], each: dict[str, Any]) -> tuple[str, str]:
    """What an attempt is listed under, and which one it was there."""
    if each["kind"] == "port":
        program = listeners.get(each["target"], "?")
        page = any(each["target"].endswith(f":{told['page']}") for told in machine.told.values())
        how, _, guise = each["how"].partition(" as ")
        return f"{'the app (its NodePort)' if page else program}, as {guise or 'nobody'}", how
    if each["kind"] == "process":
        return str(each["how"]), f"process {each['target']}"
    name = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UID", each["target"])
    return re.sub(r"\d{5,}", "N", name), each["how"]


def _few(hows: list[str]) -> str:
    once = list(dict.fromkeys(hows))
    return ", ".join(once) if len(once) <= 5 else f"{len(hows)} of them"


def _got(each: dict[str, Any]) -> str:
    got = re.sub(r"^\d+ bytes$", "read", each["got"])
    return f"{got} LEAK: {', '.join(each['leaks'])}" if each["leaks"] else got
