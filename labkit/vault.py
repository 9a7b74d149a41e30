"""What the course does with Vault: bring it up, connect it to Kubernetes, rotate.

Vault is reached through the API server's service proxy, so the same lines work on the
embedded cluster and on any other.  Both engines (OpenBao and HashiCorp Vault) speak
the API that ``hvac`` speaks; where they differ, ``Engine`` says so.

It leaves running Vault to the cluster and keeping the token to ``lab``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import hvac
import requests
from hvac.exceptions import VaultError as HvacError
from requests.adapters import HTTPAdapter

from labkit.errors import ApiError, UsageError, VaultError
from labkit.kube import Kube

NAMESPACE = "vault"
SERVICE = "vault"
PORT = "http"
POD = "vault-0"
ADDRESS = "http://vault.vault:8200"

MOUNT = "secret"
KEY = "mysql_credentials"
ROLE = "demo"
POLICY = "demo-read"
AUDIENCE = "vault"
_BUILT_IN = {"cubbyhole", "identity", "system", "token", "ns_cubbyhole", "ns_system"}
READER = ("external-secrets", "external-secrets")  # namespace, ServiceAccount

POLICY_TEXT = f"""\
# KV v2 keeps the data below data/: a policy on {MOUNT}/{KEY} alone would read nothing.
path "{MOUNT}/data/{KEY}" {{
  capabilities = ["read"]
}}
"""


@dataclass(frozen=True)
class Engine:
    """One of the two programs that can be the lab's Vault."""

    name: str
    title: str
    program: str
    manifest: str
    token_variable: str


ENGINES = {
    "openbao": Engine("openbao", "OpenBao", "bao", "vault/openbao.yaml", "BAO_TOKEN"),
    "hashicorp": Engine(
        "hashicorp", "HashiCorp Vault", "vault", "vault/hashicorp.yaml", "VAULT_TOKEN"
    ),
}


def engine(name: str) -> Engine:
    """The engine called ``name``; raises UsageError for a name that is none."""
    if name not in ENGINES:
        raise UsageError(
            f"There is no Vault engine called {name!r}", todo=f"Choose from: {', '.join(ENGINES)}."
        )
    return ENGINES[name]


@dataclass(frozen=True)
class Keys:
    """What initialising Vault returns, once: shown to nobody, kept 0600 by ``lab``."""

    root_token: str = field(repr=False)
    unseal_key: str = field(repr=False)


def open_client(kube: Kube, token: str | None = None, *, namespace: str = NAMESPACE) -> hvac.Client:
    """A client of the lab's Vault (or of another ``namespace``'s), through the API server's
    service proxy."""
    session = requests.Session()
    session.trust_env = False  # the way leads to the API server: no proxy of the user's
    session.mount("https://", _ClusterAdapter(kube))
    session.headers.update(kube.auth_headers)
    url = kube.server + kube.service_path(namespace, SERVICE, PORT)
    return hvac.Client(url=url, token=token, session=session, timeout=10)


class _ClusterAdapter(HTTPAdapter):
    """Lets requests use the certificates that the Kubernetes client already holds."""

    def __init__(self, kube: Kube) -> None:
        self._context = kube.ssl_context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)


