"""Lesson 04's first exercise: the ExternalSecret that makes the application's file."""

from __future__ import annotations

from labkit import app, eso, vault, workloads
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import (
    events_of,
    is_behind,
    quoted_values,
    secret_data,
    slip,
    sync_of,
)
from labkit.course.model import Exercise, Fault
from labkit.course.script import applied
from labkit.kube import Object

FILE = "credentials"
LINES = {"db_con": "url", "db_user": "username", "db_password": "password"}
"""What each line of the file is called, and the property in Vault that it comes from."""
_EVENTS = events_of(app.EXTERNAL_SECRET, app.NAMESPACE)


def _object(scene: Scene) -> Object | None:
    return scene.kube.get(eso.API, "ExternalSecret", app.EXTERNAL_SECRET, app.NAMESPACE)


@expects("the ExternalSecret is there")
def is_there(scene: Scene) -> Finding:
    expected = f"the namespace {app.NAMESPACE} has an ExternalSecret {app.EXTERNAL_SECRET}"
    if _object(scene):
        return met(expected)
    elsewhere = sorted(
        found["metadata"]["namespace"]
        for found in scene.kube.list(eso.API, "ExternalSecret")
        if found["metadata"]["name"] == app.EXTERNAL_SECRET
    )
    return not_yet(
        expected,
        f"there is one in the namespace {elsewhere[0]}" if elsewhere else "there is none",
        next="Fill in the blanks and run the cell."
        if not elsewhere
        else f"Make it in {app.NAMESPACE}, and delete the other.",
        hint="ESO writes the Secret into the ExternalSecret's own namespace, and a pod can mount "
        f"only Secrets of its own. Both belong in {app.NAMESPACE}."
        if elsewhere
        else "",
        blocks=True,
    )


@expects("it reads from a store that exists")
def finds_store(scene: Scene) -> Finding:
    expected = f"it reads from the ClusterSecretStore {workloads.STORE}"
    reference = ((_object(scene) or {}).get("spec") or {}).get("secretStoreRef") or {}
    kind, name = reference.get("kind", "SecretStore"), reference.get("name", "")
    if (kind, name) == ("ClusterSecretStore", workloads.STORE):
        return met(expected)
    return not_yet(
        expected,
        f"it asks for the {kind} {name}",
        next="Say which kind of store it is, and its name: `kubectl get clustersecretstores`.",
        hint=f"{workloads.STORE} serves the whole cluster, so its kind is ClusterSecretStore. "
        "SecretStore, which is also what ESO takes when nothing is said, means one in this "
        "namespace.",
        blocks=True,
    )


@expects("it goes on reading")
def goes_on(scene: Scene) -> Finding:
    expected = "ESO reads it again every 15 seconds or less"
    spec = (_object(scene) or {}).get("spec") or {}
    policy, interval = spec.get("refreshPolicy", "Periodic"), str(spec.get("refreshInterval"))
    if policy == "Periodic" and interval in _SHORT:
        return met(expected)
    return not_yet(
        expected,
        f"its refreshPolicy is {policy}" if policy != "Periodic" else f"it reads every {interval}",
        next="Set refreshInterval: 15s, and leave refreshPolicy out.",
        hint=f"{policy} means that ESO does not look at Vault again by itself: no rotation would "
        "ever arrive. The default policy, Periodic, reads at each refreshInterval."
        if policy != "Periodic"
        else "The interval is how long a rotation may take to arrive. 0 means never again.",
    )


_SHORT = {"15s", *(f"{seconds}s" for seconds in range(1, 15))}


@expects("it gets the values")
def gets_values(scene: Scene) -> Finding:
    expected = "ESO gets the three values from Vault"
    sync = sync_of(scene, app.EXTERNAL_SECRET, app.NAMESPACE)
    if sync.state == "synced" or sync.part == "template":
        return met(expected)
    if sync.state != "failed":
        return not_yet(
            expected, "ESO is at work", next=f"Wait; or read {_EVENTS}.", settling=True, blocks=True
        )
    hint = ""
    if "cannot find secret data for key" in sync.said:
        hint = (
            "The secret is there, and has no property of that name. `bao kv get` shows what its "
            "properties are called: url, username and password."
        )
    elif "403" in sync.said or "does not exist" in sync.said:
        hint = (
            f"Compare that path with the one where the secret is: {vault.MOUNT}/data/{vault.KEY}. "
            f"ESO adds the mount and data/ by itself, so key: is {vault.KEY} and no more. For any "
            "other path the policy denies."
        )
    return not_yet(
        expected,
        f"ESO says: {sync.said}",
        next=f"Read ESO's whole message: {_EVENTS}.",
        hint=hint,
        blocks=True,
    )


@expects("its template can be carried out")
def renders(scene: Scene) -> Finding:
    expected = "the template makes a file of them"
    sync = sync_of(scene, app.EXTERNAL_SECRET, app.NAMESPACE)
    if sync.part != "template":
        return met(expected)
    return not_yet(
        expected,
        f"ESO says: {sync.said}",
        next=f"Read ESO's whole message: {_EVENTS}.",
        hint="In a template {{ .name }} stands for a value whose secretKey: is name. Compare the "
        "name in ESO's message with the secretKeys below data:.",
        blocks=True,
    )


