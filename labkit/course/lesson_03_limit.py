"""Lesson 03's third exercise: a ClusterSecretStore that serves one namespace."""

from __future__ import annotations

from labkit import app, eso, vault, workloads
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course import script as scripts
from labkit.course.lesson_03_stores import probe, why_not_read
from labkit.course.model import Exercise, Fault

_KIND = "ClusterSecretStore"
_NAME = workloads.STORE
_CONDITIONS = "  conditions:\n    - namespaces: [demo]\n"
_SCRIPT = scripts.applied(workloads.STORE_FILE).replace("spec:\n", f"spec:\n{_CONDITIONS}", 1)


@expects("it still serves the shop")
def limit_serves(scene: Scene) -> Finding:
    expected = f"an ExternalSecret in the namespace {app.NAMESPACE} may use the store"
    said = probe(scene, _KIND, _NAME, namespace=app.NAMESPACE, key=vault.KEY)
    if not said:
        return met(expected)
    return not_yet(expected, f"it fails: {said}", next=why_not_read(said, vault.KEY), blocks=True)


@expects("it serves nobody else")
def limit_refuses(scene: Scene) -> Finding:
    team = scene["team"]
    expected = f"an ExternalSecret in the namespace {team} may not use it"
    said = probe(scene, _KIND, _NAME, namespace=team, key=vault.KEY)
    if "denied by spec.condition" in said:
        return met(expected)
    if said:
        return not_yet(
            expected,
            f"it fails for another reason: {said}",
            next=f"Mend that first: lesson.undo('limit') takes the conditions away again. {said}",
        )
    conditions = ((scene.kube.get(eso.API, _KIND, _NAME) or {}).get("spec") or {}).get("conditions")
    return not_yet(
        expected,
        "it reads the shop's credentials",
        next=f"Give the store conditions with namespaces: [{app.NAMESPACE}].",
        hint="The store's conditions let in more than the one namespace. A namespace needs to "
        f"fulfil only one of them: leave nothing but namespaces: [{app.NAMESPACE}]."
        if conditions
        else "",
    )


LIMIT = Exercise(
    name="limit",
    title="One namespace only",
    script=_SCRIPT,
    undo=f"""\
if kubectl get clustersecretstore {_NAME} > /dev/null 2>&1; then
  kubectl patch clustersecretstore {_NAME} --type=merge -p '{{"spec": {{"conditions": null}}}}'
fi
""",
    blanks=("  ⟦conditions⟧:", "    - ⟦namespaces: [demo]⟧"),
    expectations=(limit_serves, limit_refuses),
    hints=(
        "`kubectl explain clustersecretstore.spec` names the field, and "
        "`kubectl explain clustersecretstore.spec.conditions` what can stand in it.",
        "The field is conditions; its one entry is namespaces: [demo].",
    ),
    faults=(
        Fault(
            "another namespace",
            _SCRIPT.replace("[demo]", "[default]"),
            limit_serves,
            "conditions must let this namespace in",
        ),
        Fault(
            "no condition",
            scripts.applied(workloads.STORE_FILE),
            limit_refuses,
            "give the store conditions",
        ),
        Fault(
            "a pattern for all",
            _SCRIPT.replace(_CONDITIONS, f"{_CONDITIONS}    - namespaceRegexes: ['.*']\n"),
            limit_refuses,
            "only one of them",
        ),
    ),
)