def wait_answering(client: hvac.Client, *, timeout: float) -> bool:
    """Wait until Vault answers at all; whether it is initialised by then.

    ``timeout`` is in seconds.  Raises VaultError with the last answer seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return cast(bool, client.sys.is_initialized())
        except (HvacError, requests.RequestException) as error:
            # A Vault that is starting: the service proxy says 503 or drops the call.
            if time.monotonic() > deadline:
                raise VaultError(
                    f"Vault did not answer within {timeout:g} s",
                    seen=str(error)[:200],
                    todo=f"See `kubectl -n {NAMESPACE} get pods` and `labkit logs vault`.",
                ) from error
        time.sleep(0.05)


def initialise(client: hvac.Client) -> Keys:
    """Initialise and unseal a new Vault with one key share.

    A real Vault is initialised with several shares, held by several people: one is
    for a lab.  Source: ``/sys/init`` and ``/sys/unseal`` of Vault's HTTP API.
    """
    with _explained("initialise"):
        answer = client.sys.initialize(secret_shares=1, secret_threshold=1)
    keys = Keys(answer["root_token"], answer["keys_base64"][0])
    unseal(client, keys.unseal_key)
    client.token = keys.root_token
    wait_active(client)
    return keys


def unseal(client: hvac.Client, key: str) -> None:
    """Give Vault its key share; safe to repeat."""
    with _explained("unseal"):
        client.sys.submit_unseal_key(key)


def wait_active(client: hvac.Client) -> None:
    """Wait until an unsealed Vault serves requests (at most 10 seconds)."""
    deadline = time.monotonic() + 10
    while not _is_active_yet(client):
        if time.monotonic() > deadline:
            raise VaultError("Vault was unsealed but did not become active within 10 s")
        time.sleep(0.02)


def health(client: hvac.Client) -> dict[str, Any]:
    """Vault's own account: ``initialized``, ``sealed``, ``standby``, ``version``.

    Raises VaultError when it does not answer.
    Source: ``/sys/health`` of Vault's HTTP API, asked to say 200 whatever its state is.
    """
    with _explained("say how it is"):
        answer = client.sys.read_health_status(method="GET", sealed_code=200, uninit_code=200)
    if not isinstance(answer, dict):  # the service proxy's own answer, then
        raise VaultError(
            "Vault does not answer",
            seen=f"HTTP {answer.status_code} {answer.text[:200]}".strip(),
            todo=f"See `kubectl -n {NAMESPACE} get pods`; `labkit up` mends a stopped Vault.",
        )
    return answer


def is_active(client: hvac.Client) -> bool:
    """Whether Vault serves requests: initialised, unsealed, not a standby."""
    found = health(client)
    return bool(found["initialized"] and not found["sealed"] and not found["standby"])


def _is_active_yet(client: hvac.Client) -> bool:
    try:
        return is_active(client)
    except VaultError:  # it is on its way
        return False


def open_store(client: hvac.Client) -> bool:
    """An audit device on the pod's standard output and a KV v2 mount; safe to repeat.

    False when the mount was there already.
    """
    with _explained("enable its audit device and its KV mount"):
        if not client.sys.list_enabled_audit_devices()["data"]:
            client.sys.enable_audit_device("file", path="stdout", options={"file_path": "stdout"})
        if f"{MOUNT}/" in client.sys.list_mounted_secrets_engines()["data"]:
            return False
        client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    return True


def trust_cluster(client: hvac.Client, *, reviewer: Reviewer) -> None:
    """Kubernetes auth that asks this cluster, and a policy that reads one path; safe to
    repeat.  Nobody can log in yet: that takes a role."""
    with _explained("trust the cluster"):
        if "kubernetes/" not in client.sys.list_auth_methods()["data"]:
            client.sys.enable_auth_method("kubernetes")
        client.auth.kubernetes.configure(
            kubernetes_host=reviewer.kubernetes_host,
            kubernetes_ca_cert=reviewer.ca,
            token_reviewer_jwt=reviewer.jwt,
            disable_local_ca_jwt=reviewer.jwt is not None,
        )
        client.sys.create_or_update_policy(POLICY, POLICY_TEXT)


def admit_reader(client: hvac.Client) -> None:
    """One role, bound to one ServiceAccount (READER) for one audience; safe to repeat."""
    with _explained(f"create the role {ROLE}"):
        admit(client, ROLE, READER, POLICY)


def admit(client: hvac.Client, role: str, account: tuple[str, str], policy: str) -> None:
    """Let one ServiceAccount (namespace, name) log in with ``role``, for one audience and ten
    minutes at a time, with ``policy``; safe to repeat.  Raises hvac's own errors."""
    namespace, name = account
    client.auth.kubernetes.create_role(
        role,
        bound_service_account_names=[name],
        bound_service_account_namespaces=[namespace],
        audience=AUDIENCE,
        policies=[policy],
        ttl="10m",
    )


