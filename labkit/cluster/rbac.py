"""The rights that the lab's own parts need beyond what Kubernetes gives them.

The node agent is a node (group ``system:nodes``): the Node authorizer and NodeRestriction
hold for it as for a kubelet.  It is also the cluster network, so it gets the few rights of
that, and not a bit more.  The scheduler needs nothing here: Kubernetes gives
``system:kube-scheduler`` its rights itself.
"""

from __future__ import annotations

from typing import Any

NODE_AGENT = "labkit:node-agent"
_READ = ["get", "list", "watch"]
_RBAC = "rbac.authorization.k8s.io"

OBJECTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NODE_AGENT},
        "rules": [
            # As cluster network: Services by name, with their ready endpoints.
            {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": _READ},
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": _READ,
            },
            # As the only node: one watch of each kind instead of one per object, as the
            # kubelet has.  There is no other node whose Secrets could be read by it.
            {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": _READ},
        ],
    },
    {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NODE_AGENT},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": NODE_AGENT},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:nodes"}],
    },
)
