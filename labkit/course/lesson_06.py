"""Lesson 06: rotations: what makes them quick, what they must end, and how long they take."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hvac.exceptions import InvalidPath

from labkit import app, eso
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_06_quiz import QUIZ
from labkit.course.model import Exercise, Fault, Lesson
from labkit.kube import Object, condition, is_condition
from labkit.vault import KEY, MOUNT

_ES = f"kubectl -n {app.NAMESPACE} patch externalsecret {app.EXTERNAL_SECRET} --type=merge -p"
SYNC = (
    f"kubectl -n {app.NAMESPACE} annotate externalsecret {app.EXTERNAL_SECRET} "
    "force-sync=$(date +%s%N) --overwrite\n"
)
NEW_PASSWORD = (
    "head -c 12 /dev/urandom | base64 | tr -d '\\n' |\n"
    f"    bao kv patch -mount={MOUNT} {KEY} password=-\n"
)
AS_BEFORE = f'{_ES} \'{{"spec": {{"refreshInterval": "15s", "refreshPolicy": "Periodic"}}}}\'\n'


def _external_secret(scene: Scene) -> Object | None:
    return scene.kube.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)


# -- how often ESO looks ---------------------------------------------------------------


@expects("ESO looks periodically")
def is_periodic(scene: Scene) -> Finding:
    expected = f"ESO reads for {app.EXTERNAL_SECRET} again and again"
    found = _external_secret(scene)
    if found is None:
        return not_yet(
            expected,
            "the ExternalSecret is gone",
            next="lesson.undo('interval') brings it back.",
            blocks=True,
        )
    policy = found["spec"].get("refreshPolicy") or "Periodic"
    if policy == "Periodic":
        return met(expected)
    return not_yet(
        expected,
        f"its refreshPolicy is {policy}",
        next="Set refreshPolicy to Periodic, or leave it out.",
        hint=f"With refreshPolicy {policy} the interval counts for nothing: Periodic is the one "
        "that looks again by itself.",
    )


@expects("every five seconds")
def looks_every_five_seconds(scene: Scene) -> Finding:
    expected = "its refreshInterval is 5 seconds"
    seen = str((_external_secret(scene) or {"spec": {}})["spec"].get("refreshInterval", ""))
    if seen in {"5s", "0h0m5s", "0m5s"}:
        return met(expected)
    is_off = seen in {"0", "0s", "0h0m0s"}
    return not_yet(
        expected,
        f"it is {seen!r}" + (", which means never" if is_off else ""),
        next='Set it to "5s".',
        hint="0 is not “as often as possible”: it switches the refresh off, and then not even a "
        "forced sync does anything."
        if is_off
        else "A duration is a number with its unit: 5s, 15s, 1h.",
    )


@expects("and it works")
def is_synced(scene: Scene) -> Finding:
    expected = "the ExternalSecret is synced"
    found = _external_secret(scene)
    if is_condition(found, "Ready"):
        return met(expected)
    ready: dict[str, Any] = condition(found, "Ready") or {}
    return not_yet(
        expected,
        str(ready.get("message") or "it says nothing yet"),
        next=f"Read its events: `kubectl -n {app.NAMESPACE} describe externalsecret "
        f"{app.EXTERNAL_SECRET}`.",
        hint="The interval is right, but reading fails. The event has the words of Vault; was the "
        "store changed too?",
    )


INTERVAL = Exercise(
    name="interval",
    title="Look every five seconds",
    script=f'{_ES} \'{{"spec": {{"refreshInterval": "5s"}}}}\'\n',
    undo=AS_BEFORE + f'{_ES} \'{{"spec": {{"secretStoreRef": {{"name": "vault-backend"}}}}}}\'\n',
    blanks=('"refreshInterval": "⟦5s⟧"',),
    expectations=(is_periodic, looks_every_five_seconds, is_synced),
    hints=("The blank is a duration, as the 15s that is there now: 5s.",),
    faults=(
        Fault(
            "it is created once and never read again",
            f'{_ES} \'{{"spec": {{"refreshPolicy": "CreatedOnce"}}}}\'\n',
            is_periodic,
            "counts for nothing",
        ),
        Fault(
            "0 for as often as possible",
            f'{_ES} \'{{"spec": {{"refreshInterval": "0"}}}}\'\n',
            looks_every_five_seconds,
            "switches the refresh off",
        ),
        Fault(
            "it stays at 15 seconds",
            f'{_ES} \'{{"spec": {{"refreshInterval": "15s"}}}}\'\n',
            looks_every_five_seconds,
            "its unit",
        ),
        Fault(
            "the store's name is changed too",
            f'{_ES} \'{{"spec": {{"secretStoreRef": {{"name": "vault-beckend"}}}}}}\'\n'
            f"kubectl -n {app.NAMESPACE} wait externalsecret {app.EXTERNAL_SECRET} "
            "--for=condition=Ready=False --timeout=15s\n",
            is_synced,
            "reading fails",
        ),
    ),
)


# -- rotating and revoking -------------------------------------------------------------


def _versions(scene: Scene) -> dict[int, dict[str, Any]]:
    try:
        found = scene.vault.secrets.kv.v2.read_secret_metadata(path=KEY, mount_point=MOUNT)
    except InvalidPath:
        return {}
    return {int(number): about for number, about in found["data"]["versions"].items()}


def _at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


@expects("rotated, with no restart")
def rotated_without_restart(scene: Scene) -> Finding:
    expected = "the newest version in Vault is younger than the application's process"
    versions = _versions(scene)
    pod = scene.lab.app.pod()
    if not versions or pod is None:
        return not_yet(
            expected,
            "the secret is gone" if not versions else "the application has no pod",
            next="lesson.undo('revoke') brings it back.",
            blocks=True,
        )
    written = _at(versions[max(versions)]["created_time"])
    started = scene.lab.app.credentials()["started_at"]
    if written > started and not app.restarts(pod):
        return met(expected, "the same process has read the newest version: no restart")
    was_rotated = len(versions) > 1
    return not_yet(
        expected,
        "the application was started again after the last rotation"
        if was_rotated
        else "nothing was rotated since the application started",
        next="Write a new password with `bao kv patch`; leave the pod alone.",
        hint="A rotation that needs a new pod is no live rotation. Write a new password once more "
        "and leave the pod alone: it will read the file again by itself."
        if was_rotated
        else "",
        blocks=not was_rotated,
    )


@expects("the page has the new one")
def page_has_it(scene: Scene) -> Finding:
    expected = "the page shows the newest version's password"
    found = scene.vault.secrets.kv.v2.read_secret_version(
        path=KEY, mount_point=MOUNT, raise_on_deleted_version=True
    )["data"]["data"]
    if scene.lab.app.shows("db_password") == found.get("password"):
        return met(expected)
    policy = ((_external_secret(scene) or {}).get("spec") or {}).get("refreshPolicy", "Periodic")
    if policy != "Periodic":
        return not_yet(
            expected,
            f"it shows an older one, and the ExternalSecret's refreshPolicy is {policy}",
            next="Set refreshPolicy back to Periodic.",
            hint=f"With refreshPolicy {policy} ESO never looks again. Set it back to Periodic "
            "before you revoke what the application still uses.",
        )
    return not_yet(
        expected,
        "it shows an older one",
        next="Wait for ESO's next look, or force a sync.",
        settling=True,
    )


@expects("the old ones are revoked")
def old_are_destroyed(scene: Scene) -> Finding:
    expected = "no version but the newest can be read"
    versions = _versions(scene)
    left = [
        number
        for number, about in sorted(versions.items())
        if number != max(versions) and not about["destroyed"]
    ]
    if not left:
        return met(expected)
    was_deleted = all(versions[number]["deletion_time"] for number in left)
    which = ", ".join(map(str, left))
    return not_yet(
        expected,
        f"version {which} {'is deleted, but can be undeleted' if was_deleted else 'can be read'}",
        next=f"`bao kv destroy` takes -versions={which.replace(' ', '')}.",
        hint="`kv delete` only hides a version, and `kv undelete` brings it back. `kv destroy` "
        "removes the data for good."
        if was_deleted
        else "The old password still stands in Vault's history. `kv destroy` removes the data of "
        "the versions that you name.",
    )


_OLD = f"$(seq -s, 1 $(( $(bao read -field=current_version {MOUNT}/metadata/{KEY}) - 1 )))"
REVOKE = Exercise(
    name="revoke",
    title="Rotate, then revoke the old password",
    script=f"{NEW_PASSWORD}{SYNC}old={_OLD}\nbao kv destroy -mount={MOUNT} -versions=$old {KEY}\n",
    undo=f"""\
{AS_BEFORE}bao kv metadata delete -mount={MOUNT} {KEY}
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={MOUNT} {KEY} \\
    url=jdbc:mysql://mysql.demo:3306/shop username=demo_user password=- > /dev/null
{SYNC}kubectl -n {app.NAMESPACE} delete pods -l {app.LABELS}
kubectl -n {app.NAMESPACE} rollout status deployment {app.DEPLOYMENT} --timeout=30s
""",
    blanks=(f"bao kv ⟦patch⟧ -mount={MOUNT}", f"bao kv ⟦destroy⟧ -mount={MOUNT}"),
    expectations=(rotated_without_restart, page_has_it, old_are_destroyed),
    hints=(
        "First blank: change one field, keep the rest. Second blank: not the word that can be "
        "taken back.",
        "`bao kv -help` says what delete and destroy do. The two words are patch and destroy.",
    ),
    faults=(
        Fault(
            "the pod is restarted to make sure",
            f"kubectl -n {app.NAMESPACE} delete pods -l {app.LABELS}\n"
            f"kubectl -n {app.NAMESPACE} rollout status deployment {app.DEPLOYMENT} "
            "--timeout=30s\n",
            rotated_without_restart,
            "no live rotation",
        ),
        Fault(
            "ESO looks no more",
            f'{_ES} \'{{"spec": {{"refreshPolicy": "CreatedOnce"}}}}\'\n{NEW_PASSWORD}',
            page_has_it,
            "never looks again",
        ),
        Fault(
            "the old one is only deleted",
            f"{NEW_PASSWORD}{SYNC}bao kv delete -mount={MOUNT} -versions={_OLD} {KEY}\n",
            old_are_destroyed,
            "only hides",
        ),
        Fault(
            "rotated once more, and the one before forgotten",
            f"{NEW_PASSWORD}{SYNC}",
            old_are_destroyed,
            "history",
        ),
    ),
)

LESSON = Lesson(
    number=6,
    slug="live-rotation",
    title="Live rotation",
    stage="application",
    begins_with="the whole way, with a refreshInterval of 15 seconds",
    exercises=(INTERVAL, REVOKE),
    quiz=QUIZ,
)
