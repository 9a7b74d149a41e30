"""Lesson 07's last exercise: a password was in Git, and a later commit has removed it.

What leaked is told by the leaked commit itself: the server still hands it out to whoever
knows its name, and the ConfigMap ``incident`` names it.  The leak is made by a cell of the
notebook, in the learner's own clone; whoever skipped it gets it from the solution.
"""

from __future__ import annotations

import base64

import yaml

from labkit import app, vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import quoted_values
from labkit.course.lesson_06 import NEW_PASSWORD, SYNC
from labkit.course.lesson_07_repository import (
    LOGIN,
    NOT_DEPLOYED,
    SHOP,
    Repository,
    application,
    cloned,
    page_follows,
)
from labkit.course.model import Exercise, Fault
from labkit.errors import LabError
from labkit.scan import Needle, Searcher
from labkit.vault import MOUNT

NAMES = {"folder": "backup"}
INCIDENT = "incident"
_FILE = f"{app.SECRET}.yaml"


def _incident(scene: Scene) -> str:
    """The commit that leaked it; "" where nothing has leaked."""
    found = scene.kube.get("v1", "ConfigMap", INCIDENT, app.NAMESPACE)
    return str(((found or {}).get("data") or {}).get("commit", ""))


def _leaked(scene: Scene, repository: Repository, commit: str) -> str:
    """The password in the leaked commit; "" where the server has it no more."""
    try:
        repository.git("fetch", "--quiet", "origin", commit)
        text = repository.git("show", f"{commit}:{scene['folder']}/{_FILE}")
        coded = yaml.safe_load(text)["data"]["credentials"]
        return quoted_values(base64.b64decode(coded).decode()).get("db_password", "")
    except (LabError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return ""


@expects("what leaked is worth nothing")
def is_rotated(scene: Scene) -> Finding:
    expected = "the password in Vault is another one than the one that leaked"
    if not application(scene, SHOP):
        return not_yet(expected, "there is no shop", next=NOT_DEPLOYED, blocks=True)
    commit = _incident(scene)
    if not commit:
        return not_yet(
            expected, "nothing has leaked yet", next="Run the cell above first.", blocks=True
        )
    now = (vault.read(scene.vault) or {}).get("password", "")
    with cloned(scene) as repository:
        old = _leaked(scene, repository, commit)
    if now and now != old:
        return met(expected)
    return not_yet(
        expected,
        "it is the same",
        next="Write a new one to Vault, as in lesson 06.",
        hint="Rotate first. Whoever fetched in the meantime has the old one, whatever you do to "
        f"the history: only a new password in {MOUNT}/{vault.KEY} makes it worthless.",
    )


@expects("the application has the new one")
def page_shows_it(scene: Scene) -> Finding:
    return page_follows(
        scene,
        "the page shows the password that is in Vault",
        next="Have ESO look now: the force-sync annotation of lesson 06.",
        hint="ESO has not brought it: see its events. Was its policy in Vault changed as well? It "
        "needs to read, or the shop keeps the password that leaked.",
    )


@expects("no commit of main holds it")
def history_is_clean(scene: Scene) -> Finding:
    expected = "no commit that can be reached from main holds the password that leaked"
    commit = _incident(scene)
    with cloned(scene) as repository:
        reachable = repository.git("rev-list", "HEAD").split()
        # Before it is fetched: a clone has what can be reached, and nothing else.
        before = _blobs(repository)
        password = _leaked(scene, repository, commit)
    needle = [Needle("it", password)] if password else []
    is_in = bool(needle) and bool(Searcher(needle).in_bytes(before, ""))
    if commit not in reachable and not is_in:
        return met(expected)
    return not_yet(
        expected,
        "a commit in main's history does",
        next="Take the commits out of the history (git rebase, git reset), and push with --force.",
        hint="A commit that removes a file leaves it in the commits before. The leaked commit has "
        "to leave the history: `git rebase --onto COMMIT~1 COMMIT`, then `git push --force`.",
    )


def _blobs(repository: Repository) -> bytes:
    """The content of every file of every commit of the clone."""
    return repository.git("log", "--all", "-p", "--text", "--format=").encode()


_LEAK = f"""\
cd "$PLATFORM"
mkdir -p backup
kubectl -n {app.NAMESPACE} get secret {app.SECRET} -o yaml > backup/{_FILE}
git add backup
git commit --quiet --message 'Keep a copy of the Secret'
git push --quiet
kubectl -n {app.NAMESPACE} create configmap {INCIDENT} --from-literal=commit="$(git rev-parse HEAD)"
git rm --quiet -r backup
git commit --quiet --message 'Remove the copy'
git push --quiet
"""
_HAS_LEAKED = f"kubectl -n {app.NAMESPACE} get configmap {INCIDENT} > /dev/null 2>&1"
_CLEAN = f"""\
leaked=$(kubectl -n {app.NAMESPACE} get configmap {INCIDENT} -o jsonpath='{{.data.commit}}')
if git merge-base --is-ancestor "$leaked" HEAD; then
    git rebase --quiet --onto "$leaked~1" "$leaked"
fi
git push --quiet --force
"""
_POLICY = f"""\
bao policy write {vault.POLICY} - > /dev/null <<'POLICY'
{vault.POLICY_TEXT.strip()}
POLICY
"""
_NOBODY_READS = f"""\
bao policy write {vault.POLICY} - > /dev/null <<'POLICY'
path "{MOUNT}/data/nothing" {{ capabilities = ["read"] }}
POLICY
"""

LEAK = Exercise(
    name="leak",
    title="Clean up after a leak",
    script=f"""\
# (The leak, for whoever has skipped the cell that makes it.)
if ! {_HAS_LEAKED}; then
{"".join(f"    {line}" for line in _LEAK.splitlines(keepends=True))}fi
# 1. A new password: from here on the old one opens nothing.
{LOGIN}{NEW_PASSWORD}\
{SYNC}\
# 2. The history, without the commit that has it.
cd "$PLATFORM"
{_CLEAN}""",
    undo=f"""\
if {_HAS_LEAKED}; then
cd "$PLATFORM"
{LOGIN}{_POLICY}{SYNC}{_CLEAN}\
kubectl -n {app.NAMESPACE} wait externalsecret {app.EXTERNAL_SECRET} --for=condition=Ready
kubectl -n {app.NAMESPACE} delete configmap {INCIDENT}
fi
if [ -d "$PLATFORM"/shop ]; then
{_LEAK}fi
""",
    start="""\
# What first? Then the history: cd "$PLATFORM", git log --oneline
# …""",
    expectations=(is_rotated, page_shows_it, history_is_clean),
    hints=(
        "Rotate first: that alone makes what leaked worthless. Then take the commit out of the "
        "history and push with --force.",
        f"bao kv patch -mount={MOUNT} {vault.KEY} password=- (from a pipe), the force-sync "
        "annotation, git rebase --onto COMMIT~1 COMMIT, git push --force. COMMIT is in the "
        f"ConfigMap {INCIDENT}.",
    ),
    faults=(
        Fault(
            "only the history is clean",
            f"""\
cd "$PLATFORM"
{LOGIN}\
leaked=$(kubectl -n {app.NAMESPACE} get configmap {INCIDENT} -o jsonpath='{{.data.commit}}')
git fetch --quiet origin "$leaked"
git show "$leaked":backup/{_FILE} | grep ' credentials:' | tr -d ' ' | cut -d: -f2 |
    base64 -d | sed -n 's/^db_password="\\(.*\\)"$/\\1/p' | tr -d '\\n' |
    bao kv patch -mount={MOUNT} {vault.KEY} password=-
""",
            is_rotated,
            "rotate first",
        ),
        Fault(
            "nobody may read it any more, ESO neither",
            LOGIN + _NOBODY_READS + NEW_PASSWORD + SYNC,
            page_shows_it,
            "policy in vault",
        ),
        Fault(
            "it is only deleted",
            f"""\
cd "$PLATFORM"
leaked=$(kubectl -n {app.NAMESPACE} get configmap {INCIDENT} -o jsonpath='{{.data.commit}}')
git fetch --quiet origin "$leaked"
git reset --quiet --hard "$leaked"
git rm --quiet -r backup
git commit --quiet --message 'Remove the copy'
git push --quiet --force
""",
            history_is_clean,
            "leaves it in the commits before",
        ),
    ),
)
