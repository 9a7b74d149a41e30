"""Lesson 05's second exercise: an application that no change reaches, until it reads a folder."""

from __future__ import annotations

from labkit import app, vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import slip
from labkit.course.lesson_05_looks import (
    FIELDS,
    deployment,
    finds_its_file,
    newest_pod,
    page_of,
    secret_mounts,
    written_at,
)
from labkit.course.model import Exercise, Fault
from labkit.course.script import applied


@expects("it runs, and has read its file")
def runs(scene: Scene) -> Finding:
    name = scene["report"]
    if deployment(scene, name) is None:
        return not_yet(
            "the application has read its file",
            f"the namespace {app.NAMESPACE} has no Deployment {name}",
            next="lesson.undo('folder') brings it back.",
            blocks=True,
        )
    return finds_its_file(scene, name)


@expects("it mounts a folder")
def mounts_folder(scene: Scene) -> Finding:
    expected = "it mounts the whole Secret as a folder, at /secrets"
    pod = newest_pod(scene, scene["report"])
    mounts = secret_mounts(pod) if pod else []
    if [mount["mountPath"] for mount in mounts if "subPath" not in mount] == ["/secrets"]:
        return met(expected)
    return not_yet(
        expected,
        "it mounts one file, by subPath",
        next="Mount the volume at /secrets, and take subPath away.",
        hint="A subPath is looked up once, at the container's start: it is that file, for good. "
        "Only a whole volume gets the link that is swapped.",
        blocks=True,
    )


@expects("its environment holds no secret")
def has_clean_environment(scene: Scene) -> Finding:
    expected = "no variable of it comes from a Secret"
    pod = newest_pod(scene, scene["report"])
    container = pod["spec"]["containers"][0] if pod else {}
    names = [
        each["name"]
        for each in container.get("env") or []
        if "secretKeyRef" in (each.get("valueFrom") or {})
    ]
    if any("secretRef" in each for each in container.get("envFrom") or []):
        names.append("envFrom")
    if not names:
        return met(expected)
    return not_yet(
        expected,
        f"{names[0]} does",
        next="Take that variable out of the Deployment.",
        hint="A process gets its environment when it starts, and nobody can change it afterwards. "
        "Besides, it is passed on to every child and printed in many a crash report.",
    )


@expects("it looks at the file again")
def looks_again(scene: Scene) -> Finding:
    expected = "the application follows changes of the folder"
    pod = newest_pod(scene, scene["report"])
    mode = ((page_of(scene, pod) if pod else None) or {}).get("watch", {}).get("mode")
    if mode == "folder":
        return met(expected)
    return not_yet(
        expected,
        f"its WATCH_MODE is {mode}" if mode else "its page does not answer",
        next="Take WATCH_MODE out of its environment: folder is the default.",
        hint="The file changes, and a program that reads it once at its start never knows. Whoever "
        "reads from a file has to look again, and at the folder: the file itself is a link that "
        "is swapped.",
    )


@expects("a rotation reached it with no restart")
def was_reached(scene: Scene) -> Finding:
    expected = "its page shows a value that was written after it started"
    pod = newest_pod(scene, scene["report"])
    shown = page_of(scene, pod, reveal=True) if pod else None
    if shown is None:
        return not_yet(expected, "its page does not answer", next="Wait a moment.", settling=True)
    if shown["started_at"] > written_at(scene):
        return not_yet(
            expected,
            "nothing was rotated since it started",
            next="Write a new password into Vault, now that it runs.",
            hint="Whatever starts now reads the newest value, and proves nothing. The order "
            "counts: first the Deployment, then the rotation, and no restart after it.",
        )
    held = vault.read(scene.vault) or {}
    wrong = [name for name, field in FIELDS.items() if shown["values"][name] != held.get(field)]
    if not wrong:
        return met(expected)
    gone = [field for field in FIELDS.values() if field not in held]
    if gone:
        return not_yet(
            expected,
            f"the secret in Vault has lost: {', '.join(gone)}",
            next="lesson.undo('folder') brings the fields back; then use `kv patch`.",
            hint="`kv put` writes a whole new version, and what it does not name is gone. `kv "
            "patch` changes one field. lesson.undo('folder') brings the fields back.",
        )
    if shown["stale"]:
        return not_yet(
            expected,
            f"it keeps the old values, since it cannot use the new file: {shown['error']}",
            next="Write the password again, with no line's end in it: tr -d '\\n'.",
        )
    return not_yet(
        expected,
        f"its {wrong[0]} is an older one",
        next="Wait for ESO's next look at Vault (15 seconds), or ask it to look now.",
        settling=True,
    )


