"""Who can read what: real reads, as somebody else, and the rule that decided each.

An identity gets what it would hold in earnest: a ServiceAccount its token from Kubernetes
and, through a role, one from Vault; a Vault token its policy and no more.  With that it
reads.  What it read is dropped unseen; what is kept is whether it could.  Vault's tokens
are revoked afterwards, Kubernetes' own end by themselves after ten minutes; none is shown.

Which identities and things are of interest, and how the answers are shown, is left to
others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import hvac
from hvac.exceptions import Forbidden, InvalidRequest
from hvac.exceptions import VaultError as HvacError
from requests import RequestException

from labkit import rules, vault
from labkit.errors import ApiError, LabError, VaultError
from labkit.identities import IDENTITIES, LEARNER, THINGS, Identity, Thing, command
from labkit.kube import Kube

__all__ = [
    "ALLOWED",
    "DENIED",
    "FAILED",
    "IDENTITIES",
    "LEARNER",
    "THINGS",
    "Identity",
    "Reader",
    "Thing",
    "Verdict",
]

ALLOWED, DENIED, FAILED = "allowed", "denied", "failed"
"""How a read ends; ``failed`` means that it could not be tried at all."""

_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@dataclass(frozen=True)
class Verdict:
    """How one read ended.

    ``rule`` says in a sentence what decided, ``text`` has its lines (a policy, a role; ""
    where there are none), ``said`` is the server's answer, ``command`` does the same in a
    terminal.  No value that was read is in any of them.
    """

    outcome: str
    rule: str
    text: str = ""
    said: str = ""
    command: str = ""


class Reader:
    """One identity in a lab, ready to read.  Use it with ``with``: its tokens end there.

    ``root`` is a client of Vault that may read roles and policies and make tokens; ``role``
    is the one with which ServiceAccounts log in; ``engine`` says what commands are called.
    """

    def __init__(
        self,
        kube: Kube,
        root: hvac.Client,
        identity: Identity,
        *,
        role: str = vault.ROLE,
        engine: vault.Engine = vault.ENGINES["openbao"],
    ) -> None:
        self._kube = kube
        self._root = root
        self._identity = identity
        self._role = role
        self._engine = engine
        self._ends: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._ends:
            # A Vault that has just gone ends the token by itself, in minutes.
            with suppress(LabError, HvacError, RequestException):
                self._ends.pop()()

    def read(self, thing: Thing) -> Verdict:
        """Read it once.  Never raises a LabError: what cannot be tried is a verdict too."""
        line = command(self._identity, thing, role=self._role, engine=self._engine)
        try:
            verdict = self._in_vault(thing) if thing.is_in_vault else self._in_kubernetes(thing)
        except LabError as error:
            verdict = Verdict(FAILED, f"{error.what}. {error.todo}".strip(), said=error.seen)
        except (HvacError, RequestException) as error:
            verdict = Verdict(
                FAILED,
                "Vault could not be asked. `labkit up` mends a stopped or sealed one.",
                said=str(error).splitlines()[0][:200],
            )
        return replace(verdict, command=line)

    # -- Vault -----------------------------------------------------------------------------

    def _in_vault(self, thing: Thing) -> Verdict:
        login = self._login
        if login.client is None:
            return self._refused(login.refusal)
        is_there, words = False, ""
        try:
            is_there = login.client.read(thing.path) is not None  # and is dropped here
        except Forbidden as error:
            words = _words(error)
        said = f"Vault: {words or ('200 OK' if is_there else '404, nothing is there')}"
        if self._identity == LEARNER:
            return Verdict(
                DENIED if words else ALLOWED,
                "Your kubeconfig signs you in to Kubernetes. Vault knows tokens of its own, and "
                "this request brought none.",
                said=said,
            )
        rule, text = self._policy_rule(thing, login.policies, is_allowed=not words)
        if self._identity.kind == "account":
            rule = f"The role {self._role} lets it in. {rule}"
            text = f"{self._role_text()}\n{text}".rstrip()
        return Verdict(DENIED if words else ALLOWED, rule, text, said)

    @cached_property
    def _login(self) -> _Login:
        """What Vault gives this identity; asked once."""
        identity = self._identity
        if identity == LEARNER:
            return _Login(vault.open_client(self._kube))
        if identity.kind == "token":
            made = self._root.auth.token.create(
                policies=[identity.name], ttl="1m", no_default_policy=identity.name != "default"
            )["auth"]
        else:
            jwt = self._token((vault.AUDIENCE,))
            try:
                made = vault.login(vault.open_client(self._kube), jwt, role=self._role)
            except VaultError as error:
                # Refused is an answer; a Vault that is sealed or gone is not.
                if isinstance(error.__cause__, Forbidden | InvalidRequest):
                    return _Login(None, refusal=error.seen)
                raise
        self._ends.append(lambda: self._root.auth.token.revoke_accessor(made["accessor"]))
        token = made["client_token"]
        return _Login(vault.open_client(self._kube, token), tuple(made["policies"]))

    def _refused(self, words: str) -> Verdict:
        role, identity = self._role_data(), self._identity
        if role is None:
            rule = f"Vault has no role {self._role} with which it could log in."
        elif "service account name" in words:
            names = _list(role["bound_service_account_names"])
            rule = (
                f"The role {self._role} refuses the login: its bound_service_account_names are "
                f"{names}, and this is {identity.name}."
            )
        elif "namespace" in words:
            names = _list(role["bound_service_account_namespaces"])
            rule = (
                f"The role {self._role} refuses the login: its bound_service_account_namespaces "
                f"are {names}, and this is {identity.namespace}."
            )
        else:
            rule = f"Vault refuses the login with the role {self._role}."
        return Verdict(DENIED, rule, self._role_text(), f"Vault: {words}")

    def _policy_rule(
        self, thing: Thing, policies: tuple[str, ...], *, is_allowed: bool
    ) -> tuple[str, str]:
        if "root" in policies:
            return "The policy root allows everything; it has no text.", ""
        names = ", ".join(policies)
        texts = {name: self._policy(name) for name in policies}
        stanzas = rules.deciding(texts, thing.path)
        text = "\n".join(
            f"# {self._engine.program} policy read {stanza.policy}\n{stanza.text}"
            for stanza in stanzas
        )
        if is_allowed:
            by = next((each.policy for each in stanzas if "read" in each.capabilities), names)
            return f"The policy {by} allows read on this path.", text
        if stanzas:
            allows = _list(sorted({word for each in stanzas for word in each.capabilities}))
            return f"Its policies ({names}) say {allows} of this path, and no read.", text
        rule = (
            f"No policy of its token ({names}) names this path, and Vault denies what no policy "
            "allows."
        )
        if missing := [name for name in policies if not texts[name]]:
            rule += f" There is no policy {' or '.join(missing)} at all."
        return rule, text

    def _policy(self, name: str) -> str:
        try:
            return str(self._root.sys.read_policy(name)["data"]["rules"])
        except HvacError:
            return ""  # a token may name a policy that is not there (yet)

    def _role_data(self) -> dict[str, Any] | None:
        try:
            found = self._root.read(f"auth/kubernetes/role/{self._role}")
        except HvacError:
            return None
        return found["data"] if isinstance(found, dict) else None

    def _role_text(self) -> str:
        role = self._role_data()
        if role is None:
            return ""
        lines = [f"# {self._engine.program} read auth/kubernetes/role/{self._role}"]
        for key in (
            "bound_service_account_names",
            "bound_service_account_namespaces",
            "audience",
            "token_policies",
        ):
            value = role.get(key)
            lines.append(f"{key} = {_list(value) if isinstance(value, list) else value}")
        return "\n".join(lines)

    # -- Kubernetes ------------------------------------------------------------------------

    def _in_kubernetes(self, thing: Thing) -> Verdict:
        kube = self._signed_in
        said = "Kubernetes: 200 OK"
        outcome = ALLOWED
        try:
            kube.raw("GET", thing.api_path)  # and is dropped here
        except ApiError as error:
            said = f"Kubernetes: {error.seen}"
            if error.status == 401:
                return Verdict(
                    DENIED,
                    "To Kubernetes a token of Vault's is nobody: it is turned away before any "
                    "rule is looked at.",
                    said=said,
                )
            if error.status == 404:
                said = "Kubernetes: 404, nothing is there"
            elif error.status == 403:
                outcome = DENIED
            else:
                raise
        if outcome == ALLOWED:
            return Verdict(outcome, *self._rbac_rule(kube, thing), said)
        return Verdict(outcome, *self._no_rule(thing), said)

    @cached_property
    def _signed_in(self) -> Kube:
        """The Kubernetes API as this identity."""
        if self._identity == LEARNER:
            return self._kube
        if self._identity.kind == "account":
            kube = self._kube.with_token(self._token(()))
        else:
            client = self._login.client
            kube = self._kube.with_token(client.token if client else "")
        self._ends.append(kube.close)
        return kube

    def _token(self, audiences: tuple[str, ...]) -> str:
        account = self._identity
        try:
            return self._kube.token(account.name, account.namespace, audiences=audiences)
        except ApiError as error:
            raise LabError(
                f"Kubernetes gives no token for the ServiceAccount {account.title}",
                seen=error.seen,
                todo=f"See `kubectl -n {account.namespace} get serviceaccounts`.",
            ) from error

    def _rbac_rule(self, kube: Kube, thing: Thing) -> tuple[str, str]:
        verb = "get" if thing.name else "list"
        asked = {"namespace": thing.namespace, "verb": verb, "resource": "secrets"}
        answer = kube.request(
            "POST",
            _REVIEW,
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {**asked, "name": thing.name}},
            },
        )
        reason = str(answer["status"].get("reason") or "")
        if not reason:
            return self._without_reason(kube), ""
        # Read as the learner: who is allowed by a Role may seldom read it.
        text = rules.rbac_text(self._kube, reason, thing.namespace, verb=verb, resource="secrets")
        return f"{reason}.", text

    def _without_reason(self, kube: Kube) -> str:
        who = kube.request(
            "POST",
            _WHOAMI,
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )["status"]["userInfo"]
        if "system:masters" in (who.get("groups") or []):
            return (
                f"{who['username']} is in the group system:masters: the API server allows it "
                "everything, before any rule is looked at."
            )
        return "The API server allows it, and does not say by which rule."

    def _no_rule(self, thing: Thing) -> tuple[str, str]:
        verb = "get" if thing.name else "list"
        rule = (
            f"No Role that is bound to it allows {verb} on secrets in the namespace "
            f"{thing.namespace}, and RBAC denies what no Role allows."
        )
        account = self._identity
        bound = rules.bindings_of(self._kube, account.namespace, account.name, thing.namespace)
        text = "# what is bound to it by name\n" + "\n".join(bound or ["nothing"])
        return rule, text


@dataclass(frozen=True)
class _Login:
    """What Vault gave: a client with a token of its own, or its words when it refused."""

    client: hvac.Client | None
    policies: tuple[str, ...] = ()
    refusal: str = ""


def _list(words: Any) -> str:
    return f"[{', '.join(words)}]"


def _words(error: HvacError) -> str:
    said = " ".join("; ".join(map(str, error.errors or [])).split())
    # Some of Vault's answers count their errors first.
    return "403 " + re.sub(r"^\d+ errors? occurred: \* ", "", said)
