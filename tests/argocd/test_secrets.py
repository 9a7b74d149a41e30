"""No secret is in Git, nor in what Argo CD keeps of it; one that is planted there is found.

The search knows its secrets (see ``labkit.scan``): the database's password, the one before,
Vault's seal key and whatever else is in Vault and in Kubernetes Secrets.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from argocd.world import APPLICATIONS, World, pod_of, until
from labkit import argocd, gitrepo, scan, vault, workloads
from labkit import lab as labs
from labkit.scan import Leak, Needle, Searcher

NAME = "argocd-application-controller"
CONTROLLER = {"app.kubernetes.io/name": NAME}
LABKIT = (sys.executable, "-m", "labkit")


@pytest.fixture
def needles(world: World) -> tuple[Needle, ...]:
    """Every secret of the lab, with at least two versions of the password among them."""
    world.lab.journey(timeout=60)
    # What Argo CD and the Git server sign in with is their own.
    own = ("Secret argocd/", "Secret git/")
    found = tuple(
        each
        for each in scan.needles(world.kube, world.lab.vault)
        if not any(word in each.what for word in own)
    )
    passwords = [each for each in found if each.what.startswith("password of secret/mysql_cred")]
    assert len(passwords) >= 2
    assert (vault.read(world.lab.vault) or {})["password"] in {each.value for each in passwords}
    assert "key of the Secret vault/vault-seal" in {each.what for each in found}
    return found


class Cache:
    """Argo CD's cache, read by a client of its own: the few words of Redis' protocol."""

    def __init__(self, port: int, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")
        assert self.ask("AUTH", password) == b"OK"

    def ask(self, *words: str | bytes) -> object:
        raw = [word.encode() if isinstance(word, str) else word for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in raw]
        self._socket.sendall(b"*%d\r\n" % len(raw) + b"".join(parts))
        return self._read()

    def _read(self) -> object:
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        assert kind != b"-", rest
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind in b"*%~":
            return [self._read() for _ in range(int(rest) * (2 if kind == b"%" else 1))]
        return rest

    def everything(self) -> dict[str, bytes]:
        """Each key and all that is under it, unpacked."""
        found = {}
        keys = self.ask("KEYS", "*")
        assert isinstance(keys, list)
        for key in keys:
            kind = self.ask("TYPE", key)
            value = self.ask(*(("GET", key) if kind == b"string" else ("HGETALL", key)))
            parts = value if isinstance(value, list) else [value]
            found[key.decode()] = b"\n".join(_unpacked(part) for part in parts if part)
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _unpacked(value: object) -> bytes:
    assert isinstance(value, bytes)
    return gzip.decompress(value) if value.startswith(b"\x1f\x8b") else value


@pytest.fixture
def cache(world: World) -> Iterator[Cache]:
    secret = world.kube.get("v1", "Secret", "argocd-redis", argocd.NAMESPACE)
    assert secret
    words = ("kubectl", "-n", argocd.NAMESPACE, "port-forward", "service/argocd-redis", ":6379")
    with subprocess.Popen(words, env=world.env, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout
        port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert port
        client = Cache(int(port[1]), base64.b64decode(secret["data"]["auth"]).decode())
        yield client
        client.close()
        forward.terminate()


def in_argo_cd(world: World, cache: Cache, searcher: Searcher) -> list[Leak]:
    """Everywhere that Argo CD keeps or says something."""
    places = {f"cache {key}": value for key, value in cache.everything().items()}
    assert any(key.startswith("cache mfst|") for key in places), "manifests are in the cache"
    for name in APPLICATIONS:
        places[f"application {name}"] = json.dumps(world.object_of(name)).encode()
        manifests = world.must("argocd", "app", "manifests", name)
        assert "kind: " in manifests
        places[f"manifests of {name}"] = manifests.encode()
    for pod in world.kube.list("v1", "Pod", argocd.NAMESPACE):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{argocd.NAMESPACE}/pods/{quote(name)}/log"
        places[f"log of {name}"] = world.kube.raw("GET", path)
    return [leak for where, data in places.items() for leak in searcher.in_bytes(data, where)]


def is_new_controller(world: World, before: str) -> bool:
    pods = world.kube.list("v1", "Pod", argocd.NAMESPACE, labels=f"app.kubernetes.io/name={NAME}")
    return [pod["metadata"]["uid"] != before for pod in pods] == [True] and argocd.is_ready(
        world.kube
    )


def repository(world: World) -> Path:
    """The bare repository, where the Git server keeps it."""
    (found,) = world.lab.paths.node.rglob("platform.git")
    return found


def test_neither_argo_cd_nor_git_holds_a_secret(
    world: World, needles: tuple[Needle, ...], cache: Cache
) -> None:
    searcher = Searcher(needles)
    assert in_argo_cd(world, cache, searcher) == []
    searched = searcher.in_git(repository(world))
    assert searched.objects > len(APPLICATIONS)
    assert searched.leaks == ()


def test_a_secret_in_git_is_found_and_outlives_its_removal(
    world: World, needles: tuple[Needle, ...], cache: Cache
) -> None:
    """A Secret in Git is everywhere that Argo CD keeps manifests.

    Removed by a commit, it is still in history.  With history rewritten, it is still among the
    server's objects until Git clears them away, and in Argo CD's cache, under the old commit's
    name, for a day: Argo CD hides the data of Secrets from whoever asks it for differences,
    and keeps rendered manifests as they are.  So a new password is the only real mend.

    A cache that was emptied stays without what the controller believes to have written.
    """
    value = workloads.new_password()
    searcher = Searcher([Needle("planted", value)])
    world.write(
        "shop/planted.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: planted, namespace: demo}\n"
        f"stringData: {{password: {value}}}\n",
    )
    world.wait_at("shop", world.push("A password, only for a moment"))
    places = {leak.where.partition(":")[0] for leak in in_argo_cd(world, cache, searcher)}
    assert any(place.startswith("cache mfst|") for place in places)
    assert "application shop" not in places
    assert searcher.in_git(repository(world)).leaks
    assert searcher.in_git(world.clone).leaks
    code = world.run(*LABKIT, "scan", str(world.clone), "--name", world.lab.name)[0]
    assert code == 1

    world.must("git", "rm", "--quiet", "shop/planted.yaml")
    world.wait_at("shop", world.push("Removed, so all is well"))
    until(lambda: world.kube.get("v1", "Secret", "planted", "demo") is None, "it is pruned")
    assert searcher.in_git(world.clone).leaks, "history keeps it"

    world.must("git", "reset", "--quiet", "--hard", world.first)
    world.must("git", "push", "--quiet", "--force")
    world.wait_at("shop", world.first)
    assert searcher.in_git(repository(world)).leaks, "the server keeps what nothing leads to"
    assert any("cache mfst|" in leak.where for leak in in_argo_cd(world, cache, searcher))

    world.must("git", "reflog", "expire", "--expire=now", "--all")
    world.must("git", "gc", "--quiet", "--prune=now")
    world.must("git", "gc", "--quiet", "--prune=now", folder=repository(world))
    cache.ask("FLUSHALL")
    # The controller remembers what it has written and does not write it again: until it is
    # new, `argocd app manifests` and `app diff` say "cache: key is missing".
    before = pod_of(world.kube, argocd.NAMESPACE, {"app.kubernetes.io/name": NAME})["metadata"][
        "uid"
    ]
    world.kube.delete("v1", "Pod", f"{NAME}-0", argocd.NAMESPACE)
    until(lambda: is_new_controller(world, before), "the controller is new")
    world.wait_green()
    assert searcher.in_git(world.clone).leaks == ()
    assert searcher.in_git(repository(world)).leaks == ()
    for name in APPLICATIONS:  # without its cache, the command knows nothing
        until(lambda: world.run("argocd", "app", "manifests", name)[0] == 0, "the cache is filled")  # noqa: B023
    assert in_argo_cd(world, cache, searcher) == []


def test_a_scan_of_the_whole_lab_knows_where_secrets_belong(
    world: World, needles: tuple[Needle, ...], tmp_path: Path
) -> None:
    lab = labs.attach(world.lab.name)
    kept = lab.paths.git_credentials
    assert kept.stat().st_mode & 0o777 == 0o600
    password = Needle("Git's", gitrepo.Door(kept).password())
    assert Searcher([*needles, password]).in_files(kept).leaks
    assert kept.name in scan.KEPT_BY_DESIGN
    words = (*LABKIT, "scan", str(tmp_path), "--lab", "--name", lab.name, "--json")
    found = world.json_of(*words)
    assert found["leaks"] == []
    assert found["git_objects"] > len(APPLICATIONS), "the learner's whole history among them"
    assert gitrepo.USER in kept.read_text()