@dataclass(frozen=True)
class Reviewer:
    """How Vault asks the Kubernetes API about a token.

    With ``jwt`` None, Vault uses its own pod's mounted token and CA (the rule on a
    real cluster).  Where a pod cannot have them at their fixed path, both are given.
    """

    kubernetes_host: str = "https://kubernetes.default.svc"
    ca: str | None = None
    jwt: str | None = field(default=None, repr=False)


def write(client: hvac.Client, values: Mapping[str, str], *, key: str = KEY) -> int:
    """Write a new version of a KV v2 secret; the version's number."""
    with _explained(f"write {MOUNT}/{key}"):
        answer = client.secrets.kv.v2.create_or_update_secret(
            path=key, secret=dict(values), mount_point=MOUNT
        )
    return cast(int, answer["data"]["version"])


def read(client: hvac.Client, *, key: str = KEY) -> dict[str, str] | None:
    """The latest version of a KV v2 secret, or None when there is none."""
    try:
        with _explained(f"read {MOUNT}/{key}"):
            answer = client.secrets.kv.v2.read_secret_version(
                path=key, mount_point=MOUNT, raise_on_deleted_version=True
            )
    except VaultError as error:
        if isinstance(error.__cause__, hvac.exceptions.InvalidPath):
            return None
        raise
    return cast("dict[str, str]", answer["data"]["data"])


def may(client: hvac.Client, policy: str, path: str) -> frozenset[str]:
    """What a token with ``policy`` alone may do at an API path: ``read``, ``update``, …

    Empty when it is denied.  Asked of Vault itself with a real token that is revoked at
    once.  Source: ``/sys/capabilities`` of Vault's HTTP API.
    """
    with _explained(f"try the policy {policy}"):
        made = client.auth.token.create(policies=[policy], ttl="1m", no_default_policy=True)
        token = made["auth"]["client_token"]
        try:
            found = client.sys.get_capabilities(paths=[path], token=token)
        finally:
            client.auth.token.revoke(token)
    return frozenset(found.get("capabilities") or found["data"]["capabilities"]) - {"deny"}


def knows_token(client: hvac.Client) -> bool:
    """Whether Vault accepts the client's token; False too when Vault does not answer."""
    try:
        return bool(client.is_authenticated())
    except (HvacError, requests.RequestException):
        return False


def login(client: hvac.Client, jwt: str, *, role: str = ROLE) -> dict[str, Any]:
    """Log in as a ServiceAccount; the ``auth`` part of Vault's answer.

    Raises VaultError with Vault's own words when it refuses.
    """
    with _explained(f"log in with the role {role}"):
        answer = client.auth.kubernetes.login(role=role, jwt=jwt, use_token=False)
    return cast("dict[str, Any]", answer["auth"])


def forget(client: hvac.Client) -> None:
    """Remove every mount, auth method and policy that Vault did not come with."""
    with _explained("remove what is in it"):
        for path, mount in client.sys.list_mounted_secrets_engines()["data"].items():
            if mount["type"] not in _BUILT_IN:
                client.sys.disable_secrets_engine(path.rstrip("/"))
        for path, method in client.sys.list_auth_methods()["data"].items():
            if method["type"] not in _BUILT_IN:
                client.sys.disable_auth_method(path.rstrip("/"))
        for policy in client.sys.list_policies()["data"]["policies"]:
            if policy not in {"root", "default"}:
                client.sys.delete_policy(policy)


