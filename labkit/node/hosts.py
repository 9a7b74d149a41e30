"""A container's ``/etc/hosts``: this machine's own, and what the pod adds to it.

A kubelet gives a pod with a network of its own a file of its own, and one on the node's
network the node's file with the pod's aliases below (``managedHostsFileContent`` and
``nodeHostsFileContent`` in ``pkg/kubelet/kubelet_pods.go``).  The lab's pods share this
machine's network, so theirs is the second, with a line for the pod's own name: programs
look that up, and it leads back to where they listen.
"""

from __future__ import annotations

from labkit.node.pod import Pod


def content(pod: Pod, system: str) -> str:
    """The file for ``pod``, where ``system`` is this machine's."""
    lines = [
        "# Kubernetes-managed hosts file (host network).",
        *system.splitlines(),
        f"127.0.0.1\t{pod.hostname}",
    ]
    aliases = pod.spec.get("hostAliases") or ()
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join((alias["ip"], *(alias.get("hostnames") or ()))) for alias in aliases]
    return "\n".join(lines) + "\n"
