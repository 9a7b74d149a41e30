"""Which requests are let in: the names this server answers to, and who may post to it.

A page of any website can point its own name at 127.0.0.1 (DNS rebinding) and would then be
allowed by the browser to read this server's answers, passwords included.  What it cannot do
is hide its name: the browser sends it as ``Host``.  So a request is answered only if ``Host``
cannot be a name that a stranger registered:

- an IP address, since rebinding needs a name (``kubectl port-forward``, probes, pod addresses);
- ``localhost`` and what ends in ``.localhost``;
- a single word such as ``gitops-secrets-service``, and names ending in ``.svc``,
  ``.cluster.local``, ``.default`` or ``.demo`` (namespaces): endings that no registry sells;
- what ALLOWED_HOSTS lists.  A proxy that hands on its own public name (JupyterHub, an
  ingress) needs that name there, or ``*`` where nobody's browser runs on this machine.

``service.namespace`` is not let in for other namespaces, because ``app``, ``dev`` or ``shop``
are public endings: use ``service.namespace.svc``, or list the name.
Health checks are answered under any name; they hold nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_ADDRESS = re.compile(r"\[.*\]|\d{1,3}(\.\d{1,3}){3}")
_SAFE_ENDINGS = (".localhost", ".svc", ".cluster.local", ".default", ".demo")


def host_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a ``Host`` header names this server (see above)."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    if "*" in allowed:
        return True
    name = match[1].lower().rstrip(".")
    if _ADDRESS.fullmatch(name) or "." not in name or name.endswith(_SAFE_ENDINGS):
        return True
    return any(
        name.endswith(entry[1:]) if entry.startswith("*.") else name == entry for entry in allowed
    )


def post_allowed(headers: Mapping[str, str]) -> bool:
    """Whether a POST comes from our own page, or from no browser at all.

    Browsers say so in ``Sec-Fetch-Site``, which no script can set; older ones send only
    ``Origin``, which must then be the host that was asked (proxies keep the two in step).
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    if origin is None:
        return True
    return origin.partition("://")[2].lower() == headers.get("Host", "").lower() != ""
