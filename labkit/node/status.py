"""Tell a pod's state as its ``status``: phase, conditions, one entry per container.

Pure: what is known of the containers goes in, the status object comes out.  The rules
are the kubelet's (pkg/kubelet ``getPhase``, ``convertToAPIContainerStatuses`` and
pkg/kubelet/status ``generate.go``), since kubectl and controllers rely on each detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.node.plan import (
    UNSEEN,
    Ending,
    Exit,
    Plan,
    Running,
    Seen,
    Waiting,
    should_restart,
)
from labkit.node.pod import Json, Pod, is_sidecar, parse_timestamp, timestamp

RUNTIME = "labkit"

_OURS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


@dataclass(frozen=True)
class Facts:
    """What a pod's status is made of, beside its spec."""

    seen: Mapping[str, Seen]
    plan: Plan
    now: float
    began_at: float
    host_ip: str
    ip: str | None = None  # None until its volumes are there and it has an address
    image_ids: Mapping[str, str] | None = None  # image -> what really runs for it


def pod_status(pod: Pod, facts: Facts, previous: Json) -> dict[str, Any]:
    """The status to publish; ``previous`` is the one published last (or the API's)."""
    terminal = facts.plan.winding_down and facts.plan.done
    init = [_container_status(pod, each, facts, init=True) for each in pod.init_containers]
    main = [_container_status(pod, each, facts) for each in pod.containers]
    phase = _phase(pod, init, main, facts, terminal=terminal)
    status: dict[str, Any] = {
        "phase": phase,
        "startTime": timestamp(facts.began_at),
        "hostIP": facts.host_ip,
        "hostIPs": [{"ip": facts.host_ip}],
        "containerStatuses": main,
        "observedGeneration": pod.generation,
    }
    if init:
        status["initContainerStatuses"] = init
    if facts.ip:
        status["podIP"] = facts.ip
        status["podIPs"] = [{"ip": facts.ip}]
    ending: Ending | None = facts.plan.ending if terminal else None
    if ending is not None:
        status |= {"phase": "Failed", "reason": ending.reason, "message": ending.message}
    elif phase == previous.get("phase"):
        status |= {key: previous[key] for key in ("reason", "message") if previous.get(key)}
    if pod.spec.get("ephemeralContainers"):
        status["ephemeralContainerStatuses"] = [
            _unsupported(each) for each in pod.spec["ephemeralContainers"]
        ]
    status["conditions"] = _conditions(pod, init, main, status["phase"], facts, previous)
    return status


def _unsupported(container: Json) -> dict[str, Any]:
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {
            "waiting": {
                "reason": "CreateContainerError",
                "message": "labkit's node runs no ephemeral containers: "
                "its containers share the machine's programs, so kubectl exec does the same.",
            }
        },
    }


def _container_status(
    pod: Pod, container: Json, facts: Facts, *, init: bool = False
) -> dict[str, Any]:
    name = container["name"]
    seen = facts.seen.get(name, UNSEEN)
    running = seen.running
    state, last = _state(pod, seen, facts, name)
    plain_init = init and not is_sidecar(container)
    if plain_init:
        ready = running is None and seen.exit is not None and seen.exit.code == 0
    else:
        ready = running is not None and running.started and running.ready
    run: Running | Exit | None = running or seen.exit
    status: dict[str, Any] = {
        "name": name,
        "image": container["image"],
        "imageID": (facts.image_ids or {}).get(container["image"], "") if run else "",
        "ready": ready,
        "started": running is not None
        and (running.started or (init and not is_sidecar(container))),
        "restartCount": seen.restarts,
        "state": state,
        "lastState": last,
    }
    if run is not None:
        status["containerID"] = f"{RUNTIME}://{run.id}"
    if container.get("volumeMounts"):
        status["volumeMounts"] = [_mount_status(each) for each in container["volumeMounts"]]
    resources = container.get("resources")
    if resources:
        status["resources"] = {
            key: resources[key] for key in ("limits", "requests") if resources.get(key)
        }
        if resources.get("requests"):
            status["allocatedResources"] = resources["requests"]
    return status


