"""The volumes of one pod: which objects they need, their folders, keeping them current.

It fetches (objects, tokens) and writes; what belongs in a volume is ``volumes``' part and
how it is written ``projection``'s.  When to look again is decided by the pod worker:
that is where the sync modes ``watch`` and ``kubelet`` differ.

Beside the four sources that hold API data there are emptyDir, and folders of the lab for
volume claims: a claim is a folder that outlives its pods (the claim object itself stays
Pending, since no volume is ever provisioned for it).  Everything else is refused.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import ApiError, ClusterError, NodeError
from labkit.node.api import Api
from labkit.node.downward import NodeFacts
from labkit.node.journal import Journal
from labkit.node.objects import Key, ObjectStore
from labkit.node.pod import Json, Pod, parse_timestamp
from labkit.node.projection import Swap, write_payload
from labkit.node.volumedirs import make_nested_mountpoints, make_volume_dir
from labkit.node.volumes import (
    Payload,
    TokenRequest,
    VolumeError,
    config_map_payload,
    downward_payload,
    fs_group,
    projected_payload,
    secret_payload,
    token_requests,
)

log = logging.getLogger(__name__)

_API_SOURCES = ("secret", "configMap", "projected", "downwardAPI")
_MAX_TOKEN_AGE = 24 * 3600.0
_ALWAYS_THERE = ("name",)

_REFUSED = {
    "hostPath": "hostPath volumes are refused: a container of the lab is a process of your own "
    "user, so it would be your real files; use emptyDir",
}


def volume_kind(volume: Json) -> str:
    """``secret``, ``configMap``, … : the one source that a volume has."""
    return next((key for key in volume if key not in _ALWAYS_THERE), "emptyDir")


def volume_keys(pod: Pod) -> Iterator[Key]:
    """The Secrets and ConfigMaps that the pod's volumes name."""
    for volume in pod.volumes:
        sources = (volume.get("projected") or {}).get("sources") or (volume,)
        for source in sources:
            if secret := source.get("secret"):
                yield Key(
                    "Secret", pod.namespace, secret.get("secretName") or secret.get("name", "")
                )
            if config_map := source.get("configMap"):
                yield Key("ConfigMap", pod.namespace, config_map.get("name", ""))


def environment_keys(pod: Pod) -> Iterator[Key]:
    """The Secrets and ConfigMaps that the containers' environments name."""
    for container in pod.all_containers:
        for source in container.get("envFrom") or ():
            if reference := source.get("secretRef"):
                yield Key("Secret", pod.namespace, reference.get("name", ""))
            if reference := source.get("configMapRef"):
                yield Key("ConfigMap", pod.namespace, reference.get("name", ""))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            if reference := source.get("secretKeyRef"):
                yield Key("Secret", pod.namespace, reference.get("name", ""))
            if reference := source.get("configMapKeyRef"):
                yield Key("ConfigMap", pod.namespace, reference.get("name", ""))


@dataclass(frozen=True)
class Problem:
    """A volume that can't be set up now, with the kubelet's text."""

    volume: str
    message: str

    @property
    def text(self) -> str:
        return f'MountVolume.SetUp failed for volume "{self.volume}" : {self.message}'


@dataclass
class _Token:
    value: str
    renew_at: float
    expires_at: float


