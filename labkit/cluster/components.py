"""The three control-plane programs as data: what each runs with, needs and answers.

Nothing is started here.  ``controlplane`` turns a component into a child process; the
start order follows from ``needs`` and the stop order is its reverse.  Every listener is
on loopback or a unix socket in a folder of the user's own.

Figures in the comments: median of five starts on 2 cores, with the golden snapshot;
memory is PSS ten seconds after the node was ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labkit.cluster.certs import KeyPair, TokenKey

SERVICE_CIDR = "10.96.0.0/16"
TOKEN_ISSUER = "https://kubernetes.default.svc.cluster.local"
SERVER_HOSTS = (
    "localhost",
    "127.0.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
)
"""What the API server's certificate is for; the last is the Service's own address."""


ETCD_MEMBER = (
    "--name=lab",
    # A lone member never dials itself, but the flags want a host and a port.
    "--initial-cluster=lab=http://127.0.0.1:1",
    "--initial-advertise-peer-urls=http://127.0.0.1:1",
)
"""Who the only member is; a golden snapshot is made for the same one."""


class ProgramFile(Protocol):
    """What is needed of ``labkit.programs.Program``."""

    @property
    def version(self) -> str: ...
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Health:
    """Where a component says that it is ready: ``path`` on a unix socket or a TLS port."""

    path: str
    socket: Path | None = None
    port: int = 0


@dataclass(frozen=True)
class Component:
    """One program of the control plane.

    ``needs`` names components that must be ready before this one is started.  ``grace``
    is how long it may take to stop by itself; 0 means that it is killed at once.
    """

    name: str
    version: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    health: Health
    needs: frozenset[str] = frozenset()
    cwd: Path | None = None
    ready_timeout: float = 60
    grace: float = 0


def start_order(components: Iterable[Component]) -> list[Component]:
    """Components so that each comes after what it needs; stop in the reverse order.

    Raises ValueError when something needed is missing or two need each other.
    """
    waiting = {component.name: component for component in components}
    ordered: dict[str, Component] = {}
    while waiting:
        ready = [c for c in waiting.values() if c.needs <= ordered.keys()]
        if not ready:
            raise ValueError(f"these wait for each other or for nobody: {', '.join(waiting)}")
        for component in ready:
            ordered[component.name] = waiting.pop(component.name)
    return list(ordered.values())


def etcd(program: ProgramFile, *, data: Path, run: Path) -> Component:
    """The store.  Reachable over a unix socket in the private folder ``run`` alone."""
    return Component(
        name="etcd",
        version=program.version,
        argv=(
            str(program.path),
            *ETCD_MEMBER,
            f"--data-dir={data}",
            f"--listen-client-urls=unix://{run / 'etcd.sock'}",
            # As a host name, since etcd drops the path of this one and would then listen
            # on an abstract socket, which is open to everyone: a file in the working folder.
            "--listen-peer-urls=unix://peer.sock",
            "--advertise-client-urls=http://127.0.0.1:1",
            # A lab that loses power is made anew, so nothing waits for the disk.
            "--unsafe-no-fsync",
            # A lone member waits out one election timeout: 40 ms to ready instead of 400.
            # Its clock ticks at the heartbeat, and each tick costs: no shorter than it must be.
            "--heartbeat-interval=20",
            "--election-timeout=100",
            "--log-outputs=stderr",
            "--log-level=warn",
        ),
        env={"GOGC": "50"},
        cwd=run,
        health=Health("/health", socket=run / "etcd.sock"),
    )


@dataclass(frozen=True)
class ApiServerFiles:
    """The files that the API server reads."""

    ca: Path
    serving: KeyPair
    kubelet_client: KeyPair
    tokens: TokenKey
    audit_policy: Path
    egress: Path


def api_server(
    program: ProgramFile,
    *,
    files: ApiServerFiles,
    etcd_socket: Path,
    port: int,
    node_ports: str,
    audit_log: Path,
) -> Component:
    """The Kubernetes API, on ``127.0.0.1:port``, for clients that show who they are."""
    return Component(
        name="kube-apiserver",
        version=program.version,
        argv=(
            str(program.path),
            f"--etcd-servers=unix://{etcd_socket}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            # Only written into an object that nobody reads, but loopback is refused.
            "--advertise-address=10.96.255.254",
            "--endpoint-reconciler-type=none",
            "--external-hostname=localhost",
            f"--tls-cert-file={files.serving.cert}",
            f"--tls-private-key-file={files.serving.key}",
            # Who may come in.
            "--anonymous-auth=false",
            f"--client-ca-file={files.ca}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Taints new nodes until the node-lifecycle controller says otherwise, and the
            # lab runs none: its node lives and dies with it.
            "--disable-admission-plugins=TaintNodesByCondition",
            f"--service-account-issuer={TOKEN_ISSUER}",
            f"--service-account-key-file={files.tokens.public}",
            f"--service-account-signing-key-file={files.tokens.private}",
            # The way to nodes, pods and webhooks.
            f"--egress-selector-config-file={files.egress}",
            f"--kubelet-certificate-authority={files.ca}",
            f"--kubelet-client-certificate={files.kubelet_client.cert}",
            f"--kubelet-client-key={files.kubelet_client.key}",
            "--kubelet-preferred-address-types=Hostname,InternalIP",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--service-node-port-range={node_ports}",
            # Evidence for the lessons: written at once, not in batches.
            f"--audit-policy-file={files.audit_policy}",
            f"--audit-log-path={audit_log}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=20",
            "--audit-log-maxbackup=1",
            "--profiling=false",
            # Fairness among many clients: nothing to share out here. Without it the API is
            # ready 0.3 s sooner, since its twenty objects need not be made first.
            "--enable-priority-and-fairness=false",
        ),
        env={},
        needs=frozenset({"etcd"}),
        health=Health("/readyz", port=port),
    )


CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
)
"""What ESO, Vault, Argo CD and the upstream conformance tests of the node need."""


def controller_manager(
    program: ProgramFile,
    *,
    kubeconfig: Path,
    ca: Path,
    serving: KeyPair,
    tokens: TokenKey,
    port: int,
) -> Component:
    """The controllers that make Deployments into pods and pods into EndpointSlices."""
    return Component(
        name="kube-controller-manager",
        version=program.version,
        argv=(
            str(program.path),
            f"--kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--root-ca-file={ca}",
            f"--service-account-private-key-file={tokens.private}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--profiling=false",
        ),
        env={},
        needs=frozenset({"kube-apiserver"}),
        health=Health("/healthz", port=port),
    )
