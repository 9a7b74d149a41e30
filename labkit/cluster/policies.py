"""Two files that the API server reads: what to audit, and how to reach the cluster.

Plain data and nothing else; ``controlplane`` writes them.  The audit log is evidence in
the lessons (who applied what, who read which Secret, and when), so it must never hold a
Secret itself, and must stay small enough to hold the last hours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONTROLLER_MANAGER = "system:kube-controller-manager"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "update", "patch", "delete", "deletecollection"]

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, written when it was answered; a watch also when it begins,
    # since it may not be answered for an hour.
    "omitStages": ["RequestReceived"],
    "rules": [
        # Which Secrets the node reads, as whom; all its other reads are no lesson, nor are
        # the control plane's.
        {
            "level": "Metadata",
            "userGroups": ["system:nodes"],
            "verbs": _READ,
            "resources": [{"group": "", "resources": ["secrets"]}],
        },
        {"level": "None", "userGroups": ["system:nodes"], "verbs": _READ},
        {"level": "None", "users": [CONTROLLER_MANAGER, "system:apiserver"], "verbs": _READ},
        {
            # Never more than Metadata: bodies hold secrets and tokens.
            "level": "Metadata",
            "omitManagedFields": True,
            "resources": [
                {"group": "", "resources": ["secrets", "serviceaccounts/token"]},
                {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
                {"group": "external-secrets.io"},
                {"group": "generators.external-secrets.io"},
            ],
        },
        # Who applied what. A resource's name alone leaves out its subresources, so no
        # status, no binding and no eviction is written down; leases and events neither.
        {
            "level": "Metadata",
            "omitManagedFields": True,
            "verbs": _WRITE,
            "resources": [
                {"group": "apps", "resources": ["deployments"]},
                {"group": "", "resources": ["services", "namespaces"]},
            ],
        },
        {
            "level": "Metadata",
            "omitManagedFields": True,
            "verbs": ["create"],
            "resources": [{"group": "", "resources": ["pods"]}],
        },
        {"level": "None"},
    ],
}
"""Source: kubernetes.io/docs/reference/config-api/apiserver-audit.v1"""


def egress_selector(socket: Path | None) -> dict[str, Any]:
    """How the API server dials nodes, pods, Services and webhooks.

    With ``socket``: HTTP CONNECT over this unix socket, where the lab's network knows
    cluster addresses.  Without: directly (good enough for a control plane alone).
    Source: kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity
    """
    connection: dict[str, Any] = {"proxyProtocol": "Direct"}
    if socket is not None:
        connection = {
            "proxyProtocol": "HTTPConnect",
            "transport": {"uds": {"udsName": str(socket)}},
        }
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    }