@dataclass(frozen=True)
class AuditEntry:
    """One line of Vault's audit device: who did what, when (unix seconds).

    Values in it are HMACs: Vault writes no secret to its audit log.

    A request and its response share an ``id``; whatever was done with one token shares
    an ``accessor`` (an HMAC), and so does the login that gave it.  ``account`` is the
    ServiceAccount behind the token, as ``namespace:name``; ``ttl`` the token's time to
    live in seconds; ``version`` that of a KV v2 secret which was read or written.
    """

    at: float
    type: str
    operation: str
    path: str
    identity: str
    error: str
    id: str = field(default="", repr=False)
    accessor: str = field(default="", repr=False)
    account: str = ""
    role: str = ""
    policies: tuple[str, ...] = ()
    ttl: int | None = None
    version: int | None = None


def audit(kube: Kube, *, since: float = 0.0) -> Iterator[AuditEntry]:
    """The audit device's lines from ``since`` (unix seconds) on, oldest first.

    It writes to the pod's standard output: reading it is reading the pod's log.
    Source: "Audit devices" in Vault's documentation (one JSON object a line).
    """
    query: dict[str, object] = {}
    if since:
        # The API cuts to whole seconds: ask for one more and filter here.
        query["sinceTime"] = datetime.fromtimestamp(since - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        text = kube.raw("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}/log", query=query)
    except ApiError as error:
        raise VaultError(
            "Vault's audit log cannot be read",
            seen=error.seen,
            todo=f"See `kubectl -n {NAMESPACE} get pods`.",
        ) from error
    for line in text.splitlines():
        entry = audit_entry(line)
        if entry and entry.at >= since:
            yield entry


def audit_entry(line: bytes) -> AuditEntry | None:
    """A line of the pod's log as the audit device's, or None: the server's own messages
    share the stream."""
    if not line.startswith(b'{"'):
        return None
    try:
        entry = json.loads(line)
        at = datetime.fromisoformat(entry["time"]).timestamp()
        request = entry["request"]
    except (ValueError, KeyError, TypeError):
        return None
    auth = entry.get("auth") or {}
    about = auth.get("metadata") or {}
    account = (about.get("service_account_namespace"), about.get("service_account_name"))
    return AuditEntry(
        at=at,
        type=entry.get("type", ""),
        operation=request.get("operation", ""),
        path=request.get("path", ""),
        identity=auth.get("display_name", ""),
        error=" ".join(entry.get("error", "").split()),
        id=request.get("id", ""),
        accessor=auth.get("accessor", ""),
        account=":".join(map(str, account)) if all(account) else "",
        role=about.get("role", ""),
        policies=tuple(auth.get("policies") or ()),
        ttl=auth.get("token_ttl"),
        version=_kv_version(entry),
    )


def _kv_version(entry: Mapping[str, Any]) -> int | None:
    """The version that a KV v2 answer tells; its numbers are no HMACs, its words are."""
    data = (entry.get("response") or {}).get("data")
    for _ in range(2):  # a read tells it below metadata, a write at once
        if isinstance(data, dict):
            if isinstance(data.get("version"), int):
                return cast(int, data["version"])
            data = data.get("metadata")
    return None


class _explained:
    """Raise hvac's and requests' errors as VaultError, with Vault's words in it."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, HvacError):
            said = "; ".join(map(str, error.errors or [])) or str(error).splitlines()[0]
            raise VaultError(
                f"Vault refused to {self._doing}",
                seen=said,
                todo=f"`labkit logs vault` shows the server's side; {_next_step(error)}",
            ) from error
        if isinstance(error, requests.RequestException):
            raise VaultError(
                f"Vault could not be reached to {self._doing}",
                seen=str(error)[:200],
                todo=f"See `kubectl -n {NAMESPACE} get pods`; `labkit up` mends a stopped lab.",
            ) from error


def _next_step(error: HvacError) -> str:
    if isinstance(error, hvac.exceptions.Forbidden):
        return "check the token's policies (`bao token lookup`) and the role's bindings."
    if isinstance(error, hvac.exceptions.InvalidPath):
        return "check the path: KV v2 is read with `bao kv get`, or below data/."
    if isinstance(error, hvac.exceptions.VaultDown):
        return "it is sealed or starting: `labkit up` unseals it."
    return "`labkit status` says what runs."