class PodVolumes:
    """The volumes of one pod below ``folder``; ``claims`` holds the folders of claims."""

    def __init__(
        self,
        folder: Path,
        claims: Path,
        *,
        api: Api,
        objects: ObjectStore,
        facts: Callable[[], NodeFacts],
        journal: Journal,
    ) -> None:
        self._folder = folder
        self._claims = claims
        self._api = api
        self._objects = objects
        self._facts = facts
        self._journal = journal
        self._tokens: dict[tuple[str, int], _Token] = {}
        self._written: set[str] = set()
        self._paths: dict[str, Path] = {}

    def path(self, name: str) -> Path:
        """The folder of a volume that has been set up."""
        return self._paths[name]

    @property
    def renew_at(self) -> float | None:
        """When the first token wants renewing (unix seconds); None without tokens."""
        return min((token.renew_at for token in self._tokens.values()), default=None)

    async def refresh(self, pod: Pod) -> list[Problem]:
        """Set up or update every volume; what can't be is told, and keeps its old content."""
        problems = []
        for volume in pod.volumes:
            try:
                await self._refresh(pod, volume)
            except VolumeError as error:
                problems.append(Problem(volume["name"], error.message))
            except (NodeError, ClusterError) as error:
                problems.append(Problem(volume["name"], error.seen or error.what))
            except OSError as error:
                problems.append(Problem(volume["name"], str(error)))
        return problems

    async def _refresh(self, pod: Pod, volume: Json) -> None:
        name, kind = str(volume["name"]), volume_kind(volume)
        if kind not in _API_SOURCES:
            if name not in self._paths:
                self._paths[name] = self._plain_folder(pod, volume, kind)
            return
        tokens = {}
        if kind == "projected":
            for request in token_requests(volume["projected"]):
                tokens[request.index] = await self._token(pod, name, request)
        # From here on nothing is awaited: no two writers meet in one folder.
        payload = self._payload(pod, volume, kind, tokens)
        group = fs_group(pod.object)
        directory = self._folder / name
        if name not in self._paths:
            make_volume_dir(directory, fs_group=group)
            make_nested_mountpoints(name, directory, pod.object)
            self._paths[name] = directory
        swap = write_payload(directory, payload, fs_group=group)
        if swap is not None:
            self._record(pod, volume, kind, swap)
            self._written.add(name)

    def _plain_folder(self, pod: Pod, volume: Json, kind: str) -> Path:
        name = str(volume["name"])
        if kind == "persistentVolumeClaim":
            directory = self._claims / pod.namespace / str(volume[kind]["claimName"])
        elif kind in ("emptyDir", "ephemeral"):
            directory = self._folder / name
        else:
            raise VolumeError(
                _REFUSED.get(kind)
                or f"labkit's node has no {kind} volumes; it has secret, configMap, projected, "
                "downwardAPI, emptyDir and (as a folder of the lab) persistentVolumeClaim"
            )
        make_volume_dir(directory, fs_group=fs_group(pod.object))
        make_nested_mountpoints(name, directory, pod.object)
        return directory

    def _payload(self, pod: Pod, volume: Json, kind: str, tokens: dict[int, str]) -> Payload:
        def secret(name: str) -> Json | None:
            return self._objects.find("Secret", pod.namespace, name)

        def config_map(name: str) -> Json | None:
            return self._objects.find("ConfigMap", pod.namespace, name)

        source = volume[kind]
        if kind == "secret":
            return secret_payload(source, secret(source.get("secretName", "")))
        if kind == "configMap":
            return config_map_payload(source, config_map(source.get("name", "")))
        if kind == "downwardAPI":
            return downward_payload(source, pod.object, facts=self._facts())
        return projected_payload(
            source,
            pod.object,
            lookup_secret=secret,
            lookup_config_map=config_map,
            tokens=tokens,
            facts=self._facts(),
        )

    def _record(self, pod: Pod, volume: Json, kind: str, swap: Swap) -> None:
        name = str(volume["name"])
        source = {"kind": kind, "name": name, "resourceVersion": ""}
        if kind in ("secret", "configMap"):
            key = Key(
                "Secret" if kind == "secret" else "ConfigMap",
                pod.namespace,
                volume[kind].get("secretName") or volume[kind].get("name", ""),
            )
            found = self._objects.find(*key)
            source = {
                "kind": key.kind,
                "name": key.name,
                "resourceVersion": found["metadata"]["resourceVersion"] if found else "",
            }
        self._journal(
            {
                "at": swap.at,
                "event": "volume-swapped",
                "namespace": pod.namespace,
                "pod": pod.name,
                "uid": pod.uid,
                "volume": name,
                "path": str(self._folder / name),
                "files": list(swap.files),
                "target": swap.directory,
                "first": name not in self._written,
                "source": source,
            }
        )

    async def _token(self, pod: Pod, volume: str, request: TokenRequest) -> str:
        """A token bound to the pod, renewed at 80% of its life or after a day."""
        known = self._tokens.get((volume, request.index))
        now = time.time()
        if known is not None and now < known.renew_at:
            return known.value
        try:
            token = await self._request_token(pod, request)
        except ClusterError as error:
            if known is not None and now < known.expires_at:
                log.warning("renewing a token of %s failed: %s", pod.text, error)
                known.renew_at = now + 10
                return known.value
            raise VolumeError(f"failed to fetch token: {error.seen or error.what}") from error
        self._tokens[volume, request.index] = token
        return token.value

    async def _request_token(self, pod: Pod, request: TokenRequest) -> _Token:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod.name,
                    "uid": pod.uid,
                },
            },
        }
        path = f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{pod.service_account}/token"
        for pause in (0.03, 0.05, 0.1, 0.3, 0.0):
            try:
                status = (await self._api.create(path, body))["status"]
                break
            except ApiError as error:
                # The API server hears of the pod's binding a moment later than the node.
                if error.status != 403 or not pause:
                    raise
                await asyncio.sleep(pause)
        now = time.time()
        expires_at = parse_timestamp(status["expirationTimestamp"])
        life = min((expires_at - now) * 0.8, _MAX_TOKEN_AGE)
        return _Token(
            value=str(status["token"]),
            renew_at=now + life - random.uniform(0, min(10.0, life / 10)),  # noqa: S311
            expires_at=expires_at,
        )
