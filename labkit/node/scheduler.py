"""Give pods to the one node, as the scheduler of a cluster does.

The only question is whether the node fits: nodeSelector, required node affinity, taints,
and whether it is cordoned.  Requests for CPU and memory are not weighed: the lab's node
promises nothing that it would have to enforce.  A pod that does not fit gets the
condition and the event that a learner would see on any cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

from labkit.errors import ApiError, ClusterError
from labkit.node.api import STRATEGIC_PATCH, Api, Object, Reflector
from labkit.node.events import EventRecorder
from labkit.node.pod import Json, Pod, timestamp

log = logging.getLogger(__name__)

_CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class Scheduler:
    """Binds pods that have no node yet to ``node_name``."""

    def __init__(self, api: Api, node_name: str) -> None:
        self._api = api
        self._node_name = node_name
        self._node: Object | None = None
        self._pending: dict[str, Pod] = {}
        self._told: dict[str, str] = {}
        self._work: asyncio.Queue[str] = asyncio.Queue()
        self._events = EventRecorder(api, component="default-scheduler")
        self._pods = Reflector(
            api,
            "/api/v1/pods",
            self._on_pod,
            params={"fieldSelector": "spec.nodeName="},
        )
        self._nodes = Reflector(
            api,
            "/api/v1/nodes",
            self._on_node,
            params={"fieldSelector": f"metadata.name={node_name}"},
        )

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self._nodes.run(), self._pods.run(), self._events.run(), self._bind_all()):
                tasks.create_task(each)

    def _on_pod(self, kind: str, item: Object) -> None:
        uid = str(item["metadata"]["uid"])
        if kind == "DELETED":  # or bound: it then leaves the watched selection
            self._pending.pop(uid, None)
            self._told.pop(uid, None)
            return
        self._pending[uid] = Pod(item)
        self._work.put_nowait(uid)

    def _on_node(self, kind: str, item: Object) -> None:
        before, self._node = self._node, None if kind == "DELETED" else item
        if self._node is None or (before is not None and _view(before) == _view(self._node)):
            return
        for uid in self._pending:
            self._work.put_nowait(uid)

    async def _bind_all(self) -> None:
        while True:
            pod = self._pending.get(await self._work.get())
            if pod is None or self._node is None or not _is_ours(pod):
                continue
            try:
                why = misfit(pod, self._node)
                if why:
                    await self._refuse(pod, why)
                else:
                    await self._bind(pod)
            except ApiError as error:
                if error.status not in (404, 409):  # gone or bound meanwhile
                    log.warning("binding %s failed: %s", pod.text, error)
                    self._retry(pod.uid)
            except ClusterError as error:
                log.info("%s", error)
                self._retry(pod.uid)

    def _retry(self, uid: str) -> None:
        asyncio.get_running_loop().call_later(1.0, self._work.put_nowait, uid)

    async def _bind(self, pod: Pod) -> None:
        await self._api.create(
            f"{pod.path}/binding",
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": self._node_name},
            },
        )
        self._pending.pop(pod.uid, None)
        self._events.pod(
            pod,
            "Scheduled",
            f"Successfully assigned {pod.namespace}/{pod.name} to {self._node_name}",
        )

    async def _refuse(self, pod: Pod, why: str) -> None:
        if self._told.get(pod.uid) == why:
            return
        message = f"0/1 nodes are available: 1 {why}."
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "observedGeneration": pod.generation,
        }
        if pod.uid not in self._told:
            condition["lastTransitionTime"] = timestamp(time.time())
        await self._api.patch(
            f"{pod.path}/status",
            {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}},
            content_type=STRATEGIC_PATCH,
        )
        self._told[pod.uid] = why
        self._events.pod(pod, "FailedScheduling", message, warning=True)


def _is_ours(pod: Pod) -> bool:
    return (
        not pod.deleting
        and not pod.spec.get("schedulingGates")
        and pod.spec.get("schedulerName", "default-scheduler") == "default-scheduler"
    )


def _view(node: Json) -> tuple[object, ...]:
    """What of a node decides whether a pod fits."""
    spec = node.get("spec") or {}
    return node["metadata"].get("labels"), spec.get("taints"), spec.get("unschedulable")


def misfit(pod: Pod, node: Json) -> str:
    """Why the node is not for this pod, in the scheduler's words; "" when it is."""
    spec = node.get("spec") or {}
    tolerations = pod.spec.get("tolerations") or ()
    if spec.get("unschedulable") and not _tolerated(_CORDONED, tolerations):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(
            taint, tolerations
        ):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    selector = pod.spec.get("nodeSelector") or {}
    affinity = (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if any(labels.get(key) != value for key, value in selector.items()) or (
        required and not any(_term(term, node) for term in required.get("nodeSelectorTerms") or ())
    ):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerated(taint: Json, tolerations: Iterable[Json]) -> bool:
    for each in tolerations:
        if each.get("effect") not in (None, "", taint["effect"]):
            continue
        if each.get("operator", "Equal") == "Exists":
            if each.get("key") in (None, "", taint["key"]):
                return True
        elif each.get("key") == taint["key"] and each.get("value", "") == taint.get("value", ""):
            return True
    return False


def _term(term: Json, node: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    expressions = term.get("matchExpressions") or ()
    on_fields = term.get("matchFields") or ()
    if not expressions and not on_fields:
        return False
    return all(_matches(each, labels) for each in expressions) and all(
        _matches(each, fields) for each in on_fields
    )


def _matches(expression: Json, values: Mapping[str, str]) -> bool:
    found = values.get(expression["key"])
    wanted = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return found in wanted
        case "NotIn":
            return found not in wanted
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator:
            with contextlib.suppress(TypeError, ValueError):
                difference = int(found or "") - int(next(iter(wanted), ""))
                return difference > 0 if operator == "Gt" else difference < 0
    return False
