"""Lesson 01: Vault by itself: versions, policies, tokens, the audit log."""

from __future__ import annotations

from typing import Any, cast

from hvac.exceptions import InvalidPath

from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.model import Choice, Exercise, Fault, Lesson, Question, Quiz
from labkit.vault import MOUNT, may

NAMES = {"key": "mysql_credentials", "policy": "app-read", "other": "billing_credentials"}

# A password goes in by standard input: an argument could be read in the process list.
TWO_VERSIONS = f"""\
bao kv metadata delete -mount={MOUNT} mysql_credentials
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={MOUNT} mysql_credentials \\
    url=jdbc:mysql://mysql.demo:3306/shop username=demo_user password=- > /dev/null
printf oops | bao kv put -mount={MOUNT} mysql_credentials \\
    url=jdbc:mysql://mysql.demo:3306/shop username=demo_usr password=- > /dev/null
"""

BEGIN = f"""\
{TWO_VERSIONS}
printf x | bao kv put -mount={MOUNT} billing_credentials username=billing password=- > /dev/null
bao policy delete app-read
"""


def _versions(scene: Scene) -> dict[int, dict[str, Any]]:
    """What Vault knows of each version of the learner's secret, by number."""
    try:
        found = scene.vault.secrets.kv.v2.read_secret_metadata(path=scene["key"], mount_point=MOUNT)
    except InvalidPath:
        return {}
    return {int(number): about for number, about in found["data"]["versions"].items()}


def _data(scene: Scene, version: int) -> dict[str, str] | None:
    """The values of one version; None when it is deleted, destroyed or was never there."""
    try:
        found = scene.vault.secrets.kv.v2.read_secret_version(
            path=scene["key"], version=version, mount_point=MOUNT, raise_on_deleted_version=True
        )
    except InvalidPath:
        return None
    return cast("dict[str, str]", found["data"]["data"])


@expects("versions 1 and 2 are still there")
def keeps_history(scene: Scene) -> Finding:
    expected = f"versions 1 and 2 of {MOUNT}/{scene['key']} can still be read"
    gone = [number for number in (1, 2) if _data(scene, number) is None]
    if not gone:
        return met(expected)
    return not_yet(
        expected,
        f"version {' and '.join(map(str, gone))} cannot be read any more",
        next="lesson.undo('rollback') writes both versions again.",
        blocks=True,
        hint="Rolling back needs no deleting: history is what makes it possible. "
        "lesson.undo('rollback') writes both versions again.",
    )


@expects("a new version holds what version 1 held")
def is_rolled_back(scene: Scene) -> Finding:
    expected = f"the newest version of {MOUNT}/{scene['key']} holds what version 1 held"
    versions = _versions(scene)
    newest = max(versions, default=0)
    if newest > 2 and _data(scene, newest) == _data(scene, 1):
        return met(expected, f"version {newest} holds what version 1 held")
    observed = (
        "there is no such secret"
        if not newest
        else "version 2 is still the newest"
        if newest == 2
        else f"version {newest} holds something else"
    )
    return not_yet(
        expected,
        observed,
        next="Make a new version from version 1: `bao kv rollback -help` says how.",
        hint="A rollback does not delete version 2. It writes a third version with the values of "
        "an old one, which is the one that -version names.",
    )


ROLLBACK = Exercise(
    name="rollback",
    title="Bring the good version back",
    script=f"bao kv rollback -mount={MOUNT} -version=1 mysql_credentials\n",
    undo=TWO_VERSIONS,
    blanks=(f"bao kv ⟦rollback⟧ -mount={MOUNT}", "-version=⟦1⟧"),
    expectations=(keeps_history, is_rolled_back),
    hints=(
        "`bao kv -help` lists what can be done with a secret: one of the words is what you want.",
        "The command names the mount, the version to go back to, and the key.",
    ),
    faults=(
        Fault(
            "the bad version is destroyed",
            f"bao kv destroy -mount={MOUNT} -versions=2 mysql_credentials",
            keeps_history,
            "history",
        ),
        Fault(
            "the other version is brought back",
            f"bao kv rollback -mount={MOUNT} -version=2 mysql_credentials",
            is_rolled_back,
            "values of an old one",
        ),
    ),
)


def _path(scene: Scene, name: str) -> str:
    return f"{MOUNT}/data/{scene[name]}"


@expects("the policy exists")
def policy_exists(scene: Scene) -> Finding:
    expected = f"Vault has a policy called {scene['policy']}"
    if scene["policy"] in scene.vault.sys.list_policies()["data"]["policies"]:
        return met(expected)
    return not_yet(
        expected,
        "it has none of that name",
        next="Write it: `bao policy write -help` says how.",
        blocks=True,
    )


