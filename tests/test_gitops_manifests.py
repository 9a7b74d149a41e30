"""What the learner's Git repository holds: a Vault that sets itself up, and no secret.

The vault folder is applied to the real lab in place of the lab's own Vault, as Argo CD would
apply it, and taken away again at the end.
"""

from __future__ import annotations

import copy
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Any

import hvac
import psutil
import pytest
from hvac.exceptions import VaultError as HvacError

from labkit import app, eso, scan, vault, vaultadmin, workloads
from labkit.errors import ApiError, VaultError
from labkit.kube import Object, load_manifests, namespaces
from labkit.lab import Lab
from labkit.paths import manifest

REPOSITORY = "07-gitops"
OWN_URL = "http://git.git:3000/platform.git"
FOLDERS = ("apps", "shop", "store", "vault")


def tokens(admin: hvac.Client) -> list[dict[str, Any]]:
    """Every token that Vault knows of."""
    # Not hvac's LIST: the API server's proxy passes no such method on.
    listed = admin.adapter.get("/v1/auth/token/accessors", params={"list": "true"})
    return [admin.auth.token.lookup_accessor(one)["data"] for one in listed["data"]["keys"]]


def role(client: hvac.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.auth.kubernetes.read_role(name)
    return {key: value for key, value in found.items() if key not in {"policies", "ttl"}}


def kill_vault(lab: Lab) -> None:
    """End Vault's process as a fault would; its pod stays."""
    kube = lab.api
    before = kube.get("v1", "Pod", vault.POD, vault.NAMESPACE)
    assert before
    count = before["status"]["containerStatuses"][0]["restartCount"]
    supervisor = lab.record.supervisor
    assert supervisor
    (victim,) = (
        process
        for process in psutil.Process(supervisor.pid).children(recursive=True)
        if process.name() == "bao"
    )
    victim.kill()

    def is_back(pod: Object | None) -> bool:
        status = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
        return bool(status[0].get("restartCount", 0) > count and status[0].get("ready"))

    kube.wait(
        kube.resource("v1", "Pod"),
        vault.POD,
        vault.NAMESPACE,
        is_back,
        awaited="restarted",
        timeout=60,
    )


# -- on a real cluster ----------------------------------------------------------------


@pytest.fixture(scope="module")
def declared(lab: Lab) -> Iterator[dict[str, Any]]:
    """The Vault from Git in place of the lab's; what the lab's own had been told before."""
    before = {"role": role(lab.vault, vault.ROLE), "root": lab.vault.token}
    namespaces.remove(lab.api, vault.NAMESPACE)
    lab.apply(f"manifests/{REPOSITORY}/vault")
    yield before
    namespaces.remove(lab.api, vault.NAMESPACE)
    lab.reset()


@pytest.fixture(scope="module")
def admin(lab: Lab, declared: dict[str, Any]) -> hvac.Client:
    return vault.open_client(lab.api, vaultadmin.login(lab.api))


def test_it_sets_itself_up_as_the_lab_would(
    lab: Lab, declared: dict[str, Any], admin: hvac.Client
) -> None:
    assert role(admin, vault.ROLE) == declared["role"]
    assert admin.sys.read_policy(vault.POLICY)["data"]["rules"] == vault.POLICY_TEXT
    first = vault.read(admin)
    assert first is not None
    assert {**first, "password": ""} == {**workloads.first_values(), "password": ""}
    assert re.fullmatch("[0-9a-f]{24}", first["password"])
    assert {entry.path for entry in vault.audit(lab.api)} >= {"sys/tools/random/12"}


def test_no_root_token_is_left_and_none_can_be_made(
    declared: dict[str, Any], admin: hvac.Client, lab: Lab
) -> None:
    assert {tuple(token["policies"]) for token in tokens(admin)} <= {
        ("admin", "default"),
        ("default", "demo-read"),
    }
    assert not vault.open_client(lab.api, declared["root"]).is_authenticated()
    with pytest.raises(HvacError, match="unsupported operation"):
        admin.sys.start_root_token_generation()


def test_the_seal_key_was_born_in_the_cluster_and_stays(lab: Lab, admin: hvac.Client) -> None:
    secret = lab.api.get("v1", "Secret", "vault-seal", vault.NAMESPACE)
    assert secret
    assert secret["immutable"] is True
    assert re.fullmatch(b"[0-9a-f]{64}", b64decode(secret["data"]["key"]))
    maker = lab.api.with_token(lab.api.token("vault-seal-key", vault.NAMESPACE))
    other: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "vault-seal", "namespace": vault.NAMESPACE},
        "stringData": {"key": "another"},
    }
    with pytest.raises(ApiError, match="immutable"):
        maker.apply(other)
    other["metadata"]["name"] = "another"
    with pytest.raises(ApiError) as refused:
        maker.apply(other)
    assert refused.value.status == 403


