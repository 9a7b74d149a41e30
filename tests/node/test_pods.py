"""What the node does for a pod, seen through the real API alone."""

from __future__ import annotations

import base64
import functools
import json

import harness
from pods import (
    WRITE_FOREVER,
    events,
    log,
    phase,
    pod,
    restarts,
    secret,
    secret_volume,
    state,
    wait_pod,
    waiting_reason,
)

from labkit.kube import Kube, Object
from labkit.lab import Lab

until = functools.partial(harness.until, timeout=20.0)

MOUNTED = [{"name": "files", "mountPath": "/secrets"}]


def swaps(lab: Lab, uid: str) -> list[Object]:
    """The node's own account of a pod's volumes."""
    entries = [json.loads(line) for line in lab.paths.journal.read_text().splitlines()]
    return [e for e in entries if e["event"] == "volume-swapped" and e["uid"] == uid]


def test_a_changed_secret_reaches_the_file_and_neither_variable_nor_sub_path(
    lab: Lab, kube: Kube, namespace: str
) -> None:
    kube.apply(secret("s", word="first"), namespace=namespace)
    script = (
        'while true; do echo "file=$(cat /secrets/word) sub=$(cat /sub/word) env=$WORD";'
        " sleep 0.05; done"
    )
    kube.apply(
        pod(
            "p",
            script,
            env=[{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}}],
            volumeMounts=[
                *MOUNTED,
                {"name": "files", "mountPath": "/sub/word", "subPath": "word"},
            ],
            volumes=[secret_volume("s")],
        ),
        namespace=namespace,
    )
    running = wait_pod(kube, namespace, "p", phase("Running"), "Running")
    until(lambda: "file=first sub=first env=first" in log(kube, namespace, "p"), "the first value")
    kube.apply(secret("s", word="second"), namespace=namespace)
    until(lambda: "file=second sub=first env=first" in log(kube, namespace, "p"), "the new file")
    after = wait_pod(kube, namespace, "p", phase("Running"), "Running")
    assert restarts(after) == 0
    found = [swap for swap in swaps(lab, running["metadata"]["uid"]) if swap["volume"] == "files"]
    assert [swap["first"] for swap in found] == [True, False]
    assert "second" not in json.dumps(found), "the journal holds no value"


def test_the_pods_token_is_mounted_and_good(kube: Kube, namespace: str) -> None:
    kube.apply(
        pod("p", 'cat "/var/run/secrets/kubernetes.io/serviceaccount/token"', restartPolicy="Never")
        | {},
        namespace=namespace,
    )
    done = wait_pod(kube, namespace, "p", phase("Succeeded"), "Succeeded")
    token = log(kube, namespace, "p")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["kubernetes.io"]["pod"]["name"] == "p"
    review = kube.request(
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        body={
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        },
    )
    assert review["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert state(done)["terminated"]["reason"] == "Completed"


def test_a_crashing_container_backs_off_and_keeps_its_last_words(
    kube: Kube, namespace: str
) -> None:
    kube.apply(pod("p", "echo run; echo last words; exit 3"), namespace=namespace)
    seen = wait_pod(
        kube,
        namespace,
        "p",
        lambda seen: waiting_reason(seen) == "CrashLoopBackOff",
        "in CrashLoopBackOff",
    )
    assert restarts(seen) >= 1
    last = seen["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    assert "last words" in log(kube, namespace, "p", previous="true")
    until(
        lambda: "BackOff: Back-off restarting failed container" in events(kube, namespace, "p"),
        "the event",
    )


def test_an_unknown_image_is_told_plainly(kube: Kube, namespace: str) -> None:
    body = pod("p")
    body["spec"]["containers"][0]["image"] = "ghcr.io/nobody/nothing:1"
    kube.apply(body, namespace=namespace)
    seen = wait_pod(
        kube, namespace, "p", lambda seen: waiting_reason(seen) == "ErrImagePull", "refused"
    )
    message = state(seen)["waiting"]["message"]
    assert 'image "ghcr.io/nobody/nothing:1" has no local program; known: ' in message
    assert "quay.io/openbao/openbao" in message


def test_a_missing_secret_is_waited_for(kube: Kube, namespace: str) -> None:
    kube.apply(
        pod("p", WRITE_FOREVER, volumeMounts=MOUNTED, volumes=[secret_volume("late")]),
        namespace=namespace,
    )
    kube.apply(
        pod(
            "q",
            "echo $WORD",
            restartPolicy="Never",
            env=[{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "late", "key": "word"}}}],
        ),
        namespace=namespace,
    )
    until(
        lambda: 'secret "late" not found' in events(kube, namespace, "p"),
        "FailedMount names the Secret",
    )
    wait_pod(
        kube,
        namespace,
        "q",
        lambda seen: waiting_reason(seen) == "CreateContainerConfigError",
        "in CreateContainerConfigError",
    )
    kube.apply(secret("late", word="there"), namespace=namespace)
    wait_pod(kube, namespace, "p", phase("Running"), "Running")
    wait_pod(kube, namespace, "q", phase("Succeeded"), "Succeeded")
    assert log(kube, namespace, "q") == "there\n"