@expects("a token with it reads the secret")
def policy_reads(scene: Scene) -> Finding:
    expected = f"a token with it may read {_path(scene, 'key')}"
    if "read" in may(scene.vault, scene["policy"], _path(scene, "key")):
        return met(expected)
    without_data = may(scene.vault, scene["policy"], f"{MOUNT}/{scene['key']}")
    return not_yet(
        expected,
        f"it is denied there, and allowed at {MOUNT}/{scene['key']}, where KV v2 keeps nothing"
        if without_data
        else "it is denied",
        next="Give the capability read on the path where KV v2 keeps the data.",
        hint=f"The path of a KV v2 secret in the API, and so in a policy, has data/ in it: "
        f"{_path(scene, 'key')}."
        if without_data
        else "",
    )


@expects("it changes nothing")
def policy_only_reads(scene: Scene) -> Finding:
    expected = "it may do nothing there but read"
    more = may(scene.vault, scene["policy"], _path(scene, "key")) - {"read"}
    if not more:
        return met(expected)
    return not_yet(
        expected,
        f"it may also {', '.join(sorted(more))}",
        next="Take the other capabilities away: the application only reads.",
        hint='One capability is enough: ["read"]. Whoever steals this token should be able to '
        "change nothing.",
    )


@expects("it reads nothing else")
def policy_reads_one_path(scene: Scene) -> Finding:
    expected = f"it is denied at {_path(scene, 'other')}"
    if not may(scene.vault, scene["policy"], _path(scene, "other")):
        return met(expected)
    return not_yet(
        expected,
        "it may read that too",
        next=f"Name one path, {_path(scene, 'key')}, with no * in it.",
        hint="A * at the end of a path stands for everything that begins so. Name the one path "
        "that the application needs.",
    )


def _policy(path: str, capabilities: str = '"read"') -> str:
    return (
        "bao policy write app-read - <<'POLICY'\n"
        f'path "{path}" {{\n  capabilities = [{capabilities}]\n}}\nPOLICY\n'
    )


POLICY = Exercise(
    name="policy",
    title="A policy that reads one path only",
    script=_policy(f"{MOUNT}/data/mysql_credentials"),
    undo="bao policy delete app-read\n",
    blanks=(f'path "⟦{MOUNT}/data/mysql_credentials⟧"', 'capabilities = [⟦"read"⟧]'),
    expectations=(policy_exists, policy_reads, policy_only_reads, policy_reads_one_path),
    hints=(
        "A policy is a path and what may be done there. Which API path did "
        "`bao kv get -output-policy` print above?",
        f'The path is "{MOUNT}/data/mysql_credentials", the list of capabilities is ["read"].',
    ),
    faults=(
        Fault("it is deleted", "bao policy delete app-read", policy_exists, "bao policy write"),
        Fault(
            "data/ is left out of the path",
            _policy(f"{MOUNT}/mysql_credentials"),
            policy_reads,
            "data/",
        ),
        Fault(
            "it may write too",
            _policy(f"{MOUNT}/data/mysql_credentials", '"read", "update"'),
            policy_only_reads,
            "one capability",
        ),
        Fault(
            "it reads everything",
            _policy(f"{MOUNT}/data/*"),
            policy_reads_one_path,
            "stands for everything",
        ),
    ),
)

QUIZ = Quiz(
    (
        Question(
            "Version 2 of a secret was a mistake. What does a rollback to version 1 do?",
            (
                Choice(
                    "It deletes version 2",
                    "Nothing is deleted: you can still see what the mistake was, and when.",
                ),
                Choice(
                    "It writes version 3 with the values of version 1",
                    "History only grows, so a rollback can be rolled back too.",
                    right=True,
                ),
                Choice(
                    "It renumbers the versions",
                    "Numbers are never reused: whoever asked for version 2 still gets version 2.",
                ),
            ),
        ),
        Question(
            "A policy says path “secret/mysql_credentials”, capabilities [“read”]. "
            "What can a token with it read in a KV v2 mount?",
            (
                Choice("The secret", "The API keeps it at secret/data/mysql_credentials."),
                Choice(
                    "Nothing",
                    "KV v2 keeps the data below data/, and a policy speaks of API paths. This is "
                    "the mistake that everybody makes once.",
                    right=True,
                ),
                Choice(
                    "Every secret in the mount",
                    "A path without * is that path alone.",
                ),
            ),
        ),
        Question(
            "What does somebody learn who can read Vault's audit log?",
            (
                Choice(
                    "Who read which path, when, and whether it was allowed",
                    "That is what it is for. Values and tokens stand in it as HMACs.",
                    right=True,
                ),
                Choice(
                    "The passwords",
                    "Values are hashed with a key that only Vault has (HMAC).",
                ),
                Choice(
                    "Only what was denied",
                    "Every request is written down before it is answered; if none can be written, "
                    "Vault stops answering.",
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=1,
    slug="vault",
    title="Vault",
    stage="vault",
    begins_with="an unsealed Vault with a KV v2 mount, one good and one bad version of a secret",
    missing="a policy, a way in for anybody but you, and all of Kubernetes' part",
    begin=BEGIN,
    names=NAMES,
    exercises=(ROLLBACK, POLICY),
    quiz=QUIZ,
)
