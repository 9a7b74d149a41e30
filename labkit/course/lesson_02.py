"""Lesson 02: a way in for a program that nobody gave a token, and how wide it is open."""

from __future__ import annotations

from hvac.exceptions import InvalidPath

from labkit import vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course import script as scripts
from labkit.course.lesson_02_logins import (
    ESO,
    ROLES,
    Account,
    admitted,
    attempt,
    refused,
    short_lived,
)
from labkit.course.lesson_02_quiz import QUIZ
from labkit.course.lesson_02_team import TEAM, TEAM_SECRET
from labkit.course.model import Exercise, Fault, Lesson
from labkit.vault import AUDIENCE, MOUNT, POLICY, ROLE

NAMES = {
    "visitor": "playground",
    "team": "team-blue",
    "account": "reporter",
    "role": "blue-reports",
}


# As in many a tutorial: everybody in the cluster may read, and for a whole day.
LOOSE_ROLE = f"""\
bao delete {ROLES}/{ROLE} > /dev/null
bao write {ROLES}/{ROLE} bound_service_account_names='*' bound_service_account_namespaces='*' \\
    token_policies={POLICY} token_ttl=24h > /dev/null
"""
ACCOUNTS = scripts.applied("02-kubernetes-auth/accounts.yaml")
BEGIN = ACCOUNTS + LOOSE_ROLE + TEAM_SECRET


@expects("the role exists")
def role_exists(scene: Scene) -> Finding:
    expected = f"Vault has a role {ROLE}"
    try:
        scene.vault.auth.kubernetes.read_role(ROLE)
    except InvalidPath:
        pass
    else:
        return met(expected)
    return not_yet(
        expected,
        "it has none of that name",
        next=f"Write it to {ROLES}/{ROLE}; lesson.undo('role') brings the loose one back.",
        blocks=True,
    )


@expects("a token that is not meant for Vault is refused")
def role_has_audience(scene: Scene) -> Finding:
    return refused(
        scene,
        ROLE,
        ESO,
        audiences=(),
        why="a token that is not meant for Vault",
        hint=f"The role names no audience, so a token that was made for another program will "
        f"do. Give it audience={AUDIENCE}.",
    )


@expects("ESO gets in")
def role_admits_eso(scene: Scene) -> Finding:
    return admitted(scene, ROLE, ESO)


@expects("ESO reads the secret")
def role_reads(scene: Scene) -> Finding:
    expected = f"what ESO gets there reads {MOUNT}/{vault.KEY}"
    tried = attempt(scene, ROLE, ESO, keys=(vault.KEY,))
    if tried.read:
        return met(expected)
    return not_yet(
        expected,
        f"it is denied there; its policies are {', '.join(tried.policies) or 'none'}",
        next=f"The role's token_policies are what its tokens may do: {POLICY}, which is there.",
    )


@expects("another ServiceAccount is refused")
def role_refuses_account(scene: Scene) -> Finding:
    return refused(
        scene,
        ROLE,
        Account(ESO.namespace, "default"),
        audiences=(AUDIENCE,),
        why="another ServiceAccount of the same namespace",
        hint="bound_service_account_names lets in more than one name. Name the one that needs it: "
        f"{ESO.name}.",
    )


@expects("another namespace is refused")
def role_refuses_namespace(scene: Scene) -> Finding:
    return refused(
        scene,
        ROLE,
        Account(scene["visitor"], ESO.name),
        audiences=(AUDIENCE,),
        why="a ServiceAccount of the same name in another namespace",
        hint="bound_service_account_namespaces lets in more than one namespace, and in another "
        f"one anybody may call a ServiceAccount {ESO.name}. Name the one: {ESO.namespace}.",
    )


@expects("what it gives ends soon")
def role_is_short(scene: Scene) -> Finding:
    return short_lived(scene, ROLE, ESO)


ROLE_EXERCISE = Exercise(
    name="role",
    title="A role for one ServiceAccount",
    script=f"""\
bao write {ROLES}/{ROLE} \\
    bound_service_account_names={ESO.name} \\
    bound_service_account_namespaces={ESO.namespace} \\
    audience={AUDIENCE} \\
    token_policies={POLICY} \\
    token_ttl=10m
""",
    undo=LOOSE_ROLE,
    blanks=(
        f"bound_service_account_names=⟦{ESO.name}⟧",
        f"bound_service_account_namespaces=⟦{ESO.namespace}⟧",
        f"audience=⟦{AUDIENCE}⟧",
        f"token_policies=⟦{POLICY}⟧",
        "token_ttl=⟦10m⟧",
    ),
    expectations=(
        role_exists,
        role_has_audience,
        role_admits_eso,
        role_reads,
        role_refuses_account,
        role_refuses_namespace,
        role_is_short,
    ),
    hints=(
        "The sub claim of ESO's token, which you decoded above, holds the namespace and the name.",
        f"Name and namespace are both {ESO.name}, the audience is {AUDIENCE}, the policy is "
        f"{POLICY}, and 10m is ten minutes.",
    ),
    faults=(
        Fault("it is deleted", f"bao delete {ROLES}/{ROLE}", role_exists, "loose one"),
        Fault(
            "no audience",
            f"bao write {ROLES}/{ROLE} audience=",
            role_has_audience,
            "names no audience",
        ),
        Fault(
            "another audience",
            f"bao write {ROLES}/{ROLE} audience=vaults",
            role_admits_eso,
            "audience is not the token's",
        ),
        Fault(
            "another ServiceAccount",
            f"bao write {ROLES}/{ROLE} bound_service_account_names=vault",
            role_admits_eso,
            "bound_service_account_names",
        ),
        Fault(
            "another namespace",
            f"bao write {ROLES}/{ROLE} bound_service_account_namespaces=vault",
            role_admits_eso,
            "bound_service_account_namespaces",
        ),
        Fault(
            "a policy that is not there",
            f"bao write {ROLES}/{ROLE} token_policies=demo-reed",
            role_reads,
            "token_policies",
        ),
        Fault(
            "every name",
            f"bao write {ROLES}/{ROLE} bound_service_account_names='*'",
            role_refuses_account,
            "more than one name",
        ),
        Fault(
            "every namespace",
            f"bao write {ROLES}/{ROLE} bound_service_account_namespaces='*'",
            role_refuses_namespace,
            "more than one namespace",
        ),
        Fault(
            "a day",
            f"bao write {ROLES}/{ROLE} token_ttl=24h",
            role_is_short,
            "token_ttl",
        ),
    ),
)


LESSON = Lesson(
    number=2,
    slug="kubernetes-auth",
    title="Kubernetes auth",
    stage="trust",
    begins_with="Vault, told to ask this cluster about tokens, and a role demo that lets everybody "
    "in",
    missing="a role that deserves the name, and a store that uses it",
    begin=BEGIN,
    names=NAMES,
    exercises=(ROLE_EXERCISE, TEAM),
    quiz=QUIZ,
)