@expects("the Secret has the key that the application asks for")
def has_file(scene: Scene) -> Finding:
    expected = f"the Secret {app.SECRET} has the key {FILE}, and no other"
    data = secret_data(scene, app.SECRET, app.NAMESPACE)
    if data is not None and set(data) == {FILE}:
        return met(expected)
    return not_yet(
        expected,
        "there is no such Secret" if data is None else f"its keys are: {', '.join(sorted(data))}",
        next=f"Call the Secret {app.SECRET}."
        if data is None
        else f"Below template: data: name the file {FILE}.",
        hint=f"target: name: is what the Secret is called: {app.SECRET}."
        if data is None
        else "Each key below template: data: becomes a key of the Secret, and each key of a "
        f"Secret a file in the pod. The application opens the file {FILE}.",
        blocks=True,
    )


@expects("the file says what Vault holds")
def file_is_right(scene: Scene) -> Finding:
    expected = 'its lines are db_con="…", db_user="…", db_password="…" with what Vault holds'
    text = (secret_data(scene, app.SECRET, app.NAMESPACE) or {}).get(FILE, "")
    values, held = quoted_values(text), vault.read(scene.vault) or {}
    wrong = [name for name, field in LINES.items() if values.get(name) != held.get(field)]
    if not wrong:
        return met(expected)
    name = wrong[0]
    return not_yet(
        expected,
        f"{name} holds something else than {LINES[name]} in Vault"
        if name in values
        else f'there is no line {name}="…"',
        next=f"Look at the line of {name} in the template.",
        hint=f"The line of {name} is to hold the value of {LINES[name]}."
        if name in values
        else f'Each value stands between double quotes, as in {name}="{{{{ .{LINES[name]} }}}}".',
        settling=is_behind(scene, app.EXTERNAL_SECRET, app.NAMESPACE, vault.KEY),
    )


SCRIPT = applied(workloads.EXTERNAL_SECRET_FILE)

CREDENTIALS = Exercise(
    name="credentials",
    title="The file that the application reads",
    script=SCRIPT,
    undo=f"""\
kubectl -n default delete externalsecret {app.EXTERNAL_SECRET} --ignore-not-found
kubectl -n {app.NAMESPACE} delete externalsecret {app.EXTERNAL_SECRET} --ignore-not-found
kubectl -n {app.NAMESPACE} delete secret {app.SECRET} --ignore-not-found
""",
    blanks=(
        "kind: ⟦ClusterSecretStore⟧",
        f"⟦{FILE}⟧: |",
        'db_con="⟦{{ .url }}⟧"',
        'db_user="⟦{{ .username }}⟧"',
        'db_password="⟦{{ .password }}⟧"',
        f"key: ⟦{vault.KEY}⟧\n        property: username",
        "property: ⟦password⟧",
    ),
    expectations=(
        is_there,
        finds_store,
        goes_on,
        gets_values,
        renders,
        has_file,
        file_is_right,
    ),
    hints=(
        "Read it from below: data: fetches three values and gives each a name (secretKey); the "
        "template puts the names between {{ . and }}.",
        'The line for the user is db_user="{{ .username }}"; the file is called credentials.',
    ),
    faults=(
        Fault(
            "it is made in another namespace",
            f"kubectl -n {app.NAMESPACE} delete externalsecret {app.EXTERNAL_SECRET}\n"
            + slip(SCRIPT, "namespace: demo", "namespace: default"),
            is_there,
            "own namespace",
        ),
        Fault(
            "the wrong kind of store",
            slip(SCRIPT, "kind: ClusterSecretStore", "kind: SecretStore"),
            finds_store,
            "whole cluster",
        ),
        Fault(
            "it is read only once",
            slip(
                SCRIPT, "refreshInterval: 15s", "refreshInterval: 15s\n  refreshPolicy: CreatedOnce"
            ),
            goes_on,
            "no rotation",
        ),
        Fault("refreshInterval: 0", slip(SCRIPT, "15s", '"0"'), goes_on, "never again"),
        Fault(
            "a misspelt property",
            slip(SCRIPT, "property: password", "property: pasword"),
            gets_values,
            "no property of that name",
        ),
        Fault(
            "a doubled path",
            SCRIPT.replace(f"key: {vault.KEY}", f"key: data/{vault.KEY}"),
            gets_values,
            "adds the mount and data/",
        ),
        Fault(
            "a misspelt key in the template",
            slip(SCRIPT, ".username", ".usrname"),
            renders,
            "secretKey",
        ),
        Fault(
            "the wrong name for the file",
            slip(SCRIPT, "credentials: |", "credential: |"),
            has_file,
            "a file in the pod",
        ),
        Fault(
            "the wrong name for the Secret",
            slip(SCRIPT, "name: mysql-credentials", "name: mysql-credential"),
            has_file,
            "target: name:",
        ),
        Fault("two values mixed up", slip(SCRIPT, ".username", ".url"), file_is_right, "username"),
        Fault(
            "no quotes",
            slip(SCRIPT, '"{{ .username }}"', "{{ .username }}"),
            file_is_right,
            "double quotes",
        ),
    ),
)