_FOLDER = applied("05-application/report.yaml")
_MOUNTS = """\
          volumeMounts:
            - name: credentials
              mountPath: /secrets
"""
_ENVIRONMENT = """\
          env:
            - name: APP_ENV_VAR
              value: DB_CREDENTIALS
            - name: DB_CREDENTIALS
              valueFrom:
                secretKeyRef:
                  name: mysql-credentials
                  key: credentials
"""
_ONE_FILE = """\
          volumeMounts:
            - name: credentials
              mountPath: /secrets/credentials
              subPath: credentials
"""
FROZEN = slip(_FOLDER, _MOUNTS, _ENVIRONMENT + _ONE_FILE).replace(
    "as a file in a mounted folder", "as it was when the container started"
)
"""The same application as its team first wrote it."""

ROLLED_OUT = f"kubectl -n {app.NAMESPACE} rollout status deployment/report-app --timeout=20s\n"
_ROTATE = f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' | \\
    bao kv patch -mount={vault.MOUNT} {vault.KEY} password=- > /dev/null
kubectl -n {app.NAMESPACE} annotate externalsecret {app.EXTERNAL_SECRET} \\
    force-sync=$(date +%s%N) --overwrite
"""

FOLDER = Exercise(
    name="folder",
    title="Let a rotation reach it",
    script=_FOLDER + ROLLED_OUT + _ROTATE,
    undo=f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={vault.MOUNT} {vault.KEY} \\
    url=jdbc:mysql://mysql.demo:3306/shop username=demo_user password=- > /dev/null
kubectl -n {app.NAMESPACE} annotate externalsecret {app.EXTERNAL_SECRET} \\
    force-sync=$(date +%s%N) --overwrite
kubectl -n {app.NAMESPACE} delete deployment report-app --ignore-not-found
{FROZEN}{ROLLED_OUT}""",
    blanks=(
        "- name: credentials\n              ⟦mountPath: /secrets⟧",
        "bao kv ⟦patch⟧ -mount",
    ),
    expectations=(runs, mounts_folder, has_clean_environment, looks_again, was_reached),
    hints=(
        "Compare with the mount of the other application: `kubectl -n demo get deployment "
        "gitops-secrets-deploy -o yaml`.",
        "The first blank is mountPath: /secrets, without any subPath; the second is patch, which "
        "changes one field and keeps the others.",
    ),
    faults=(
        Fault(
            "mounted somewhere else",
            slip(_FOLDER, "mountPath: /secrets", "mountPath: /secret"),
            runs,
            "mountPath",
        ),
        Fault(
            "still a subPath",
            slip(_FOLDER, _MOUNTS, _ONE_FILE) + ROLLED_OUT + _ROTATE,
            mounts_folder,
            "looked up once",
        ),
        Fault(
            "still in the environment",
            slip(_FOLDER, _MOUNTS, _ENVIRONMENT + _MOUNTS) + ROLLED_OUT + _ROTATE,
            has_clean_environment,
            "when it starts",
        ),
        Fault(
            "it reads its file once",
            f"kubectl -n {app.NAMESPACE} set env deployment/report-app WATCH_MODE=off\n"
            f"{ROLLED_OUT}{_ROTATE}",
            looks_again,
            "look again",
        ),
        Fault(
            "put in place of patch",
            slip(_ROTATE, "bao kv patch", "bao kv put"),
            was_reached,
            "kv patch",
        ),
        Fault(
            "restarted after the rotation",
            f"kubectl -n {app.NAMESPACE} rollout restart deployment/report-app\n{ROLLED_OUT}",
            was_reached,
            "the order counts",
        ),
    ),
)
