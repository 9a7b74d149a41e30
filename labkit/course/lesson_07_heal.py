"""Lesson 07's second exercise: have Argo CD put back what was changed by hand.

The checkpoint changes something by hand itself, and sees whether it is put back.
"""

from __future__ import annotations

import time

from labkit import app, eso
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_07_bring_up import arrived, committed
from labkit.course.lesson_07_repository import (
    NOT_DEPLOYED,
    ROOT,
    SHOP,
    SHOP_FILE,
    application,
    behind,
    cloned,
)
from labkit.course.model import Exercise, Fault
from labkit.kube import Object

_DRIFT = "59m"  # a refreshInterval that nobody else would set
_PATIENCE = 15.0  # seconds for Argo CD to see it and to put it back
_PAUSE = 0.2
_SETTINGS = ("syncPolicy", "ignoreDifferences")


def _is_on(spec: Object) -> bool:
    automated = (spec.get("syncPolicy") or {}).get("automated") or {}
    return automated.get("selfHeal") is True and automated.get("enabled") is not False


@expects("Git says so")
def git_says_so(scene: Scene) -> Finding:
    expected = f"{SHOP_FILE} in main has selfHeal: true"
    with cloned(scene) as repository:
        spec = repository.yaml(SHOP_FILE).get("spec") or {}
    found = application(scene, SHOP)
    if found is None:
        return not_yet(expected, "there is no shop", next=NOT_DEPLOYED, blocks=True)
    if _is_on(spec):
        return met(expected)
    return not_yet(
        expected,
        "it has not",
        next=f"Change it in {SHOP_FILE} of your clone, commit and push.",
        hint=f"A change of the Application with kubectl or argocd is drift as well: the root "
        f"Application puts back what {SHOP_FILE} says. Change the file, commit and push.",
        blocks=True,
    )


@expects("a change by hand is put back")
def is_put_back(scene: Scene) -> Finding:
    expected = "a refreshInterval that is changed by hand is soon as Git has it"
    with cloned(scene) as repository:
        late = behind(scene, repository, [SHOP])
        wanted = repository.yaml(SHOP_FILE).get("spec") or {}
    found = application(scene, SHOP) or {"spec": {}}
    has_arrived = all(found["spec"].get(key) == wanted.get(key) for key in _SETTINGS)
    if late or not has_arrived:
        return not_yet(
            expected,
            "the shop is not at the newest commit yet",
            next="See `argocd app get shop`.",
            settling=True,
        )
    if _heals(scene):
        return met(expected)
    ignored = found["spec"].get("ignoreDifferences")
    return not_yet(
        expected,
        "a change stayed as it was" + (", and is no difference for Argo CD" if ignored else ""),
        next="See `argocd app diff shop` after a change by hand.",
        hint="ignoreDifferences in the Application: what is ignored is no drift, and nobody puts "
        "it back. Take it out."
        if ignored
        else "",
    )


def _heals(scene: Scene) -> bool:
    """Change the ExternalSecret, and see whether it is put back; leaves it as it was."""
    kube = scene.kube
    where = (eso.API, "ExternalSecret", app.EXTERNAL_SECRET)
    before = kube.get(*where, app.NAMESPACE)
    if before is None:
        return False
    interval = before["spec"].get("refreshInterval")

    def set_to(value: object) -> None:
        kube.patch(*where, {"spec": {"refreshInterval": value}}, app.NAMESPACE)

    set_to(_DRIFT)
    ignored = (application(scene, SHOP) or {"spec": {}})["spec"].get("ignoreDifferences")
    deadline = time.monotonic() + (_PATIENCE / 3 if ignored else _PATIENCE)
    while time.monotonic() < deadline:
        now = kube.get(*where, app.NAMESPACE)
        if now and now["spec"].get("refreshInterval") != _DRIFT:
            return True
        time.sleep(_PAUSE)
    set_to(interval)
    return False


_FRESH = (
    'cd "$PLATFORM"\n'
    f"sed 's/selfHeal: true/selfHeal: false/' \"$MANIFESTS\"/07-gitops/{SHOP_FILE} > {SHOP_FILE}\n"
)
_OFF = f'[ -d "$PLATFORM"/apps ] || exit 0\n{_FRESH}{committed("The shop is not healed")}'

HEAL = Exercise(
    name="self-heal",
    title="Let it heal itself",
    script=f"""\
cd "$PLATFORM"
sed -i 's/selfHeal: false/selfHeal: true/' {SHOP_FILE}
{committed("What is changed by hand is put back")}\
{arrived(ROOT, SHOP)}""",
    undo=_OFF,
    start=f"""\
# The file is $PLATFORM/{SHOP_FILE}: look at its syncPolicy (cat, or the file browser).
# Change it (sed -i, or an editor), commit and push:
# cd "$PLATFORM"
# …""",
    expectations=(git_says_so, is_put_back),
    hints=(
        f"syncPolicy.automated of {SHOP_FILE} has two switches: prune and selfHeal.",
        f"sed -i 's/selfHeal: false/selfHeal: true/' {SHOP_FILE}, then git commit --all and push.",
    ),
    faults=(
        Fault(
            "only the cluster was told",
            f"""\
{_OFF}kubectl -n argocd patch application {SHOP} --type=merge \\
    -p '{{"spec": {{"syncPolicy": {{"automated": {{"selfHeal": true}}}}}}}}'
""",
            git_says_so,
            "drift as well",
        ),
        Fault(
            "the difference is ignored",
            f"""\
cd "$PLATFORM"
cat >> {SHOP_FILE} <<'YAML'
  ignoreDifferences:
    - group: external-secrets.io
      kind: ExternalSecret
      jsonPointers: [/spec/refreshInterval]
YAML
{committed("Quiet, please")}{arrived(ROOT, SHOP)}""",
            is_put_back,
            "ignoreDifferences",
        ),
    ),
)