def test_only_the_administrators_service_account_may_administer(
    lab: Lab, admin: hvac.Client
) -> None:
    for namespace, account in (vault.READER, (vault.NAMESPACE, "vault")):
        jwt = lab.api.token(account, namespace, audiences=[vault.AUDIENCE])
        with pytest.raises(VaultError, match="not authorized"):
            vault.login(admin, jwt, role=vaultadmin.ROLE)
        nobody = lab.api.with_token(lab.api.token(account, namespace))
        with pytest.raises(ApiError):
            nobody.token(*reversed(vaultadmin.ACCOUNT))
    mine = admin.auth.token.lookup_self()["data"]
    assert mine["creation_ttl"] == vaultadmin.TTL
    assert mine["meta"]["service_account_name"] == "vault-admin"


def test_the_secret_reaches_the_page_and_outlives_a_killed_container(
    lab: Lab, admin: hvac.Client
) -> None:
    lab.apply(f"manifests/{REPOSITORY}/store")
    lab.apply(f"manifests/{REPOSITORY}/shop")
    eso.wait_store(lab.api, workloads.STORE)
    values = {**(vault.read(admin) or {}), "password": workloads.new_password()}
    vault.write(admin, values)
    eso.force_sync(lab.api, app.EXTERNAL_SECRET, app.NAMESPACE)
    lab.wait_for(
        "secret/mysql-credentials",
        lambda seen: bool(
            seen and values["password"] in b64decode(seen["data"]["credentials"]).decode()
        ),
        namespace=app.NAMESPACE,
    )
    kill_vault(lab)
    vaultadmin.wait_serving(lab.api)
    assert vault.read(admin) == values, "the token and the data are those of before"
    assert lab.app.credentials()["version"]


def test_nothing_of_it_is_in_git(lab: Lab, admin: hvac.Client) -> None:
    needles = scan.needles(lab.api, admin)
    assert any(needle.what == "key of the Secret vault/vault-seal" for needle in needles)
    searched = scan.Searcher(needles).in_files(manifest(REPOSITORY))
    assert searched.files > len(FOLDERS)
    assert searched.leaks == ()


# -- as they are written --------------------------------------------------------------


def objects(folder: str) -> list[Object]:
    return load_manifests(manifest(folder))


def essence(obj: Object) -> Object:
    """An object without what only Argo CD reads and what is a default of its kind."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "annotations"}
    bare: Object = copy.deepcopy({**obj, "metadata": meta})
    if bare["kind"] == "ExternalSecret":
        for entry in bare["spec"]["data"]:
            for name in ("conversionStrategy", "decodingStrategy", "metadataPolicy"):
                del entry["remoteRef"][name]
    return bare


def by_name(found: Iterable[Object]) -> dict[tuple[str, str], Object]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in found}


def test_no_secret_is_declared() -> None:
    for folder in FOLDERS:
        kinds = {obj["kind"] for obj in objects(f"{REPOSITORY}/{folder}")}
        assert kinds
        assert "Secret" not in kinds


def test_the_shop_is_that_of_the_lessons_before() -> None:
    lessons = [
        *objects(workloads.NAMESPACE_FILE),
        *objects(workloads.EXTERNAL_SECRET_FILE),
        *objects(workloads.APPLICATION_FILE),
    ]
    shop = map(essence, objects(f"{REPOSITORY}/shop"))
    assert by_name(shop) == by_name(lessons)
    store = map(essence, objects(f"{REPOSITORY}/store"))
    assert by_name(store) == by_name(objects(workloads.STORE_FILE))


def test_each_application_deploys_a_folder_that_is_there_in_its_turn() -> None:
    waves: dict[str, int] = {}
    for obj in [*objects(f"{REPOSITORY}/apps"), *objects("argocd-root/platform.yaml")]:
        source = obj["spec"]["source"]
        if source["repoURL"] == OWN_URL:
            assert manifest(f"{REPOSITORY}/{source['path']}").is_dir()
        assert obj["spec"]["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
        annotations = obj["metadata"].get("annotations") or {}
        waves[obj["metadata"]["name"]] = int(annotations.get("argocd.argoproj.io/sync-wave", "0"))
    assert waves["external-secrets-crds"] < waves["external-secrets"] == waves["vault"]
    assert waves["vault"] < waves["store"] < waves["shop"]
