"""A lab in somebody else's cluster from its beginning to its end, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import urllib3

from labkit import course, programs, staging, workloads
from labkit import lab as labs
from labkit.checks import Scene
from labkit.foreign import Held, rights, stock
from labkit.kube import load_manifests
from labkit.paths import LabPaths, manifest
from real_cluster.conftest import Foreign, everything, identity

Run = Callable[..., subprocess.CompletedProcess[str]]


RBAC = "rbac.authorization.k8s.io"
PASS_ON = [
    rights.Right(verb, resource, RBAC)
    for verb in ("escalate", "bind")
    for resource in ("roles", "clusterroles")
]


def test_the_course_runs_there_and_nothing_of_it_stays(
    foreign: Foreign, here: Path, labkit: Run
) -> None:
    """As somebody with exactly the rights that are asked for."""
    with identity(foreign.kube, "guest", [*rights.needed(crds=True), *PASS_ON]) as token:
        _live(foreign, foreign.with_user("guest", token), labkit)


def _live(foreign: Foreign, kubeconfig: Path, labkit: Run) -> None:
    before = everything(foreign.kube)
    done = labkit("up", "--kubeconfig", kubeconfig, "--name", "guest", "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["ready"]
    assert status["cluster"]["server"] == foreign.kube.server
    lab = labs.attach("guest")
    assert isinstance(lab.api, Held)
    _is_the_stock_image(lab)
    _is_private(lab)
    _doors_work(lab)
    tour = json.loads(labkit("tour", "--name", "guest", "--json").stdout)
    evidence = {hop["name"]: hop["evidence"] for hop in tour["hops"]}
    assert evidence["secret-updated"] == "seen by a watch on the Secret"
    assert evidence["file-swapped"] == "the file's own time, as the app saw"
    assert all(hop["at"] for hop in tour["hops"])
    _goes_on_after_a_kill(lab, labkit)
    assert "lesson 07" in labkit("lesson", "7", "--name", "guest").stderr
    _play(labs.attach("guest"), 8)
    assert labkit("down", "--name", "guest").returncode == 0
    assert not LabPaths.of("guest").root.exists()
    assert set(everything(foreign.kube)) == set(before)


def _goes_on_after_a_kill(lab: labs.Lab, labkit: Run) -> None:
    token, pod = lab.paths.vault_token.read_text(), lab.app.pod()
    assert lab.record.supervisor is not None
    os.kill(lab.record.supervisor.pid, signal.SIGKILL)
    assert labkit("up", "--name", lab.name).returncode == 0
    after = labs.attach(lab.name).app.pod()
    assert lab.paths.vault_token.read_text() == token
    assert pod is not None
    assert after is not None
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]


def _play(lab: labs.Lab, number: int) -> None:
    lesson = course.find(number)
    scene: Scene = staging.begin(lab, lesson, progress=lambda line: None)
    for exercise in lesson.exercises:
        staging.solve(scene, lesson, exercise)
        report = exercise.check(scene)
        assert report.passed, str(report)


def _is_the_stock_image(lab: labs.Lab) -> None:
    pod = lab.app.pod()
    assert pod is not None
    assert pod["spec"]["containers"][0]["image"] == stock.STOCK
    made = lab.api.get("apps/v1", "Deployment", "gitops-secrets-deploy", "demo")
    assert made is not None
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == stock.IMAGE


def _is_private(lab: labs.Lab) -> None:
    for path in lab.paths.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def _doors_work(lab: labs.Lab) -> None:
    """Services by name, for whoever has the lab's credential, and nothing else."""
    env = {**os.environ, **{each.name: each.read() for each in lab.variables()}}
    token = lab.paths.vault_token.read_text()
    address = urllib3.util.parse_url(lab.paths.proxy_url.read_text())
    proxy = f"http://127.0.0.1:{address.port}"
    headers = urllib3.make_headers(proxy_basic_auth=address.auth or "")
    with urllib3.ProxyManager(proxy) as stranger:
        assert stranger.request("GET", "http://vault.vault:8200/v1/sys/health").status == 407
    with urllib3.ProxyManager(proxy, proxy_headers=headers) as known:
        assert known.request("GET", "http://example.com/").status == 403
        assert known.request("GET", "http://nothing.vault:8200/").status == 502
        asked = known.request(
            "LIST",
            "http://vault.vault:8200/v1/secret/metadata",
            headers={"Authorization": f"Bearer {token}"},  # which a service proxy would keep
        )
        assert asked.status == 200
    page = urllib3.request("GET", lab.app.url + "/api/credentials")
    assert page.json()["version"] == 1
    told = subprocess.run(
        ["bao", "kv", "get", "-mount=secret", "-field=username", "mysql_credentials"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "demo_user"


def test_what_was_there_is_used_and_stays(foreign: Foreign, here: Path, labkit: Run) -> None:
    """An ESO of the cluster's own, with a namespace that happens to have no name of ours."""
    crds = programs.resolve("external-secrets").assets / "crds" / "bundle.yaml"
    theirs = load_manifests(manifest("external-secrets/external-secrets.yaml"))
    kube = foreign.kube
    for obj in (*load_manifests(crds), *theirs):
        kube.apply(obj)
    kube.wait(
        kube.resource("apps/v1", "Deployment"),
        "external-secrets",
        "external-secrets",
        workloads.is_available,
        awaited="available",
        timeout=60,
    )
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bystander"}})
    before = everything(kube)
    done = labkit("up", "--kubeconfig", foreign.kubeconfig)
    assert done.returncode == 0, done.stderr
    own = {path for path in everything(kube) if path not in before}
    assert own
    assert not any("customresourcedefinitions" in path for path in own)
    _is_forgotten_on_demand_alone(foreign, labkit)
    again = labkit("up", "--kubeconfig", foreign.kubeconfig)
    assert "Another lab called lab is in this cluster" in again.stderr
    assert " made that one" in again.stderr
    # Another machine, which has nothing of the lab but a kubeconfig, takes it away.
    gone = labkit("down", "--kubeconfig", foreign.kubeconfig)
    assert gone.returncode == 0, gone.stderr
    after = everything(kube)
    assert set(after) == set(before)
    changed = {path for path in before if before[path] != after[path]}
    assert not {path for path in changed if "/external-secrets" in path and "/pods/" not in path}
    assert "not running" in labkit("down", "--kubeconfig", foreign.kubeconfig).stdout


def _is_forgotten_on_demand_alone(foreign: Foreign, labkit: Run) -> None:
    """Of a cluster that does not answer, nothing is lost by asking."""
    paths = LabPaths.of("lab")
    whole = paths.kubeconfig.read_text()
    paths.kubeconfig.write_text(whole.replace(foreign.kube.server, "https://127.0.0.1:1"))
    told = labkit("status").stdout
    assert "the cluster of the context labkit-foreign does not answer" in told
    assert "mends it" not in told
    said = labkit("down")
    assert said.returncode == 1
    assert "its cluster cannot be asked" in said.stderr
    assert "`labkit down --forget`" in said.stderr
    assert paths.vault_token.exists()
    assert labkit("down", "--forget").returncode == 0
    assert not paths.root.exists()


def test_the_course_makes_no_namespace_that_the_lab_would_not_know() -> None:
    """``held.NAMESPACES`` is all that the manifests of the lessons name."""
    from labkit.foreign.held import NAMESPACES

    made = {
        obj["metadata"]["name"]
        for folder in ("02-kubernetes-auth", "03-secret-stores", "04-external-secrets",
                       "05-application", "06-live-rotation", "08-behind-the-scenes")
        for obj in load_manifests(manifest(folder))
        if obj["kind"] == "Namespace"
    }  # fmt: skip
    assert made <= {*NAMESPACES}
