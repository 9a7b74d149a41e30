"""Lesson 07's third exercise: a commit that breaks the template, mended by a commit.

The bad commit is made by a cell of the notebook, in the learner's own clone.  Whoever skipped
that cell gets it from the solution, which makes it first.
"""

from __future__ import annotations

from labkit import app
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import events_of, sync_of
from labkit.course.lesson_07_bring_up import arrived, edited
from labkit.course.lesson_07_repository import (
    NOT_DEPLOYED,
    SHOP,
    TEMPLATE_FILE,
    application,
    behind,
    cloned,
)
from labkit.course.model import Exercise, Fault

SUBJECT = "Tidy up the template"
_WRONG = "pasword"
_MISHAP = edited(f"s/{{{{ .password }}}}/{{{{ .{_WRONG} }}}}/", SUBJECT, TEMPLATE_FILE)


@expects("Git has the right template")
def git_is_mended(scene: Scene) -> Finding:
    expected = f"{TEMPLATE_FILE} in main asks for no {_WRONG}"
    if not application(scene, SHOP):
        return not_yet(expected, "there is no shop", next=NOT_DEPLOYED, blocks=True)
    with cloned(scene) as repository:
        if _WRONG not in (repository.text(TEMPLATE_FILE) or ""):
            return met(expected)
    return not_yet(
        expected,
        "it does",
        next="Take the commit back with another one: `git revert`, then push.",
        hint="The mistake is in Git, so it is mended in Git: `git revert` makes a commit that "
        "takes another one back. What you change with kubectl is put back to what Git says.",
    )


@expects("the history is whole")
def history_is_whole(scene: Scene) -> Finding:
    expected = f"main still has the commit “{SUBJECT}”, and a later one that mends it"
    with cloned(scene) as repository:
        subjects = repository.subjects
    if SUBJECT in subjects[1:]:
        return met(expected)
    if SUBJECT in subjects[:1]:
        return not_yet(expected, "nothing came after it", next="`git revert` it, and push.")
    return not_yet(
        expected,
        "main has no such commit",
        next="Run the cell above that makes it. If it was there: lesson.undo('mend').",
        hint="A force-push took it out of main: others who have it will bring it back, and nobody "
        "can see what happened. lesson.undo('mend'), then `git revert`.",
    )


@expects("it works again")
def works_again(scene: Scene) -> Finding:
    expected = "ESO renders the template, and the shop is Synced and Healthy at the newest commit"
    with cloned(scene) as repository:
        late = behind(scene, repository, [SHOP])
    sync = sync_of(scene, app.EXTERNAL_SECRET, app.NAMESPACE)
    if not late and sync.state == "synced":
        return met(expected)
    return not_yet(
        expected,
        sync.said or (f"the shop is {late[0].sync}, {late[0].health}" if late else sync.state),
        next=f"See {events_of(app.EXTERNAL_SECRET, app.NAMESPACE)}.",
        hint="Read the event: which key does the template ask for, and which ones are there "
        "(secretKey)? A letter's case counts."
        if sync.part == "template"
        else "",
        settling=True,
    )


_DEGRADED = f"""\
kubectl -n {app.NAMESPACE} wait externalsecret {app.EXTERNAL_SECRET} \\
    --for=condition=Ready=False --timeout=30s
"""

MEND = Exercise(
    name="mend",
    title="Take a commit back",
    script=f"""\
cd "$PLATFORM"
# (The bad commit, for whoever has skipped the cell that makes it.)
if ! git log --format=%s | grep -qx '{SUBJECT}'; then
    sed -i 's/{{{{ .password }}}}/{{{{ .{_WRONG} }}}}/' {TEMPLATE_FILE}
    git commit --quiet --all --message '{SUBJECT}'
fi
# The last commit of that name is taken back by a new one.
if grep -q '{_WRONG}' {TEMPLATE_FILE}; then
    git revert --no-edit "$(git log -1 --format=%h --grep='^{SUBJECT}$')" > /dev/null
fi
git push --quiet
{arrived(SHOP)}""",
    undo=f"""\
[ -d "$PLATFORM"/shop ] || exit 0
cd "$PLATFORM"
grep -q '{_WRONG}' {TEMPLATE_FILE} && exit 0
cp "$MANIFESTS"/07-gitops/{TEMPLATE_FILE} {TEMPLATE_FILE}
git diff --quiet || git commit --quiet --all --message 'The template as it was'
{_MISHAP}""",
    start="""\
# cd "$PLATFORM"
# git log --oneline
# …""",
    expectations=(git_is_mended, history_is_whole, works_again),
    hints=(
        "`git revert` takes a commit back by making another. `git log --oneline` shows which.",
        "git revert --no-edit HEAD, then git push.",
    ),
    faults=(
        Fault(
            "mended in the cluster",
            f"""\
{_MISHAP}{_DEGRADED}\
kubectl -n {app.NAMESPACE} patch externalsecret {app.EXTERNAL_SECRET} --type=merge -p \\
    '{{"spec": {{"target": {{"template": {{"data": {{"credentials": "{{{{ .password }}}}"}}}}}}}}}}'
""",
            git_is_mended,
            "mended in Git",
        ),
        Fault(
            "taken out of the history",
            f"""\
cd "$PLATFORM"
first=$(git log --format=%h --grep='^{SUBJECT}$' | tail -1)
git reset --quiet --hard "$first~1"
git push --quiet --force
""",
            history_is_whole,
            "force-push",
        ),
        Fault(
            "mended with another mistake",
            edited("s/{{ .password }}/{{ .Password }}/", "Tidier still", TEMPLATE_FILE) + _DEGRADED,
            works_again,
            "which key",
        ),
    ),
)
