"""Lesson 08's first exercise: let the evidence say which link is broken, and mend that one.

The trap is to make it work by allowing more.  So the checkpoint logs in itself: as ESO does,
as another, and for another secret.
"""

from __future__ import annotations

from labkit import vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_02_logins import Account, admitted, attempt, refused
from labkit.course.lesson_04_looks import is_behind, secret_data, sync_of
from labkit.course.lesson_08_team import (
    BREAK,
    EXTERNAL_SECRET,
    EXTERNAL_SECRET_APPLIED,
    FETCH,
    GOOD_POLICY,
    POLICY,
    READER,
    ROLE,
    key,
    role,
)
from labkit.course.model import Exercise, Fault
from labkit.vault import AUDIENCE, MOUNT


def _reader(scene: Scene) -> Account:
    return Account(scene["team"], READER)


def _key(scene: Scene) -> str:
    return key(scene["team"])


def _fetch(scene: Scene) -> str:
    return (
        f"`kubectl -n {scene['team']} annotate externalsecret {EXTERNAL_SECRET} "
        "force-sync=$(date +%s) --overwrite`"
    )


@expects("Vault lets ESO read the team's secret")
def is_let_in(scene: Scene) -> Finding:
    account, asked = _reader(scene), _key(scene)
    expected = f"the ServiceAccount {account} reads {MOUNT}/{asked}"
    tried = attempt(scene, ROLE, account, keys=(asked,))
    if not tried.is_in:
        return admitted(scene, ROLE, account)
    if asked in tried.read:
        return met(expected)
    there = set(scene.vault.sys.list_policies()["data"]["policies"])
    return not_yet(
        expected,
        "it logs in, and its read is denied",
        next="Find the line of step 7 in Vault's log: with which policies was it refused?",
        hint="That line names the token's policies, and Vault believes any name. Compare it with "
        "`bao policy list`: which of them is not there, and who gave it to the token?"
        if set(tried.policies) - there
        else "Its policies exist, and none of them allows that path: `bao policy read NAME` shows "
        "what one allows. There is a policy that does; the role's token_policies must name it.",
        blocks=True,
    )


@expects("ESO has fetched it")
def is_fetched(scene: Scene) -> Finding:
    expected = f"the Secret {EXTERNAL_SECRET} holds what Vault holds, by ESO's hand"
    team = scene["team"]
    sync = sync_of(scene, EXTERNAL_SECRET, team)
    same = secret_data(scene, EXTERNAL_SECRET, team) == vault.read(scene.vault, key=_key(scene))
    if sync.state == "synced" and same:
        return met(expected)
    observed = {
        "missing": "there is no such ExternalSecret",
        "settling": "ESO is at work",
        "failed": "ESO was refused the last time it tried",
        "synced": "it holds something else",
    }[sync.state]
    hint = ""
    if sync.state == "missing":
        hint = (
            "Without an ExternalSecret nobody fetches anything, the next rotation neither. "
            "lesson.undo('mend') brings it back."
        )
    elif sync.state == "failed":
        hint = (
            f"ESO tries again by itself, after longer and longer pauses. Ask now: {_fetch(scene)}"
        )
    return not_yet(
        expected,
        observed,
        next=f"Ask ESO to fetch it now: {_fetch(scene)}",
        hint=hint,
        settling=sync.state == "settling"
        or (sync.state == "synced" and is_behind(scene, EXTERNAL_SECRET, team, _key(scene))),
    )


@expects("it may do nothing else")
def is_narrow(scene: Scene) -> Finding:
    path = f"{MOUNT}/data/{_key(scene)}"
    expected = f"it may read {path}, and do nothing else"
    tried = attempt(scene, ROLE, _reader(scene), keys=(vault.KEY,))
    if tried.read:
        return not_yet(
            expected,
            f"it also reads {MOUNT}/{vault.KEY}, which is the shop's",
            next="Take back whatever was given beyond the one policy and its one path.",
            hint="More than was missing: look for a second policy in the role's token_policies, "
            "or for a * in a policy's path.",
        )
    more: set[str] = set()
    for policy in set(tried.policies) - {"default"}:
        more |= vault.may(scene.vault, policy, path) - {"read"}
    if more:
        return not_yet(
            expected,
            f"it may also {', '.join(sorted(more))}",
            next="Take the other capabilities away: ESO only reads.",
            hint='One capability is enough: ["read"]. What was refused was a read.',
        )
    return met(expected)


@expects("nobody else gets in")
def is_alone(scene: Scene) -> Finding:
    others = refused(
        scene,
        ROLE,
        Account(scene["team"], "default"),
        audiences=(AUDIENCE,),
        why="another ServiceAccount of the team",
        hint=f"Nobody was refused because of a name. Set bound_service_account_names={READER}.",
    )
    if not others.is_met:
        return others
    strangers = refused(
        scene,
        ROLE,
        _reader(scene),
        audiences=(),
        why="a token that is not meant for Vault",
        hint=f"The role has lost its audience: set audience={AUDIENCE}.",
    )
    return met("nobody else gets in, and with no other token") if strangers.is_met else strangers


MEND = Exercise(
    name="mend",
    title="Mend the one link that is broken",
    script=f"""\
bao write auth/kubernetes/role/{ROLE} token_policies={POLICY}
{FETCH}""",
    undo=f"{GOOD_POLICY}{BREAK}{EXTERNAL_SECRET_APPLIED}{FETCH}",
    start="""\
# Mend what step 7 complains of, and allow no more than was allowed before.
# `bao read` and `bao write` look at a role and change it, `bao policy list` and
# `bao policy read` show policies. Then ask ESO to fetch the secret now (force-sync).""",
    expectations=(is_let_in, is_fetched, is_narrow, is_alone),
    hints=(
        f"A token gets its policies from the role: `bao read auth/kubernetes/role/{ROLE}`. And "
        f"`bao policy read {POLICY}` is what the team has.",
        f"The role says stock-reed and means {POLICY}: "
        f"`bao write auth/kubernetes/role/{ROLE} token_policies={POLICY}` changes that and "
        "leaves the rest of the role as it is.",
    ),
    faults=(
        Fault("it is still misspelt", BREAK, is_let_in, "bao policy list"),
        Fault(
            "another policy that there is",
            role(vault.POLICY),
            is_let_in,
            "none of them allows",
        ),
        Fault(
            "the role is deleted",
            f"bao delete auth/kubernetes/role/{ROLE}",
            is_let_in,
            "has no role",
        ),
        Fault(
            "the ExternalSecret is deleted",
            f"kubectl -n warehouse delete externalsecret {EXTERNAL_SECRET}",
            is_fetched,
            "nobody fetches",
        ),
        Fault(
            "a second policy",
            role(f"{POLICY},{vault.POLICY}"),
            is_narrow,
            "second policy",
        ),
        Fault(
            "it may write too",
            GOOD_POLICY.replace('["read"]', '["read", "update"]'),
            is_narrow,
            "one capability",
        ),
        Fault(
            "every ServiceAccount",
            role(POLICY, "'*'"),
            is_alone,
            "bound_service_account_names",
        ),
        Fault(
            "any audience",
            f"bao write auth/kubernetes/role/{ROLE} audience=",
            is_alone,
            "audience",
        ),
    ),
)
