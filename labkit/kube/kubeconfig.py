"""Read a kubeconfig: where the API is and how to sign in.

It reads certificates and tokens, inline or from files.  What a user's plugin gives is got by
``credentials``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import yaml

from labkit.errors import UsageError
from labkit.kube._text import short
from labkit.kube.credentials import Renewed, from_file, from_plugin
from labkit.kube.objects import Object


@dataclass(frozen=True)
class Access:
    """One context of a kubeconfig, resolved: PEM texts and tokens, not paths.

    ``token`` is the one of now; where it ends, ``renewed`` gives the one that is good then.
    """

    server: str
    namespace: str
    ca: str | None
    client_cert: tuple[str, str] | None = field(repr=False)
    token: str | None = field(repr=False)
    renewed: Renewed | None = None


def read(path: Path, *, context: str | None = None) -> Access:
    """The (current) context of the kubeconfig at ``path``.

    Raises UsageError when the file cannot be read or makes no sense, or its user's plugin
    gives nothing.
    Source: the ``Config`` type of ``k8s.io/client-go/tools/clientcmd/api/v1``.
    """
    _, cluster, user, chosen = _chosen(path, context)
    if "auth-provider" in user:
        raise UsageError(
            f"The kubeconfig {path} signs in through an auth-provider, which Kubernetes gave up",
            todo="Make a new one, with a plugin (exec), a token or a client certificate.",
        )
    try:
        certificate = _material(user, "client-certificate", path)
        key = _material(user, "client-key", path)
        pair = (certificate, key) if certificate and key else None
        renewed = _renewed(user, cluster, path)
        first = renewed() if renewed else None  # now, so that what is wrong is told now
        return Access(
            server=cluster.get("server", ""),
            namespace=chosen.get("namespace") or "default",
            ca=_material(cluster, "certificate-authority", path),
            client_cert=pair or (first.client_cert if first else None),
            token=first.token if first else user.get("token"),
            renewed=renewed,
        )
    except ValueError as error:  # base64 and UTF-8; the words of neither quote the secret
        raise UsageError(
            f"The kubeconfig {path} holds something that is not the Base64 of a text",
            seen=type(error).__name__,
            todo="`kubectl config view --raw --minify` prints a whole one.",
        ) from None


def _renewed(user: Object, cluster: Object, path: Path) -> Renewed | None:
    """Where the token comes from, if it is one that ends; an ``exec`` entry before others."""
    plugin = user.get("exec")
    if isinstance(plugin, dict):
        command = str(plugin.get("command", ""))
        if "/" in command:  # relative to the kubeconfig, as kubectl has it
            plugin = {**plugin, "command": str(path.absolute().parent / command)}
        return Renewed(from_plugin(plugin, cluster))
    if user.get("tokenFile") and not user.get("token"):
        return Renewed(from_file(path.parent / user["tokenFile"]))
    return None


def extract(path: Path, *, context: str | None = None) -> tuple[str, str]:
    """The name of the (current) context, and a kubeconfig of it alone, as YAML.

    What it refers to (files, a plugin) it refers to as before, files by absolute paths, so
    that a renewed certificate or token is found.  Raises UsageError as ``read`` does, but
    for what the files and the plugin hold.
    """
    name, cluster, user, chosen = _chosen(path, context)
    folder = path.absolute().parent
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": chosen}],
        "clusters": [{"name": chosen.get("cluster"), "cluster": _with_paths(cluster, folder)}],
        "users": [{"name": chosen.get("user"), "user": _with_paths(user, folder)}],
    }
    return name, yaml.safe_dump(config, sort_keys=False)


_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _with_paths(entry: Object, folder: Path) -> Object:
    found = {key: str(folder / value) if key in _FILES else value for key, value in entry.items()}
    plugin = found.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command", "")):  # as kubectl has it
        found["exec"] = {**plugin, "command": str(folder / plugin["command"])}
    return found


def _chosen(path: Path, context: str | None) -> tuple[str, Object, Object, Object]:
    """The (current) context's name, its cluster and its user, and the context itself."""
    config = _load(path)
    try:
        name = context or config.get("current-context") or ""
        chosen = _named(config, "contexts", name, "context", path)
        cluster = _named(config, "clusters", chosen.get("cluster", ""), "cluster", path)
        user = _named(config, "users", chosen.get("user", ""), "user", path)
        return name, {**cluster}, {**user}, {**chosen}
    except (TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a kubeconfig",
            seen="its contexts, clusters or users are no lists of names",
            todo="`kubectl config view --raw --minify` prints one.",
        ) from error


def _load(path: Path) -> Object:
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(
            f"The kubeconfig {path} cannot be read",
            seen=error.strerror or str(error),
            todo="Check the path and its permissions.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The kubeconfig {path} is not YAML", seen=short(error)) from error
    if not isinstance(config, dict) or "clusters" not in config:
        raise UsageError(
            f"{path} is not a kubeconfig",
            seen="no clusters in it",
            todo="`kubectl config view --raw --minify` prints one.",
        )
    return config


def _named(config: Object, section: str, name: str, what: str, path: Path) -> Object:
    entries = {entry.get("name"): entry for entry in config.get(section) or []}
    if name not in entries:
        known = ", ".join(sorted(str(key) for key in entries)) or "none"
        raise UsageError(
            f"The kubeconfig {path} has no {what} called {name!r}",
            seen=f"{section}: {known}",
            todo=f"Name one of them, or set {'current-context' if what == 'context' else what}.",
        )
    return cast(Object, entries[name].get(what) or {})


def _material(entry: Object, field: str, path: Path) -> str | None:
    inline = entry.get(f"{field}-data")
    if inline:
        return base64.b64decode(inline).decode()
    return _text(path, entry[field]) if entry.get(field) else None


def _text(kubeconfig: Path, named: str) -> str:
    """A file that a kubeconfig names, relative to the kubeconfig itself."""
    file = kubeconfig.parent / named
    try:
        return file.read_text()
    except OSError as error:
        raise UsageError(
            f"The kubeconfig {kubeconfig} names a file that cannot be read",
            seen=f"{file}: {error.strerror}",
            todo="Mend the path in the kubeconfig.",
        ) from error
