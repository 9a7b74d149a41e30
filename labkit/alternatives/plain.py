"""A plain Secret in Git, run: what base64 hides (nothing) and what a history keeps (all)."""

from __future__ import annotations

import base64

from labkit.alternatives.ground import FIELD, NAMESPACE, Ground, as_yaml, check, new_value, searcher
from labkit.alternatives.model import MASK, Question, Seen
from labkit.kube import parse_manifests

SECRET = "plain"
FILE = "plain.yaml"


def run(here: Ground) -> Seen:
    """Commit a Secret, rotate it, leak the repository.  Raises LabError for what is not so.

    1. Commit the first value and apply the clone.
    2. Commit the second: the cluster keeps the first until that is applied too.
    3. Search every object of a fresh clone, and decode what is found.
    4. Make the Secret from the clone alone.
    """
    first, second = new_value(), new_value()
    repository = here.repository("plain")
    repository.commit({FILE: _text(first)}, "The password")  # 1
    checkout = repository.clone("plain-checkout")
    here.sync(checkout.folder)
    here.wait_value(SECRET, first)

    repository.commit({FILE: _text(second)}, "Another password")  # 2
    check(here.value_of(SECRET) == first, "nothing changes before a sync")
    checkout.pull()
    here.sync(checkout.folder)
    here.wait_value(SECRET, second)

    leaked = repository.clone("plain-leaked")  # 3
    searched, found = leaked.search(searcher(first, second))
    check({"value 1", "value 2"} == set(found), "both values are in the clone", str(set(found)))
    check(here.files_hold(checkout, second), "the value is in the checkout")
    decoded = [_decoded(leaked.show(commit, FILE)) for commit in leaked.commits]
    check(decoded == [first, second], "base64 gives the values back")

    here.kube.delete("v1", "Secret", SECRET, NAMESPACE)  # 4
    here.sync(leaked.folder)
    took = here.wait_value(SECRET, second)
    return {
        Question.IN_GIT: (
            f"the value was found in base64 in {found['value 2'][0].where.rpartition(':')[0]}.",
        ),
        Question.ROTATION: (
            f"{len(leaked.commits)} commits for 2 values; after the second the Secret had the "
            "first value until the clone was pulled and applied.",
        ),
        Question.LEAKED_REPOSITORY: (
            f"{searched.objects} objects of a fresh clone searched: both values found, the "
            f"replaced one too; base64-decoded, both are right ({FIELD}: {MASK}).",
        ),
        Question.SEEN_BY: ("the checkout, the clone and the Secret hold the same value.",),
        Question.AWAY: (
            "the Secret was deleted and made again from the clone; no controller and no Vault had "
            f"a part in it ({took:.1f} s).",
        ),
    }


def _text(value: str) -> str:
    return as_yaml(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "data": {FIELD: base64.b64encode(value.encode()).decode()},
        }
    )


def _decoded(text: str) -> str:
    (secret,) = parse_manifests(text, FILE)
    return base64.b64decode(secret["data"][FIELD]).decode()
