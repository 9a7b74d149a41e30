"""Writing kubeconfig files: one cluster, one user, one context.

Credentials are embedded, so the file can be copied on its own; it is 0600.  JSON is
YAML, so every client reads it and no YAML library is needed here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from labkit.cluster.certs import KeyPair
from labkit.paths import write_private


def write(
    path: Path,
    *,
    server: str,
    ca: Path,
    client: KeyPair | None = None,
    token: str | None = None,
    name: str = "labkit",
    user: str = "admin",
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig for ``server`` with a client certificate or a bearer ``token``.

    Exactly one of the two is expected.  Returns ``path``.
    Source: kubernetes.io/docs/reference/config-api/kubeconfig.v1
    """
    if (client is None) == (token is None):
        raise ValueError("a kubeconfig needs a client certificate or a token, not both")
    credentials: dict[str, Any]
    if client is not None:
        credentials = {
            "client-certificate-data": _base64(client.cert),
            "client-key-data": _base64(client.key),
        }
    else:
        credentials = {"token": token}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": _base64(ca)},
            }
        ],
        "users": [{"name": user, "user": credentials}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": user, "namespace": namespace}}
        ],
        "current-context": name,
    }
    write_private(path, json.dumps(config, indent=2) + "\n")
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
