"""Make the lab's node known to the API and keep it alive there.

A Node object with its status, and a lease that is renewed as the kubelet does it.  The
node says the truth about the machine (cores, memory) but calls itself Linux everywhere,
because that is what the node selectors of ordinary manifests ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from labkit.errors import ApiError, ClusterError
from labkit.node.addresses import NODE_IP
from labkit.node.api import STRATEGIC_PATCH, Api, Object
from labkit.node.pod import micro_timestamp, timestamp

log = logging.getLogger(__name__)

_LEASE_SECONDS = 40
_RENEW_EVERY = 10.0
_STATUS_EVERY = 300.0
_MAX_PODS = 250

_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}


def machine_resources() -> dict[str, str]:
    """What this machine has, as quantities of the Node object."""
    pages, size = 0, 0
    with contextlib.suppress(ValueError, OSError):
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return {
        "cpu": str(cores),
        "memory": f"{pages * size // 1024 or 4 * 1024 * 1024}Ki",
        "ephemeral-storage": "10Gi",
        "pods": str(_MAX_PODS),
    }


class Registration:
    """The Node object ``name`` and its lease."""

    def __init__(self, api: Api, name: str, *, version: str, kubelet_port: int | None) -> None:
        self._api = api
        self._name = name
        self._version = version
        self._port = kubelet_port
        self._path = f"/api/v1/nodes/{name}"
        self.resources = machine_resources()
        self.uid = name

    async def register(self) -> bool:
        """Create the node or bring its status up to date.  True when it is new."""
        labels = {
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": _architecture(),
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": _architecture(),
        }
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._name, "labels": labels},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
            "status": self._status(),
        }
        new = True
        try:
            node = await self._api.create("/api/v1/nodes", body)
        except ApiError as error:
            if error.status != 409:
                raise
            new = False
            node = await self._patch_status()
        self.uid = str(node["metadata"]["uid"])
        # Renewed, it shows the node alive; kubectl reads conditions, controllers the lease.
        await self._renew()
        return new

    async def run(self) -> None:
        """Renew the lease and, rarely, the status, until cancelled."""
        told = time.monotonic()
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            try:
                await self._renew()
                if time.monotonic() - told > _STATUS_EVERY:
                    await self._patch_status()
                    told = time.monotonic()
            except ClusterError as error:
                log.info("%s", error)

    async def _patch_status(self) -> Object:
        return await self._api.patch(
            f"{self._path}/status", {"status": self._status()}, content_type=STRATEGIC_PATCH
        )

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": micro_timestamp(time.time()),
        }
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        try:
            await self._api.patch(f"{leases}/{self._name}", {"spec": spec})
        except ApiError as error:
            if error.status != 404:
                raise
            owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._name,
                "uid": self.uid,
            }
            metadata = {"name": self._name, "ownerReferences": [owner]}
            with contextlib.suppress(ApiError):  # its namespace is made moments after the start
                await self._api.create(
                    leases,
                    {
                        "apiVersion": "coordination.k8s.io/v1",
                        "kind": "Lease",
                        "metadata": metadata,
                        "spec": spec,
                    },
                )

    def _status(self) -> dict[str, Any]:
        now = timestamp(time.time())
        well = {
            "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory"),
            "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        }
        conditions = [
            _condition(kind, "False", reason, message, now)
            for kind, (reason, message) in well.items()
        ]
        conditions.append(
            _condition(
                "Ready", "True", "KubeletReady", "labkit's node runs pods as local programs", now
            )
        )
        status: dict[str, Any] = {
            "capacity": self.resources,
            "allocatable": self.resources,
            "conditions": conditions,
            # The API server dials the Hostname first, then the InternalIP; both lead to
            # the kubelet's port through the cluster network.
            "addresses": [
                {"type": "Hostname", "address": self._name},
                {"type": "InternalIP", "address": NODE_IP},
            ],
            "nodeInfo": self._info(),
            # Lets kubectl exec come over a plain websocket (KEP-4006).
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
        }
        if self._port is not None:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": self._port}}
        return status

    def _info(self) -> Mapping[str, str]:
        return {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": platform.release(),
            "osImage": f"labkit ({platform.system()})",
            "containerRuntimeVersion": "labkit://0.1.0",
            "kubeletVersion": self._version,
            "kubeProxyVersion": self._version,
            "operatingSystem": "linux",
            "architecture": _architecture(),
        }


def _condition(kind: str, status: str, reason: str, message: str, now: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)
