"""What kubectl asks of the node: logs, commands, ports.  kubectl is the real one."""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import re
import ssl
import subprocess
import termios
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import harness
import psutil
import pytest
from pods import phase, pod, restarts, state, wait_pod, waiting_reason

from labkit import programs
from labkit.kube import Kube, Object
from labkit.lab import Lab

until = functools.partial(harness.until, timeout=20.0)

WEB = """
import functools, os, http.server as h
files = functools.partial(h.SimpleHTTPRequestHandler, directory="/")
h.test(files, port=int(os.environ["PORT"]), bind="127.0.0.1")
"""


class Kubectl:
    """kubectl in one namespace of the lab."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        path = programs.resolve("kubectl").path
        self.argv = (str(path), f"--kubeconfig={lab.kubeconfig}", f"--namespace={namespace}")

    def __call__(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self.argv, *words], input=stdin, capture_output=True, timeout=60, check=False
        )

    def output(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def error(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode != 0, done.stdout
        return done.stderr.decode().strip()

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [*self.argv, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def kubectl(lab: Lab, namespace: str) -> Kubectl:
    return Kubectl(lab, namespace)


@pytest.fixture
def start(kube: Kube, namespace: str) -> Callable[[Object], None]:
    """Apply a pod and wait until its container ``main`` runs."""

    def run(manifest: Object) -> None:
        kube.apply(manifest, namespace=namespace)
        name = manifest["metadata"]["name"]
        wait_pod(kube, namespace, name, lambda seen: "running" in state(seen), "running")

    return run


# -- logs --------------------------------------------------------------------------------


def test_logs_in_whole_and_in_part(kubectl: Kubectl, kube: Kube, namespace: str) -> None:
    script = "echo one; echo two >&2; sleep 1.2; echo three; printf end"
    kube.apply(pod("p", script, restartPolicy="Never"), namespace=namespace)
    wait_pod(kube, namespace, "p", phase("Succeeded"), "Succeeded")
    whole = kubectl.output("logs", "p").splitlines()
    assert sorted(whole[:2]) == ["one", "two"], "two pipes: either may come first"
    assert whole[2:] == ["three", "end"]
    assert kubectl.output("logs", "p", "--tail=2") == "three\nend"
    assert kubectl.output("logs", "p", "--limit-bytes=3") in ("one", "two")
    stamped = kubectl.output("logs", "p", "--timestamps").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \w+$", line) for line in stamped)
    third = stamped[2].split(" ")[0]
    assert kubectl.output("logs", "p", f"--since-time={third[:19]}Z").startswith("three\n")
    assert kubectl.output("logs", "p", "--since=1h").splitlines() == whole


def test_following_ends_with_the_container(
    kubectl: Kubectl, start: Callable[[Object], None]
) -> None:
    script = (
        "echo one; while [ ! -e $HOLD/go ]; do echo tick; sleep 0.05; done; echo two; printf three"
    )
    hold = {"name": "hold", "mountPath": "/hold"}
    start(
        pod(
            "p",
            script,
            env=[{"name": "HOLD", "value": "/hold"}],
            volumeMounts=[hold],
            volumes=[{"name": "hold", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    with kubectl.running("logs", "-f", "p") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"one\n"
        with kubectl.running("attach", "p") as attached:
            assert attached.stdout is not None
            assert attached.stdout.readline() == b"tick\n"
            kubectl.output("exec", "p", "--", "sh", "-c", "> $HOLD/go")
            for process in (following, attached):
                assert process.communicate(timeout=20)[0].endswith(b"tick\ntwo\nthree")
                assert process.returncode == 0


def test_the_log_of_the_run_before(kubectl: Kubectl, kube: Kube, namespace: str) -> None:
    script = "echo $$; date +%s%N; exit 3"
    kube.apply(pod("p", script), namespace=namespace)
    wait_pod(kube, namespace, "p", lambda seen: restarts(seen) == 1, "restarted")
    wait_pod(
        kube, namespace, "p", lambda seen: waiting_reason(seen) == "CrashLoopBackOff", "backing off"
    )
    last = kubectl.output("logs", "p")
    assert len(last.splitlines()) == 2
    assert kubectl.output("logs", "p", "--previous") == last, "while it waits, both are the last"


def test_why_there_is_no_log(
    kubectl: Kubectl, kube: Kube, namespace: str, start: Callable[[Object], None]
) -> None:
    start(pod("p"))
    broken = pod("broken")
    broken["spec"]["containers"][0]["image"] = "example.com/nothing:1"
    kube.apply(broken, namespace=namespace)
    wait_pod(kube, namespace, "broken", lambda seen: "waiting" in state(seen), "waiting")
    until(
        lambda: "image can't be pulled" in kubectl.error("logs", "broken"), "the reason in the text"
    )
    assert kubectl.error("logs", "broken") == (
        'Error from server (BadRequest): container "main" in pod "broken" '
        "is waiting to start: image can't be pulled"
    )
    assert kubectl.error("logs", "p", "--previous") == (
        'Error from server (BadRequest): previous terminated container "main" in pod "p" not found'
    )
    assert 'container not found ("main")' in kubectl.error("exec", "broken", "--", "true")


# -- commands ----------------------------------------------------------------------------


def test_a_command_in_a_container(kubectl: Kubectl, start: Callable[[Object], None]) -> None:
    start(pod("p", env=[{"name": "WORD", "value": "in the container"}]))
    done = kubectl("exec", "p", "--", "sh", "-c", "echo $WORD; echo oops >&2; exit 3")
    assert done.stdout == b"in the container\n"
    assert done.stderr.splitlines() == [b"oops", b"command terminated with exit code 3"]
    assert done.returncode == 3
    assert kubectl("exec", "p", "--", "sh", "-c", "kill -9 $$").returncode == 137
    long = "word " * 20_000
    assert kubectl.output("exec", "p", "--", "echo", long) == f"{long}\n"
    assert "nosuch" in kubectl.error("exec", "p", "--", "nosuch")
    assert "gives containers no stdin" in kubectl.error("attach", "-i", "p")


def test_bytes_go_through_a_command_unchanged(
    kubectl: Kubectl, start: Callable[[Object], None]
) -> None:
    start(pod("p"))
    data = os.urandom(3_000_000)
    assert kubectl("exec", "-i", "p", "--", "cat", stdin=data).stdout == data
    summed = kubectl("exec", "-i", "p", "--", "sha256sum", stdin=data).stdout.split()[0]
    assert summed.decode() == hashlib.sha256(data).hexdigest()
    assert kubectl("exec", "-i", "p", "--", "head", "-c3", stdin=data).stdout == data[:3]


def test_a_terminal(kubectl: Kubectl, start: Callable[[Object], None]) -> None:
    start(pod("p"))
    terminal, other = os.openpty()
    termios.tcsetwinsize(terminal, (33, 101))
    session = subprocess.Popen(
        [*kubectl.argv, "exec", "-it", "p", "--", "sh"], stdin=other, stdout=other, stderr=other
    )
    os.close(other)
    seen = b""

    def read_until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                pytest.fail(f"the session ended without {text!r}:\n{seen.decode()}")

    # The terminal's echo has the quotes, the output has not.
    os.write(terminal, b"until stty size | grep '33 101'; do sleep 0.05; done; echo si''ze\n")
    read_until(b"size\r\n")
    os.write(terminal, b"sh -c \"echo begi''ns; exec sleep 1000\"\n")
    read_until(b"begins\r\n")
    os.write(terminal, b"\x03")
    os.write(terminal, b"echo after $?; exit 5\n")
    read_until(b"after 130\r\n")
    assert session.wait(timeout=20) == 5
    os.close(terminal)


def test_a_command_ends_with_its_caller_and_with_its_container(
    kubectl: Kubectl, kube: Kube, namespace: str, start: Callable[[Object], None]
) -> None:
    start(pod("p"))

    def sleeping(seconds: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [])[:2] == ["sleep", seconds]:
                found.append(process)
        return found

    with kubectl.running("exec", "p", "--", "sleep", "76543.1"):
        until(lambda: sleeping("76543.1"), "the first command runs")
    until(lambda: not sleeping("76543.1"), "the first command ended with kubectl")
    with kubectl.running("exec", "p", "--", "sleep", "76543.2") as second:
        until(lambda: sleeping("76543.2"), "the second command runs")
        kube.delete("v1", "Pod", "p", namespace)
        assert b"exit code 137" in second.communicate(timeout=20)[1]
    assert not sleeping("76543.2")


def test_the_official_client_with_its_older_protocol(
    lab: Lab, namespace: str, start: Callable[[Object], None]
) -> None:
    from kubernetes import client
    from kubernetes.stream import stream

    start(pod("p"))
    session = stream(
        client.CoreV1Api(lab.kube).connect_get_namespaced_pod_exec,
        "p",
        namespace,
        command=["sh"],
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    session.write_stdin("echo hello; exit 9\n")
    session.run_forever(timeout=20)
    assert session.read_stdout() == "hello\n"
    assert session.returncode == 9


# -- ports -------------------------------------------------------------------------------


def test_ports_are_forwarded(kubectl: Kubectl, kube: Kube, namespace: str) -> None:
    web = pod("web", ports=[{"containerPort": 8080}])
    web["spec"]["containers"][0] |= {
        "image": "docker.io/library/python",
        "command": ["python3", "-c", WEB],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    kube.apply(web, namespace=namespace)
    kubectl.output("wait", "--for=condition=Ready", "--timeout=30s", "pod/web")
    with kubectl.running("port-forward", "web", ":8080", ":9") as forwarding:
        assert forwarding.stdout is not None
        first, other = (forwarding.stdout.readline().decode() for _ in range(2))
        if "[::1]" in other:  # a line for each family, where there is a second one
            other = forwarding.stdout.readline().decode()
        port, undeclared = (re.search(r":(\d+) -> ", each)[1] for each in (first, other))
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(3):  # each a connection of its own
            with direct.open(f"http://127.0.0.1:{port}/etc/hostname", timeout=20) as answer:
                assert answer.read() == Path("/etc/hostname").read_bytes()
        with pytest.raises((urllib.error.URLError, http.client.HTTPException, OSError)):
            direct.open(f"http://127.0.0.1:{undeclared}/", timeout=20)
        forwarding.kill()
        assert b"declared: 8080" in forwarding.communicate(timeout=20)[1]


# -- the door itself ---------------------------------------------------------------------


def test_nobody_comes_in_but_the_api_server(lab: Lab, kube: Kube) -> None:
    (node,) = kube.request("GET", "/api/v1/nodes")["items"]
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    pki = lab.paths.pki

    def ask(path: str, certificate: str | None) -> tuple[int, str]:
        tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        if certificate:
            tls.load_cert_chain(pki / f"{certificate}.crt", pki / f"{certificate}.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        ask("/healthz", None)
    status, line = ask("/containerLogs/vault/vault-0/vault", "admin")
    assert (status, line.count("\n")) == (403, 0)
    assert "labkit-admin" in line
    assert ask("/healthz", "kube-apiserver-kubelet-client") == (200, "ok")
    status, line = ask("/metrics", "kube-apiserver-kubelet-client")
    assert (status, line) == (404, "labkit's node does not serve /metrics.")
