"""Four ways to keep secrets out of (or in) Git, each really run, and nothing of it left."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import alternatives, paths
from labkit.alternatives import Comparison, Question, Way, ground
from labkit.errors import LabBusy, LabError
from labkit.kube import namespaces
from labkit.lab import Lab
from labkit.scan import KEPT_BY_DESIGN, Needle, Searcher

CRD = "sealedsecrets.bitnami.com"


@pytest.fixture(scope="module")
def values() -> list[str]:
    """Every value that the comparison made up."""
    return []


@pytest.fixture(scope="module")
def compared(lab: Lab, values: list[str]) -> Iterator[Comparison]:
    try:
        ground.find_tools()
    except LabError as error:
        pytest.skip(str(error))
    if lab.record.mode != "mounts":
        pytest.skip("pods have no file system of their own here, which one of the ways needs")
    make = ground.new_password

    def noted() -> str:
        values.append(make())
        return values[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ground, "new_password", noted)
        yield alternatives.compare(lab)


def seen(compared: Comparison, way: Way, question: Question) -> str:
    return " ".join(compared.answer(way, question).seen)


def test_every_answer_has_evidence_or_says_why_not(compared: Comparison) -> None:
    assert compared.was_run
    for way in Way:
        for question in Question:
            answer = compared.answer(way, question)
            assert answer.says
            assert answer.seen or answer.not_run, (way, question)
            if way is not Way.PLAIN:
                assert answer.seen, (way, question)


def test_a_plain_secret_is_in_the_history_for_ever(compared: Comparison) -> None:
    assert "found in base64 in git blob" in seen(compared, Way.PLAIN, Question.IN_GIT)
    leaked = seen(compared, Way.PLAIN, Question.LEAKED_REPOSITORY)
    assert "both values found, the replaced one too" in leaked
    assert "2 commits for 2 values" in seen(compared, Way.PLAIN, Question.ROTATION)


def test_a_sealed_secret_opens_with_the_controllers_key_alone(compared: Comparison) -> None:
    assert "none found" in seen(compared, Way.SEALED, Question.IN_GIT)
    refused = seen(compared, Way.SEALED, Question.LEAKED_REPOSITORY)
    assert refused.count("no key could decrypt secret") == 2, "another key, another name"
    assert "opened both commits offline" in seen(compared, Way.SEALED, Question.LEAKED_KEY)
    assert "2 commits for 2 values" in seen(compared, Way.SEALED, Question.ROTATION)
    away = seen(compared, Way.SEALED, Question.AWAY)
    assert "a third one waited" in away
    assert "no key could decrypt secret" in away, "with the key lost"


def test_the_plugin_prints_the_value_and_leaves_a_token(compared: Comparison) -> None:
    assert "none found" in seen(compared, Way.PLUGIN, Question.IN_GIT)
    key = seen(compared, Way.PLUGIN, Question.KEY)
    assert "VAULT_TOKEN for token authentication cannot be empty" in key
    assert "`~/.avp/config.json`, mode 0644" in key
    assert "printed the Secret" in seen(compared, Way.PLUGIN, Question.SEEN_BY)
    assert "ConfigMap" in seen(compared, Way.PLUGIN, Question.SEEN_BY)
    assert "1 commit for 2 values" in seen(compared, Way.PLUGIN, Question.ROTATION)
    assert "external was denied" in seen(compared, Way.PLUGIN, Question.LEAKED_KEY)
    assert "Vault is sealed" in seen(compared, Way.PLUGIN, Question.AWAY)
    assert "sidecar" in compared.answer(Way.PLUGIN, Question.SEEN_BY).not_run


def test_external_secrets_rotates_without_a_commit(compared: Comparison) -> None:
    assert "none found" in seen(compared, Way.EXTERNAL, Question.IN_GIT)
    assert "1 commit for 2 values" in seen(compared, Way.EXTERNAL, Question.ROTATION)
    assert "audit log has the operator asking" in seen(compared, Way.EXTERNAL, Question.KEY)
    assert "plugin was denied" in seen(compared, Way.EXTERNAL, Question.LEAKED_KEY)
    away = seen(compared, Way.EXTERNAL, Question.AWAY)
    assert "Vault is sealed" in away
    assert "a third value arrived" in away


def test_no_value_is_shown_or_left_anywhere(
    lab: Lab, compared: Comparison, values: list[str]
) -> None:
    assert len(values) == 10
    searcher = Searcher([Needle(f"value {n}", value) for n, value in enumerate(values)])
    for text in (str(compared), compared._repr_html_(), repr(compared)):
        assert not searcher.in_bytes(text.encode(), "the outcome")
    # etcd keeps deleted objects for a while, as it does with any Secret.
    assert not searcher.in_files(lab.paths.root, skip=KEPT_BY_DESIGN).leaks
    assert not searcher.in_git(Path(__file__).parent).leaks
    assert not searcher.in_processes().leaks


def test_nothing_of_it_is_left(lab: Lab, compared: Comparison) -> None:
    assert not (lab.paths.root / "alternatives").exists()
    for namespace in (ground.NAMESPACE, ground.CONTROLLER_NAMESPACE):
        assert lab.api.get("v1", "Namespace", namespace) is None
    for api, kind, name in ground._CLUSTER_OBJECTS:
        assert lab.api.get(api, kind, name) is None, (kind, name)
    assert lab.is_in_order()


def test_the_outcome_reads_as_text_and_as_a_table(compared: Comparison) -> None:
    text, page = str(compared), compared._repr_html_()
    for word in (*(way.value for way in Way), *(question.value for question in Question)):
        assert word in text
        assert word in page
    assert max(map(len, text.splitlines())) <= 100
    assert page.count("<td") == 1 + len(Way) * len(Question)
    assert page.count('scope="row"') == len(Question)
    assert "[run here]" in text
    assert "[not run here]" in text
    assert "not run yet" not in text
    assert re.search(r"Run here in \d+ s with .*kubeseal 0\.40\.0", compared.headline)


def test_the_table_can_be_read_with_nothing_run() -> None:
    shown = alternatives.table()
    assert not shown.was_run
    text = str(shown)
    assert "Nothing was run for this table" in text
    assert "[run here]" not in text
    assert text.count("[not run yet]") + text.count("[not run here]") == len(Way) * len(Question)


def test_missing_programs_are_named_with_what_gets_them(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path))
    with pytest.raises(LabError) as caught:
        alternatives.compare(lab)
    assert (
        "`labkit programs get sealed-secrets-controller kubeseal argocd-vault-plugin`"
        in caught.value.todo
    )
    assert not (lab.paths.root / "alternatives").exists()


def test_somebody_elses_sealed_secrets_is_left_alone(lab: Lab, compared: Comparison) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sealed-secrets"}}
    lab.api.apply(body)
    try:
        with pytest.raises(LabError, match="somebody else's"):
            alternatives.compare(lab)
        assert lab.api.get("v1", "Namespace", "sealed-secrets") is not None
        assert lab.api.get("v1", "Namespace", "alternatives") is None
    finally:
        namespaces.remove(lab.api, "sealed-secrets")


def test_one_comparison_at_a_time(lab: Lab, compared: Comparison) -> None:
    with ground._alone(lab), pytest.raises(LabBusy, match="compared in this lab already"):
        alternatives.compare(lab)


def test_an_interrupt_leaves_nothing(lab: Lab, compared: Comparison) -> None:
    def interrupt(line: str) -> None:
        if line == Way.SEALED.value:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alternatives.compare(lab, progress=interrupt)
    test_nothing_of_it_is_left(lab, compared)


KILLED = """
import sys
from labkit import alternatives, lab
alternatives.compare(lab.attach(sys.argv[1]), progress=lambda line: print(line, flush=True))
"""


def test_what_a_killed_process_left_goes_with_the_next(lab: Lab, compared: Comparison) -> None:
    argv = [sys.executable, "-c", KILLED, lab.name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == Way.PLUGIN.value:
                break
        process.kill()
    left = lab.paths.root / "alternatives"
    assert left.exists()
    with ground.opened(lab, ground.find_tools(), timeout=60, progress=print) as here:
        assert not list(here.folder.iterdir())
    test_nothing_of_it_is_left(lab, compared)


def test_its_manifests_hold_no_secret_and_no_crd() -> None:
    files = sorted(paths.manifest("alternatives").rglob("*.yaml"))
    assert len(files) == 4
    for file in files:
        text = file.read_text()
        assert "CustomResourceDefinition" not in text
        assert not re.search(r"^\s*(data|token):", text, re.MULTILINE) or "remoteRef" in text
