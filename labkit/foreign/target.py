"""Reach a cluster through a kubeconfig: one question, and one clear line when it fails.

Reading kubeconfigs is ``kube.kubeconfig``'s; what may be done there is asked by ``rights``.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from labkit.errors import ApiError, ClusterError, UsageError
from labkit.kube import Kube, kubeconfig

ANSWER = 5.0
"""Seconds in which a cluster has to answer."""
OLDEST = (1, 36)
"""The first Kubernetes with MutatingAdmissionPolicy, by which ``stock`` runs the app."""


@dataclass(frozen=True)
class Target:
    """A cluster that answered: ``version`` is its own word for it (``v1.37.2``), ``config`` a
    kubeconfig of this one context (as YAML; it may hold credentials)."""

    kube: Kube
    context: str
    version: str
    source: str
    config: str = field(repr=False)


def reach(path: Path, context: str | None = None) -> Target:
    """The cluster behind the (current) context of the kubeconfig at ``path``.

    Raises UsageError for a kubeconfig that is none or has no such context, ClusterError
    when nothing answers within ANSWER seconds or the answer is no Kubernetes' or an older
    one's than OLDEST.  Changes nothing.
    """
    name, config = kubeconfig.extract(path, context=context)
    try:
        kube = Kube.from_kubeconfig(path, context=name)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"The kubeconfig {path} holds a certificate or key that cannot be used",
            seen=f"context {name}: {getattr(error, 'reason', '') or type(error).__name__}",
            todo="`kubectl --kubeconfig FILE get nodes` should work first.",
        ) from error
    if not kube.server.startswith(("https://", "http://")):
        raise UsageError(
            f"The kubeconfig {path} names no server for the context {name}", seen=repr(kube.server)
        )
    return Target(kube, name, version(kube, name), str(path.absolute()), config)


def version(kube: Kube, context: str) -> str:
    """What Kubernetes says that it is.  Raises ClusterError as ``reach`` does."""
    try:
        answer = kube.request("GET", "/version", timeout=ANSWER)
        found = str(answer["gitVersion"])
        number = re.match(r"v?(\d+)\.(\d+)", found)
        if number is None:
            raise ValueError(found)
    except ApiError as error:
        raise ClusterError(
            f"The cluster of the context {context} lets nobody in with this kubeconfig",
            seen=f"{kube.server}: {error.seen}",
            todo="Sign in to it again, then try once more.",
        ) from error
    except ClusterError as error:
        raise ClusterError(
            f"The cluster of the context {context} does not answer",
            seen=f"{kube.server}: {error.seen}",
            todo="Start it, or choose another --context.",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"What answers for the context {context} is no Kubernetes API", seen=kube.server
        ) from error
    if (int(number[1]), int(number[2])) < OLDEST:
        raise ClusterError(
            f"The cluster of the context {context} is too old for the course",
            seen=f"{found}; it takes v{OLDEST[0]}.{OLDEST[1]} or later, whose "
            "MutatingAdmissionPolicy runs the course's app from a stock image",
            todo="Choose another --context, or `labkit up` without a kubeconfig.",
        )
    return found
