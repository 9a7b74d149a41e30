"""Lesson 02's second exercise: a role and a policy for a team's own job, from nothing."""

from __future__ import annotations

from labkit import vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_02_logins import (
    ROLES,
    Account,
    admitted,
    attempt,
    refused,
    short_lived,
)
from labkit.course.model import Exercise, Fault
from labkit.vault import AUDIENCE, MOUNT, POLICY

TEAM_SECRET = f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={MOUNT} team-blue/reports \\
    username=reports_reader password=- > /dev/null
"""


def _team(scene: Scene) -> Account:
    return Account(scene["team"], scene["account"])


def _team_key(scene: Scene) -> str:
    return f"{scene['team']}/reports"


@expects("the team's job gets in")
def team_admitted(scene: Scene) -> Finding:
    return admitted(scene, scene["role"], _team(scene))


@expects("it reads the team's secret")
def team_reads(scene: Scene) -> Finding:
    key = _team_key(scene)
    expected = f"what it gets there reads {MOUNT}/{key}"
    tried = attempt(scene, scene["role"], _team(scene), keys=(key,))
    if tried.read:
        return met(expected)
    policies = ", ".join(tried.policies) or "none"
    return not_yet(
        expected,
        f"it is denied there; its policies are {policies}",
        next=f"The role's token_policies must name a policy that allows read on "
        f"{MOUNT}/data/{key}.",
        hint=f"A policy names API paths: with KV v2 it is {MOUNT}/data/{key}. And the role's "
        f"token_policies must name that policy (now: {policies}).",
    )


@expects("it reads nothing else")
def team_reads_nothing_else(scene: Scene) -> Finding:
    expected = f"it is denied at {MOUNT}/{vault.KEY}, which is the shop's"
    tried = attempt(scene, scene["role"], _team(scene), keys=(vault.KEY,))
    if not tried.read:
        return met(expected)
    return not_yet(
        expected,
        f"it reads that, too; its policies are {', '.join(tried.policies)}",
        next="Give the role one policy only, and name one path in that policy.",
        hint=f"Too wide: a policy of the role allows more than {MOUNT}/data/{_team_key(scene)}. "
        "Look for a * in its path, or for a second policy in token_policies.",
    )


@expects("nobody else gets in")
def team_alone(scene: Scene) -> Finding:
    team, role = _team(scene), scene["role"]
    tries = (
        (Account(team.namespace, "default"), "bound_service_account_names"),
        (Account(scene["visitor"], team.name), "bound_service_account_namespaces"),
    )
    for account, where in tries:
        finding = refused(
            scene,
            role,
            account,
            audiences=(AUDIENCE,),
            why="whoever else tries",
            hint=f"Look at {where} of the role: name what you mean, with no *.",
        )
        if not finding.is_met:
            return finding
    return refused(
        scene,
        role,
        team,
        audiences=(),
        why="whoever else tries, or with a token that is not meant for Vault,",
        hint=f"The role names no audience: give it audience={AUDIENCE}.",
    )


@expects("what the team's job gets ends soon")
def team_is_short(scene: Scene) -> Finding:
    return short_lived(scene, scene["role"], _team(scene))


def _team_policy(path: str) -> str:
    return (
        "bao policy write blue-reports - <<'POLICY'\n"
        f'path "{path}" {{\n  capabilities = ["read"]\n}}\nPOLICY\n'
    )


_TEAM_ROLE = f"bao write {ROLES}/blue-reports"

TEAM = Exercise(
    name="team",
    title="A role for a team's own job",
    script=f"""\
{_team_policy(f"{MOUNT}/data/team-blue/reports")}\
{_TEAM_ROLE} \\
    bound_service_account_names=reporter \\
    bound_service_account_namespaces=team-blue \\
    audience={AUDIENCE} \\
    token_policies=blue-reports \\
    token_ttl=15m
""",
    undo=f"""\
bao delete {ROLES}/blue-reports > /dev/null
bao policy delete blue-reports > /dev/null
""",
    start="""\
# Team blue's job runs as the ServiceAccount reporter of the namespace team-blue.
# 1. Write a policy blue-reports that reads secret/team-blue/reports, and nothing else.
# 2. Write a role blue-reports: who may log in, with a token for whom, what they may do,
#    and for how long (15 minutes will do).
""",
    expectations=(
        team_admitted,
        team_reads,
        team_reads_nothing_else,
        team_alone,
        team_is_short,
    ),
    hints=(
        "The policy is like the one of lesson 01, the role like the one above: "
        "`bao policy write NAME -` reads the policy from what follows it (<<'POLICY').",
        "Five lines in the role: bound_service_account_names=reporter, "
        f"bound_service_account_namespaces=team-blue, audience={AUDIENCE}, "
        "token_policies=blue-reports, token_ttl=15m.",
    ),
    faults=(
        Fault(
            "the role is deleted",
            f"bao delete {ROLES}/blue-reports",
            team_admitted,
            "no role",
        ),
        Fault(
            "name and namespace change places",
            f"{_TEAM_ROLE} bound_service_account_names=team-blue "
            "bound_service_account_namespaces=reporter",
            team_admitted,
            "bound_service_account_names",
        ),
        Fault(
            "data/ is left out of the path",
            _team_policy(f"{MOUNT}/team-blue/reports"),
            team_reads,
            "/data/",
        ),
        Fault(
            "the shop's policy comes along",
            f"{_TEAM_ROLE} token_policies=blue-reports,{POLICY}",
            team_reads_nothing_else,
            "second policy",
        ),
        Fault(
            "every name",
            f"{_TEAM_ROLE} bound_service_account_names='*'",
            team_alone,
            "bound_service_account_names",
        ),
        Fault(
            "every namespace",
            f"{_TEAM_ROLE} bound_service_account_namespaces='*'",
            team_alone,
            "bound_service_account_namespaces",
        ),
        Fault("no audience", f"{_TEAM_ROLE} audience=", team_alone, "no audience"),
        Fault("no time", f"{_TEAM_ROLE} token_ttl=0", team_is_short, "token_ttl"),
    ),
)
