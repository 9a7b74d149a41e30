"""The command line as a user meets it: real processes, real lab, real refusals."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from labkit import vault
from labkit.journey import HOPS
from labkit.lab import Lab

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = ("--name", "test")


def shell(text: str, lab: Lab) -> subprocess.CompletedProcess[str]:
    """A terminal that has entered the lab as the README says."""
    enter = "\n".join(variable.export() for variable in lab.variables())
    return subprocess.run(
        ["sh", "-ec", f"{enter}\n{text}"], capture_output=True, text=True, timeout=60, check=False
    )


def test_status_keeps_its_contract(lab: Lab, labkit: Run) -> None:
    found = json.loads(labkit("status", *NAME, "--json").stdout)
    assert found["name"] == "test"
    assert found["ready"] is True
    assert Path(found["kubeconfig"]).is_file()
    assert found["vault"]["address"] == "http://vault.vault:8200"
    assert found["vault"]["version"]
    assert found["app"]["url"].startswith("http://127.0.0.1:")
    names = {program["name"] for program in found["programs"]}
    assert {"etcd", "kube-apiserver", "kube-controller-manager"} <= names
    for program in found["programs"]:
        assert set(program) >= {"name", "version", "pid", "rss_bytes"}
        assert psutil.pid_exists(program["pid"])
        assert program["rss_bytes"] > 1_000_000


def test_up_twice_changes_nothing(lab: Lab, labkit: Run) -> None:
    before = lab.status()
    again = labkit("up", *NAME, "--json")
    assert again.returncode == 0, again.stderr
    pids = [program["pid"] for program in json.loads(again.stdout)["programs"]]
    assert pids == [program["pid"] for program in before["programs"]]


def test_the_tour_shows_six_ordered_hops_and_no_restart(lab: Lab, labkit: Run) -> None:
    done = labkit("tour", *NAME, "--json")
    assert done.returncode == 0, done.stderr
    tour = json.loads(done.stdout)
    assert [hop["name"] for hop in tour["hops"]] == list(HOPS)
    seconds = [hop["seconds"] for hop in tour["hops"]]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0.0
    assert tour["pod_restarts"] == 0
    assert tour["same_pod"] is True
    written = vault.read(lab.vault)
    assert written is not None
    assert written["password"] not in done.stdout + done.stderr


def test_the_tour_in_words(lab: Lab, labkit: Run) -> None:
    done = labkit("tour", *NAME)
    assert done.returncode == 0, done.stderr
    for hop in HOPS:
        assert hop in done.stdout
    assert "same pod, 0 restarts" in done.stdout


def test_kubectl_lists_every_workload_and_reads_its_log(lab: Lab) -> None:
    listed = shell("kubectl get pods -A --no-headers", lab)
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()]
    ours = [row for row in rows if row[0] in {"vault", "external-secrets", "demo"}]
    assert {row[0] for row in ours} == {"vault", "external-secrets", "demo"}
    assert all(row[2] == "1/1" and row[3] == "Running" for row in ours), listed.stdout
    for row in ours:
        log = shell(f"kubectl -n {row[0]} logs {row[1]}", lab)
        assert log.returncode == 0, log.stderr
        assert log.stdout


def test_service_names_work_verbatim_in_a_terminal(lab: Lab) -> None:
    done = shell(
        "bao kv get -mount=secret -field=username mysql_credentials\n"
        "curl -sS --max-time 10 http://vault.vault:8200/v1/sys/health\n"
        "curl -sS --max-time 10 http://gitops-secrets-service.demo:8080/health/ready",
        lab,
    )
    assert done.returncode == 0, done.stderr
    assert "demo_user" in done.stdout
    assert '"sealed":false' in done.stdout


def test_env_prints_no_secret(lab: Lab, labkit: Run) -> None:
    done = labkit("env", *NAME)
    assert "export KUBECONFIG=" in done.stdout
    for file in (lab.paths.vault_token, lab.paths.proxy_url, lab.paths.vault_unseal_key):
        assert file.read_text().strip() not in done.stdout


def test_what_is_outside_the_cluster_is_refused(lab: Lab) -> None:
    done = shell("curl -sS --max-time 10 -o - -w '%{http_code}' http://192.0.2.1/", lab)
    assert done.stdout.endswith("403"), done.stdout + done.stderr


def test_a_caller_without_the_credential_is_refused(lab: Lab) -> None:
    url = lab.paths.proxy_url.read_text().strip()
    bare = "http://127.0.0.1:" + url.rpartition(":")[2].rstrip("/")
    done = subprocess.run(
        ["curl", "-sS", "-o", "-", "-w", "%{http_code}", "-x", bare, "http://vault.vault:8200/"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stdout.endswith("407"), done.stdout + done.stderr


def test_everything_secret_is_0600_and_in_no_argv(lab: Lab) -> None:
    for path in lab.paths.root.rglob("*"):
        mode = path.lstat().st_mode
        # Below node/ files have the modes that pods ask for; nobody else gets there.
        if stat.S_ISREG(mode) and lab.paths.node not in path.parents:
            assert mode & 0o077 == 0, f"{path} is {stat.filemode(mode)}"
    for folder in (lab.paths.root, lab.paths.node):
        assert folder.stat().st_mode & 0o077 == 0
    hidden = [
        file.read_text().strip() for file in (lab.paths.vault_token, lab.paths.vault_unseal_key)
    ] + [lab.paths.proxy_url.read_text().partition("lab:")[2].partition("@")[0]]
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        assert not any(secret in line for secret in hidden), process
    for log in lab.paths.logs.rglob("*"):
        if log.is_file():
            text = log.read_text(errors="replace")
            assert not any(secret in text for secret in hidden), log


def test_every_listener_is_on_loopback(lab: Lab) -> None:
    guardian = psutil.Process(lab.record.guardian.pid)
    processes = [guardian, *guardian.children(recursive=True)]
    listening = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}, listening


def test_logs_by_name(lab: Lab, labkit: Run) -> None:
    names = labkit("logs", *NAME).stdout.split()
    assert {"etcd", "kube-apiserver", "vault", "external-secrets", "app"} <= set(names)
    assert "OpenBao server" in labkit("logs", "vault", *NAME, "--lines", "5000").stdout
    unknown = labkit("logs", "wombat", *NAME)
    assert unknown.returncode == 1
    assert "Choose from:" in unknown.stderr
    assert labkit("logs", "../lab", *NAME).returncode == 1


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "../x", "x" * 33, "lab;rm", "-x", "läb"])
def test_odd_names_are_refused(labkit: Run, name: str) -> None:
    done = labkit("up", f"--name={name}")
    assert done.returncode == 1, done.stdout
    assert "1 to 32 lower-case letters" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lab_that_is_not_there(labkit: Run) -> None:
    for words in (["tour"], ["reset"], ["env"], ["logs", "vault"]):
        done = labkit(*words, "--name", "nobody")
        assert done.returncode == 1
        assert "No lab called nobody is running" in done.stderr
        assert "labkit up --name nobody" in done.stderr
    assert labkit("down", "--name", "nobody").returncode == 0
    found = labkit("status", "--name", "nobody", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["ready"] is False


def test_wrong_words_are_refused(labkit: Run, lab: Lab) -> None:
    assert labkit("wombat").returncode == 2
    other = labkit("up", *NAME, "--vault", "wombat")
    assert other.returncode == 1
    assert "openbao, hashicorp" in other.stderr
    sync = labkit("up", *NAME, "--sync", "sometimes")
    assert sync.returncode in {1, 2}
    assert "Traceback" not in sync.stderr


def test_help_lists_every_verb(labkit: Run) -> None:
    text = labkit("--help").stdout
    for verb in ("up", "down", "status", "tour", "reset", "env", "programs", "doctor", "logs"):
        assert f" {verb} " in text
