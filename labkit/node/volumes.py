"""What belongs in a volume: from API objects to the files of a payload.

Pure functions for the volume sources secret, configMap, downwardAPI and projected;
they neither ask the API nor touch a disk.  ``projection`` writes what they return, the
agent fetches what they are given.  The texts of failures are the kubelet's, since people
search for those.

Source: ``pkg/volume/{secret,configmap,downwardapi,projected}`` of Kubernetes 1.37.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import NodeError
from labkit.node.downward import NodeFacts, field_value, resource_value
from labkit.node.projection import FileEntry

Object = Mapping[str, Any]
Lookup = Callable[[str], Object | None]
Payload = dict[str, FileEntry]

DEFAULT_MODE = 0o644
_PRIVATE_MODE = 0o600
_DEFAULT_TOKEN_SECONDS = 3600


class VolumeError(NodeError):
    """A volume cannot be set up now; ``message`` is the kubelet's text.

    The kubelet reports it as the event ``FailedMount`` with ``MountVolume.SetUp failed for
    volume "NAME" : MESSAGE``, and tries again.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__("A volume cannot be set up", seen=message)


@dataclass(frozen=True)
class TokenRequest:
    """One ServiceAccount token that a projected volume wants.

    ``index`` is its place among the volume's sources; ``audience`` "" means the API
    server's own.  It is renewed when 80% of ``seconds`` have passed.
    """

    index: int
    audience: str
    seconds: int


def secret_payload(
    source: Object, secret: Object | None, *, default_mode: int | None = None
) -> Payload:
    """The files of a ``secret`` volume (or of the same source inside a projected one).

    ``secret`` is None when there is none.  ``default_mode`` is the enclosing volume's and
    replaces the source's own ``defaultMode``.  Raises VolumeError.
    """
    if secret is None:
        _require_optional(source, "secret", source.get("secretName") or source.get("name", ""))
    data = {
        key: base64.b64decode(value) for key, value in ((secret or {}).get("data") or {}).items()
    }
    return _select(source, data, "references non-existent secret key: {}", default_mode)


def config_map_payload(
    source: Object, config_map: Object | None, *, default_mode: int | None = None
) -> Payload:
    """The files of a ``configMap`` volume: ``data`` and ``binaryData``.  As ``secret_payload``."""
    if config_map is None:
        _require_optional(source, "configmap", source.get("name", ""))
    found = config_map or {}
    data = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
    data |= {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return _select(source, data, "configmap references non-existent config key: {}", default_mode)


def downward_payload(
    source: Object, pod: Object, *, facts: NodeFacts, default_mode: int | None = None
) -> Payload:
    """The files of a ``downwardAPI`` volume.  Raises VolumeError, naming all that is wrong."""
    mode = _mode(source, default_mode)
    payload: Payload = {}
    problems: list[str] = []
    for item in source.get("items") or ():
        text = ""
        try:
            if reference := item.get("fieldRef"):
                text = field_value(reference["fieldPath"], pod)
            elif reference := item.get("resourceFieldRef"):
                text = resource_value(reference, pod, None, facts=facts)
        except NodeError as error:
            problems.append(error.seen)
        payload[posixpath.normpath(item["path"])] = FileEntry(
            text.encode(), mode if item.get("mode") is None else item["mode"]
        )
    _raise_together(problems)
    return payload


def projected_payload(
    source: Object,
    pod: Object,
    *,
    lookup_secret: Lookup,
    lookup_config_map: Lookup,
    tokens: Mapping[int, str],
    facts: NodeFacts,
) -> Payload:
    """The files of a ``projected`` volume; a later source wins where two give one path.

    ``tokens`` holds, by source index, what ``token_requests`` asked for.  Token files are
    0600 once the pod has an fsGroup or one runAsUser for all.  Raises VolumeError, naming
    all that is wrong.
    """
    mode = _mode(source, None)
    user, group = fs_user(pod), fs_group(pod)
    payload: Payload = {}
    problems: list[str] = []
    for index, part in enumerate(source.get("sources") or ()):
        try:
            if secret := part.get("secret"):
                found = lookup_secret(secret["name"])
                payload |= secret_payload(secret, found, default_mode=mode)
            elif config_map := part.get("configMap"):
                found = lookup_config_map(config_map["name"])
                payload |= config_map_payload(config_map, found, default_mode=mode)
            elif downward := part.get("downwardAPI"):
                payload |= downward_payload(downward, pod, facts=facts, default_mode=mode)
            elif token := part.get("serviceAccountToken"):
                if index not in tokens:
                    raise VolumeError("failed to fetch token: none has been issued yet")
                private = user is not None or group is not None
                payload[token["path"]] = FileEntry(
                    tokens[index].encode(), _PRIVATE_MODE if private else mode, user
                )
            elif part:
                raise VolumeError(f"projected source {next(iter(part))} is not supported here")
        except VolumeError as error:
            problems.append(error.message)
    _raise_together(problems)
    return payload


def token_requests(source: Object) -> tuple[TokenRequest, ...]:
    """The tokens that a ``projected`` volume source needs."""
    return tuple(
        TokenRequest(
            index=index,
            audience=token.get("audience") or "",
            seconds=int(token.get("expirationSeconds") or _DEFAULT_TOKEN_SECONDS),
        )
        for index, part in enumerate(source.get("sources") or ())
        if (token := part.get("serviceAccountToken"))
    )


def fs_group(pod: Object) -> int | None:
    """The pod's ``securityContext.fsGroup``."""
    group = ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def fs_user(pod: Object) -> int | None:
    """The one user that all of the pod's containers run as, if it is set and the same.

    Source: ``FsUserFrom`` in ``pkg/volume/util/util.go``.
    """
    spec = pod.get("spec") or {}
    general = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", general)
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(key) or ()
    }
    user = users.pop() if len(users) == 1 else None
    return None if user is None else int(user)


def hosts_file(
    hostname: str,
    addresses: Sequence[str],
    *,
    domain: str = "",
    aliases: Iterable[Object] = (),
) -> bytes:
    """The text of a pod's ``/etc/hosts``: its own name and its ``hostAliases``."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        *(f"{address}\t{names}" for address in addresses),
    ]
    extra = ["\t".join([alias["ip"], *alias.get("hostnames", ())]) for alias in aliases]
    if extra:
        lines += ["", "# Entries added by HostAliases.", *extra]
    return "\n".join([*lines, ""]).encode()


def _require_optional(source: Object, kind: str, name: str) -> None:
    if not source.get("optional"):
        raise VolumeError(f'{kind} "{name}" not found')


def _mode(source: Object, default_mode: int | None) -> int:
    if default_mode is not None:
        return default_mode
    own = source.get("defaultMode")
    return DEFAULT_MODE if own is None else int(own)


def _select(
    source: Object, data: Mapping[str, bytes], missing: str, default_mode: int | None
) -> Payload:
    """All of ``data`` under its own names, or just the ``items`` under theirs."""
    mode = _mode(source, default_mode)
    items = source.get("items")
    if not items:
        return {key: FileEntry(value, mode) for key, value in data.items()}
    payload: Payload = {}
    for item in items:
        if item["key"] in data:
            own = item.get("mode")
            payload[item["path"]] = FileEntry(data[item["key"]], mode if own is None else own)
        elif not source.get("optional"):
            raise VolumeError(missing.format(item["key"]))
    return payload


def _raise_together(problems: Sequence[str]) -> None:
    if problems:
        raise VolumeError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