def test_init_containers_run_first_and_in_order(kube: Kube, namespace: str) -> None:
    share = [{"name": "work", "mountPath": "/work"}]

    def init(name: str) -> Object:
        return {
            "name": name,
            "image": "busybox",
            "command": ["sh", "-c", f"echo {name} >> /work/order"],
            "volumeMounts": share,
        }

    kube.apply(
        pod(
            "p",
            "cat /work/order",
            restartPolicy="Never",
            volumeMounts=share,
            initContainers=[init("one"), init("two")],
            volumes=[{"name": "work", "emptyDir": {}}],
        ),
        namespace=namespace,
    )
    wait_pod(kube, namespace, "p", phase("Succeeded"), "Succeeded")
    assert log(kube, namespace, "p") == "one\ntwo\n"


def test_readiness_takes_a_pod_in_and_out_of_its_service(kube: Kube, namespace: str) -> None:
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "p"}, "ports": [{"port": 80, "targetPort": 8000}]},
        },
        namespace=namespace,
    )
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "state"},
            "data": {"ready": "yes"},
        },
        namespace=namespace,
    )
    body = pod(
        "p",
        "cd /state && exec python3 -m http.server --bind 127.0.0.1 $PORT",
        ports=[{"containerPort": 8000}],
        readinessProbe={
            "httpGet": {"path": "/ready", "port": 8000},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
        volumes=[{"name": "state", "configMap": {"name": "state"}}],
    )
    body["spec"]["containers"][0]["image"] = "python:3"
    kube.apply(body, namespace=namespace)

    def ready_endpoints() -> int:
        slices = kube.list(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            namespace,
            labels="kubernetes.io/service-name=web",
        )
        return sum(
            bool(end["conditions"].get("ready")) for s in slices for end in s.get("endpoints") or []
        )

    until(lambda: ready_endpoints() == 1, "the pod is in the Service")
    assert kube.service("GET", namespace, "web", "80", "/ready") == b"yes"
    kube.patch("v1", "ConfigMap", "state", {"data": {"ready": None, "other": "x"}}, namespace)
    until(lambda: ready_endpoints() == 0, "the pod is out of the Service")
    kube.patch("v1", "ConfigMap", "state", {"data": {"ready": "again"}}, namespace)
    until(lambda: ready_endpoints() == 1, "the pod is back in the Service")
    assert kube.service("GET", namespace, "web", "80", "/ready") == b"again"


def test_a_failed_liveness_probe_restarts_the_container(kube: Kube, namespace: str) -> None:
    kube.apply(
        pod(
            "p",
            "touch /tmp/well; sleep 0.3; rm /tmp/well; sleep 1000",
            livenessProbe={
                "exec": {"command": ["cat", "/tmp/well"]},
                "periodSeconds": 1,
                "failureThreshold": 1,
            },
        ),
        namespace=namespace,
    )
    wait_pod(kube, namespace, "p", lambda seen: restarts(seen) >= 1, "restarted")
    assert "Liveness probe failed" in events(kube, namespace, "p")


def test_termination_is_graceful(kube: Kube, namespace: str) -> None:
    kube.apply(
        pod(
            "p",
            'trap "echo goodbye > /shared/word; exit 0" TERM; echo up; '
            "while true; do sleep 0.05; done",
            terminationGracePeriodSeconds=20,
            volumeMounts=[{"name": "kept", "mountPath": "/shared"}],
            volumes=[{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}],
        ),
        namespace=namespace,
    )
    until(lambda: _log_or_nothing(kube, namespace, "p") == "up\n", "the program is up")
    kube.delete("v1", "Pod", "p", namespace)
    kube.wait(
        kube.resource("v1", "Pod"),
        "p",
        namespace,
        lambda seen: seen is None,
        awaited="deleted",
        timeout=20,
    )
    kube.apply(
        pod(
            "after",
            "cat /shared/word",
            restartPolicy="Never",
            volumeMounts=[{"name": "kept", "mountPath": "/shared"}],
            volumes=[{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}],
        ),
        namespace=namespace,
    )
    wait_pod(kube, namespace, "after", phase("Succeeded"), "Succeeded")
    assert log(kube, namespace, "after") == "goodbye\n"


def _log_or_nothing(kube: Kube, namespace: str, name: str) -> str:
    wait_pod(kube, namespace, name, phase("Running"), "Running")
    return log(kube, namespace, name)


def test_a_container_sees_nothing_of_the_labs_own_state(
    lab: Lab, kube: Kube, namespace: str
) -> None:
    root = lab.paths.root
    kube.apply(
        pod("p", f"cat {lab.paths.vault_token} || ls {root}", restartPolicy="Never"),
        namespace=namespace,
    )
    ended = wait_pod(
        kube,
        namespace,
        "p",
        lambda seen: (seen.get("status") or {}).get("phase") in {"Succeeded", "Failed"},
        "ended",
    )
    if lab.record.mode == "mounts":
        assert ended["status"]["phase"] == "Failed"
    assert lab.paths.vault_token.read_text() not in log(kube, namespace, "p") or (
        lab.record.mode == "rewrite"
    )
