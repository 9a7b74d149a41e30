"""Lesson 00: the whole way once, to see what the rest of the course takes apart."""

from __future__ import annotations

from labkit import app, vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.model import Choice, Exercise, Fault, Lesson, Question, Quiz

NAMES = {"user": "shop_user"}


@expects("Vault holds the new user name")
def holds_user(scene: Scene) -> Finding:
    expected = f"{vault.MOUNT}/{vault.KEY} has the username {scene['user']}"
    values = vault.read(scene.vault) or {}
    if values.get("username") == scene["user"]:
        return met(expected)
    return not_yet(
        expected,
        f"it has the username {values.get('username', '')!r}",
        next=f"Write username={scene['user']} to it with `bao kv patch`.",
        blocks=True,
    )


@expects("the other fields are still there")
def keeps_fields(scene: Scene) -> Finding:
    expected = "the secret still has a url and a password"
    gone = [key for key in ("url", "password") if not (vault.read(scene.vault) or {}).get(key)]
    if not gone:
        return met(expected)
    return not_yet(
        expected,
        f"it has lost: {', '.join(gone)}",
        next="lesson.undo('rename') brings the fields back; then use `kv patch`.",
        hint="`kv put` writes a whole new version, and what it does not name is gone. `kv patch` "
        "changes one field. lesson.undo('rename') brings the fields back.",
        blocks=True,
    )


@expects("the page shows it")
def page_shows_user(scene: Scene) -> Finding:
    expected = f"the application's page shows the user {scene['user']}"
    pod = scene.lab.app.pod()
    if pod is None:
        return not_yet(
            expected,
            "the application has no pod",
            next="lesson.undo('rename') starts it again.",
            hint=f"`kubectl -n {app.NAMESPACE} get deployments` says how many there should be.",
        )
    if scene.lab.app.credentials().get("stale"):
        return not_yet(
            expected,
            f"it cannot read the new file: {scene.lab.app.credentials().get('error')}",
            next="Look for what does not belong in a value: a quote, or a line's end.",
        )
    shown = scene.lab.app.shows("db_user")
    if shown == scene["user"]:
        return met(expected)
    return not_yet(
        expected,
        "it shows the old one",
        next="Wait for ESO's next look (every 15 seconds), or ask it to look now.",
        hint="Any change of the ExternalSecret's annotations makes ESO read again: that is what "
        "the second line of the cell does.",
        settling=True,
    )


_SYNC = (
    f"kubectl -n {app.NAMESPACE} annotate externalsecret {app.EXTERNAL_SECRET} "
    "force-sync=$(date +%s%N) --overwrite\n"
)

RENAME = Exercise(
    name="rename",
    title="Rotate the user name",
    script=f"bao kv patch -mount={vault.MOUNT} {vault.KEY} username=shop_user\n{_SYNC}",
    undo=f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={vault.MOUNT} {vault.KEY} \\
    url=jdbc:mysql://mysql.demo:3306/shop username=demo_user password=- > /dev/null
kubectl -n {app.NAMESPACE} scale deployment {app.DEPLOYMENT} --replicas=1
{_SYNC}""",
    blanks=("username=⟦shop_user⟧",),
    expectations=(holds_user, keeps_fields, page_shows_user),
    hints=("The blank is the new user name, nothing else: shop_user.",),
    faults=(
        Fault(
            "another name is written",
            f"bao kv patch -mount={vault.MOUNT} {vault.KEY} username=somebody\n{_SYNC}",
            holds_user,
            "kv patch",
        ),
        Fault(
            "put in place of patch",
            f"bao kv put -mount={vault.MOUNT} {vault.KEY} username=shop_user\n{_SYNC}",
            keeps_fields,
            "kv patch",
        ),
        Fault(
            "the application is stopped",
            f"kubectl -n {app.NAMESPACE} scale deployment {app.DEPLOYMENT} --replicas=0\n"
            f"kubectl -n {app.NAMESPACE} wait --for=delete pod -l {app.LABELS} --timeout=20s",
            page_shows_user,
            "how many there should be",
        ),
    ),
)

QUIZ = Quiz(
    (
        Question(
            "Somebody copies your whole Git repository. Which secrets do they have?",
            (
                Choice(
                    "The database password, Base64-encoded",
                    "A Kubernetes Secret is Base64-encoded, and it would be one in Git. Here Git "
                    "holds the ExternalSecret: names of a key and its properties.",
                ),
                Choice(
                    "The token with which ESO reads from Vault",
                    "There is none. The store names a role and a ServiceAccount; being allowed to "
                    "use that ServiceAccount is decided by the cluster, not by who can read the "
                    "file.",
                ),
                Choice(
                    "None",
                    "They learn what your secrets are called, and no value.",
                    right=True,
                ),
            ),
        ),
        Question(
            "Why is the token the hard part?",
            (
                Choice(
                    "Because it is long",
                    "Its length is fine. The question is where it is kept, and who keeps that "
                    "safe.",
                ),
                Choice(
                    "Because whatever fetches a secret needs a secret itself",
                    "It is called “secret zero”. Trusting an identity that the platform vouches "
                    "for ends the chain.",
                    right=True,
                ),
                Choice(
                    "Because Vault forgets tokens",
                    "Tokens do end, and that is a strength: ESO simply logs in again.",
                ),
            ),
        ),
        Question(
            "The page changed with no restart. Who noticed the new file?",
            (
                Choice(
                    "Kubernetes restarted the application",
                    "The same process has been running all the time: look at restarts above.",
                ),
                Choice(
                    "The application watches the folder",
                    "The node swapped the folder's content, the application saw it and read the "
                    "file again.",
                    right=True,
                ),
                Choice(
                    "ESO told it",
                    "ESO's work ends when it has written the Secret. It does not know of the "
                    "application.",
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=0,
    slug="start-here",
    title="Start here",
    stage="application",
    begins_with="the whole way, from Vault to the application's page",
    names=NAMES,
    exercises=(RENAME,),
    quiz=QUIZ,
)
