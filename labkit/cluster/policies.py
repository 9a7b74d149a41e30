"""Two files that the API server reads: what to audit, and how to reach the cluster.

Plain data and nothing else; ``controlplane`` writes them.  The audit log is evidence in
the lessons (who read which Secret, and when), so it must never hold a Secret itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONTROLLER_MANAGER = "system:kube-controller-manager"
_READ = ["get", "list", "watch"]

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, written when it was answered; a watch also when it begins,
    # since it may not be answered for an hour.
    "omitStages": ["RequestReceived"],
    "rules": [
        # The control plane and the node read Secrets all the time: no lesson in that.
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