def _mount_status(mount: Json) -> dict[str, Any]:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def _state(pod: Pod, seen: Seen, facts: Facts, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``state`` and ``lastState``."""
    if seen.running is not None:
        return {"running": {"startedAt": timestamp(seen.running.started_at)}}, _terminated(
            seen.exit
        )
    waiting = facts.plan.waiting.get(name)
    if waiting is None and not facts.plan.winding_down:
        waiting = seen.failed
    if waiting is not None:
        return _waiting(waiting), _terminated(seen.exit)
    if seen.exit is not None:
        return _terminated(seen.exit), _terminated(seen.before)
    if seen.failed is not None:
        return _waiting(seen.failed), {}
    reason = "PodInitializing" if pod.init_containers else "ContainerCreating"
    return _waiting(Waiting(reason)), {}


def _waiting(waiting: Waiting) -> dict[str, Any]:
    message = {"message": waiting.message} if waiting.message else {}
    return {"waiting": {"reason": waiting.reason, **message}}


def _terminated(how: Exit | None) -> dict[str, Any]:
    if how is None:
        return {}
    return {
        "terminated": {
            "exitCode": how.code,
            "reason": how.reason,
            **({"message": how.message} if how.message else {}),
            "startedAt": timestamp(how.started_at),
            "finishedAt": timestamp(how.finished_at),
            "containerID": f"{RUNTIME}://{how.id}",
        }
    }


def _last_exit(status: Json) -> int | None:
    """The exit code of a container that has ended and is not running again; else None."""
    ended = status["state"].get("terminated")
    if ended is None and "waiting" in status["state"]:
        ended = status["lastState"].get("terminated")
    return None if ended is None else int(ended["exitCode"])


def _phase(
    pod: Pod,
    init: list[dict[str, Any]],
    main: list[dict[str, Any]],
    facts: Facts,
    *,
    terminal: bool,
) -> str:
    if pod.finished:
        return str(pod.status["phase"])
    initialized = any(facts.seen.get(each["name"], UNSEEN).ran for each in pod.containers)
    pending = running = waiting = 0
    for container, status in zip(pod.init_containers, init, strict=True):
        code = _last_exit(status)
        if is_sidecar(container):
            if "running" in status["state"]:
                running += 1
                pending += 0 if status["started"] or initialized else 1
            elif code is None:
                waiting += 1
        elif code is None:
            pending += 1
        elif code != 0 and not should_restart(pod, container, code):
            return "Failed"
    codes = []
    restarting = False
    for container, status in zip(pod.containers, main, strict=True):
        code = _last_exit(status)
        if "running" in status["state"]:
            running += 1
        elif code is None:
            waiting += 1
        else:
            codes.append(code)
            restarting = restarting or should_restart(pod, container, code)
    if pending or waiting:
        return "Pending"
    if running or (restarting and not terminal):
        return "Running"
    return "Failed" if any(codes) else "Succeeded"


def _conditions(
    pod: Pod,
    init: list[dict[str, Any]],
    main: list[dict[str, Any]],
    phase: str,
    facts: Facts,
    previous: Json,
) -> list[dict[str, Any]]:
    """The node's own five conditions.  Others' are kept by the strategic merge patch."""
    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    sidecars = [
        status
        for container, status in zip(pod.init_containers, init, strict=True)
        if is_sidecar(container)
    ]
    unready = [each["name"] for each in (*sidecars, *main) if not each["ready"]]
    if done:
        containers_ready = ("False", done, "")
    elif unready:
        containers_ready = (
            "False",
            "ContainersNotReady",
            f"containers with unready status: {_go_list(unready)}",
        )
    else:
        containers_ready = ("True", "", "")
    ready = containers_ready
    if ready[0] == "True" and (missing := _closed_gates(pod)):
        ready = ("False", "ReadinessGatesNotReady", ", ".join(missing))
    incomplete = [
        status["name"]
        for container, status in zip(pod.init_containers, init, strict=True)
        if not (status["started"] if is_sidecar(container) else status["ready"])
    ]
    if phase == "Succeeded":
        initialized = ("True", "PodCompleted", "")
    elif incomplete and not any(facts.seen.get(c["name"], UNSEEN).ran for c in pod.containers):
        initialized = (
            "False",
            "ContainersNotInitialized",
            f"containers with incomplete status: {_go_list(incomplete)}",
        )
    else:
        initialized = ("True", "", "")
    # Nothing runs any more: the kubelet has taken the pod's sandbox away by then.
    sandbox = "True" if facts.ip and not facts.plan.done else "False"
    told = {
        "PodReadyToStartContainers": (sandbox, "", ""),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": ("True", "", ""),
    }
    before = {each["type"]: each for each in previous.get("conditions") or ()}
    return [_condition(kind, *told[kind], pod, before.get(kind), facts.now) for kind in _OURS]


def _condition(
    kind: str,
    status: str,
    reason: str,
    message: str,
    pod: Pod,
    before: Json | None,
    now: float,
) -> dict[str, Any]:
    same = before is not None and before["status"] == status
    since = (before or {}).get("lastTransitionTime") if same else None
    return {
        "type": kind,
        "status": status,
        # Null takes an older reason away: a merge patch leaves out what it does not name.
        "reason": reason or None,
        "message": message or None,
        "lastTransitionTime": since or timestamp(now),
        "lastProbeTime": None,
        "observedGeneration": pod.generation,
    }


def _closed_gates(pod: Pod) -> list[str]:
    conditions = {each["type"]: each["status"] for each in pod.status.get("conditions") or ()}
    messages = []
    for gate in pod.spec.get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in conditions:
            messages.append(
                f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            )
        elif conditions[kind] != "True":
            messages.append(
                f'the status of pod readiness gate "{kind}" is not "True", but {conditions[kind]}'
            )
    return messages


def _go_list(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"


def seen_from_status(pod: Pod, now: float) -> dict[str, Seen]:
    """What the API remembers of the containers of an earlier node agent.

    Their processes ended with that agent, so a container that was running is told as
    ended: it is begun again with its restart count one higher, as after a node's reboot.
    """
    statuses = [
        *(pod.status.get("initContainerStatuses") or ()),
        *(pod.status.get("containerStatuses") or ()),
    ]
    found = {}
    for status in statuses:
        last = status.get("lastState", {}).get("terminated")
        state = status.get("state") or {}
        exit_ = before = None
        if "terminated" in state:
            exit_, before = _read_exit(state["terminated"]), _read_exit(last)
        elif "running" in state:
            began = parse_timestamp(state["running"]["startedAt"])
            container_id = str(status.get("containerID", "")).removeprefix(f"{RUNTIME}://")
            exit_ = Exit(
                137,
                "ContainerStatusUnknown",
                began,
                now,
                container_id,
                "The container ended with the lab that ran it.",
            )
            before = _read_exit(last)
        elif last:
            exit_ = _read_exit(last)
        found[status["name"]] = Seen(
            restarts=int(status.get("restartCount") or 0), exit=exit_, before=before
        )
    return found


def _read_exit(ended: Json | None) -> Exit | None:
    if not ended:
        return None
    return Exit(
        int(ended["exitCode"]),
        str(ended.get("reason") or ""),
        parse_timestamp(ended["startedAt"]) if ended.get("startedAt") else 0.0,
        parse_timestamp(ended["finishedAt"]) if ended.get("finishedAt") else 0.0,
        str(ended.get("containerID", "")).removeprefix(f"{RUNTIME}://"),
        str(ended.get("message") or ""),
    )
