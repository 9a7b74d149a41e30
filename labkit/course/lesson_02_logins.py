"""Real logins: what a ServiceAccount's token is worth at Vault's Kubernetes auth.

Whether a role is narrow cannot be read off its text with certainty; it can be tried.  Each
attempt asks Kubernetes for a token, logs in with it and reads with what Vault gave; Vault's
token is revoked at once, and neither token is kept or shown.

What is expected of which role is said by the lesson's exercises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import hvac

from labkit import vault
from labkit.checks import Finding, Scene, met, not_yet
from labkit.errors import ApiError, LabError, VaultError

HOUR = 3600  # seconds
ROLES = "auth/kubernetes/role"


@dataclass(frozen=True)
class Account:
    """A ServiceAccount, as ``namespace/name``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


ESO = Account(*vault.READER)


@dataclass(frozen=True)
class Attempt:
    """How a login ended: ``words`` are Vault's when it refused, "" when it did not.

    ``ttl`` is the time to live of the token that it gave, in seconds; ``policies`` are
    the token's; ``read`` are those of the asked KV v2 keys which it could really read.
    """

    words: str = ""
    ttl: int = 0
    policies: tuple[str, ...] = ()
    read: frozenset[str] = frozenset()

    @property
    def is_in(self) -> bool:
        return not self.words


def attempt(
    scene: Scene,
    role: str,
    account: Account,
    *,
    audiences: Sequence[str] = (vault.AUDIENCE,),
    keys: Sequence[str] = (),
) -> Attempt:
    """Log in as ``account`` with ``role``, and read ``keys`` if that is allowed.

    Empty ``audiences`` ask for a token that is meant for the Kubernetes API itself.
    Raises LabError when there is no such account, or when Vault cannot be asked.
    """
    try:
        jwt = scene.kube.token(account.name, account.namespace, audiences=audiences)
    except ApiError as error:
        raise LabError(
            f"Kubernetes gives no token for the ServiceAccount {account}",
            seen=error.reason,
            todo="lesson.restart() makes the lesson's ServiceAccounts again.",
        ) from error
    try:
        auth = vault.login(vault.open_client(scene.kube), jwt, role=role)
    except VaultError as error:
        # Refused is an answer; a Vault that is sealed or gone is not.
        if isinstance(error.__cause__, hvac.exceptions.Forbidden | hvac.exceptions.InvalidRequest):
            return Attempt(words=error.seen)
        raise
    try:
        mine = vault.open_client(scene.kube, auth["client_token"])
        read = frozenset(key for key in keys if _can_read(mine, key))
    finally:
        scene.vault.auth.token.revoke_accessor(auth["accessor"])
    return Attempt(ttl=auth["lease_duration"], policies=tuple(auth["policies"]), read=read)


def _can_read(client: hvac.Client, key: str) -> bool:
    try:
        return vault.read(client, key=key) is not None
    except VaultError as error:
        if isinstance(error.__cause__, hvac.exceptions.Forbidden):
            return False
        raise


def admitted(scene: Scene, role: str, account: Account) -> Finding:
    """Whether the account gets in; with the cause, by Vault's own words, when it does not."""
    expected = f"the ServiceAccount {account} may log in with the role {role}"
    tried = attempt(scene, role, account)
    if tried.is_in:
        return met(expected)
    return not_yet(
        expected,
        f"Vault refuses it: {tried.words}",
        next=_why(tried.words, role, account),
        blocks=True,
    )


def _why(words: str, role: str, account: Account) -> str:
    if "invalid role name" in words:
        return f"Vault has no role {role}: write it to auth/kubernetes/role/{role}."
    if "service account name" in words:
        return (
            "bound_service_account_names must have the name of the ServiceAccount in it: "
            f"{account.name}."
        )
    if "namespace" in words:
        return (
            "bound_service_account_namespaces must have the ServiceAccount's namespace in it: "
            f"{account.namespace}."
        )
    if "audience" in words:
        return (
            f"The role's audience is not the token's: it comes with the audience {vault.AUDIENCE}."
        )
    if "permission denied" in words:
        return (
            "Vault has no Kubernetes auth any more (`bao auth list` shows it), or may not ask the "
            "API about tokens. lesson.restart() sets both up again."
        )
    return f"Look at what the role says: `bao read auth/kubernetes/role/{role}`."


def refused(
    scene: Scene, role: str, account: Account, *, audiences: Sequence[str], why: str, hint: str
) -> Finding:
    """Whether a token of the account is refused; ``why`` says in words whose token it is."""
    expected = f"{why} is refused"
    tried = attempt(scene, role, account, audiences=audiences)
    if not tried.is_in:
        return met(expected)
    return not_yet(
        expected,
        f"{account} gets in with it" if not audiences else f"{account} gets in",
        next=hint,
    )


def short_lived(scene: Scene, role: str, account: Account) -> Finding:
    """Whether what Vault gives lives for an hour at most."""
    expected = "the token that Vault gives lives for an hour at most"
    ttl = attempt(scene, role, account).ttl
    if ttl <= HOUR:
        return met(expected)
    return not_yet(
        expected,
        f"it lives for {ttl // HOUR} hours",
        next="Give the role a token_ttl of minutes, such as 10m.",
        hint="What is not named in a `bao write` stays as it was, and a role that never had a "
        "time gets Vault's own, 32 days. Name a token_ttl of minutes.",
    )
