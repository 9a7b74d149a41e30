"""Which rule decided: the stanza of a Vault policy, the Role behind an answer of RBAC.

Both programs decide for themselves and say little of why.  Here their rules are read as
text, to show a learner the lines that mattered; whether something was allowed is never
concluded from them (``access`` tries it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from labkit.errors import ApiError
from labkit.kube import Kube, Object

_RBAC = "rbac.authorization.k8s.io/v1"
_STANZA = re.compile(r'path\s+"(?P<path>[^"]+)"\s*\{(?P<body>[^{}]*)\}')
_CAPABILITIES = re.compile(r"capabilities\s*=\s*\[(?P<words>[^\]]*)\]")
_REASON = re.compile(
    r'allowed by (?P<binding_kind>\w+) "(?P<binding>[^"]+)" of (?P<kind>\w+) "(?P<name>[^"]+)"'
)


# -- Vault -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Stanza:
    """One ``path "…" { … }`` of a Vault policy; ``text`` is as it was written."""

    policy: str
    path: str
    capabilities: frozenset[str]
    text: str


def deciding(policies: Mapping[str, str], path: str) -> tuple[Stanza, ...]:
    """The stanzas that decide on ``path`` for a token with these policies (name → text).

    Of all patterns that fit, the most specific one decides, and whatever the policies say
    about that pattern counts together; empty when none fits (Vault then denies).
    Source: "Policies", Priority matching, in Vault's documentation.
    """
    fitting = [
        stanza for name, text in policies.items() for stanza in _stanzas(name, text)
        if _fits(stanza.path, path)
    ]  # fmt: skip
    if not fitting:
        return ()
    chosen = max((stanza.path for stanza in fitting), key=_specificity)
    return tuple(stanza for stanza in fitting if stanza.path == chosen)


def _stanzas(policy: str, text: str) -> list[Stanza]:
    without_comments = re.sub(r"^\s*(#|//).*$", "", text, flags=re.MULTILINE)
    return [
        Stanza(
            policy,
            found["path"].lstrip("/"),
            frozenset(re.findall(r'"([^"]+)"', words["words"]))
            if (words := _CAPABILITIES.search(found["body"]))
            else frozenset(),
            found[0],
        )
        for found in _STANZA.finditer(without_comments)
    ]


def _fits(pattern: str, path: str) -> bool:
    is_prefix = pattern.endswith("*")
    parts = re.escape(pattern.removesuffix("*")).split(r"\+")
    return bool(re.match("[^/]+".join(parts) + ("" if is_prefix else r"\Z"), path))


def _specificity(pattern: str) -> tuple[int, bool, int, int, str]:
    wildcard = re.search(r"\+|\*$", pattern)
    first = wildcard.start() if wildcard else len(pattern) + 1
    return (first, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern)


# -- Kubernetes --------------------------------------------------------------------------


def rbac_text(kube: Kube, reason: str, namespace: str, *, verb: str, resource: str) -> str:
    """The rules of the Role that ``reason`` names, as YAML: those which allow the request.

    ``resource`` is one of the core group; ``reason`` are the API server's words, in a
    SelfSubjectAccessReview or as the audit log's ``authorization.k8s.io/reason``.  "" when
    they name no Role that can be read.
    """
    found = _REASON.search(reason)
    if found is None:
        return ""
    role = kube.get(_RBAC, found["kind"], found["name"], namespace)
    rules = [
        rule
        for rule in (role or {}).get("rules") or []
        if {verb, "*"} & set(rule.get("verbs") or [])
        and {resource, "*"} & set(rule.get("resources") or [])
        and {"", "*"} & set(rule.get("apiGroups") or [])
    ]
    if not rules:
        return ""
    return f"# {found['kind']} {found['name']}\n" + yaml.safe_dump(
        {"rules": rules}, sort_keys=False, default_flow_style=None
    )


def bindings_of(kube: Kube, account: str, name: str, namespace: str) -> tuple[str, ...]:
    """What names this ServiceAccount (of the namespace ``account``) in RBAC, as far as
    ``namespace`` is concerned: ``ClusterRoleBinding x → ClusterRole y``, sorted.

    What is bound to groups of all ServiceAccounts is left out.
    """
    try:
        bindings = [
            *kube.list(_RBAC, "ClusterRoleBinding"),
            *kube.list(_RBAC, "RoleBinding", namespace),
        ]
    except ApiError:
        return ()  # a cluster where we may not look
    return tuple(
        sorted(
            f"{_kind(binding)} {binding['metadata']['name']} → "
            f"{binding['roleRef']['kind']} {binding['roleRef']['name']}"
            for binding in bindings
            for subject in binding.get("subjects") or []
            if (subject.get("kind"), subject.get("namespace"), subject.get("name"))
            == ("ServiceAccount", account, name)
        )
    )


def _kind(binding: Object) -> str:
    # Objects in a list come without their kind.
    return "RoleBinding" if binding["metadata"].get("namespace") else "ClusterRoleBinding"
