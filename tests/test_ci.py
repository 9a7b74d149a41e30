"""The workflow, the recipes and the devcontainer name only what exists: commands, options,
paths, make targets; and what they promise of themselves holds."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from harness import REPO

from labkit.cli import app
from labkit.errors import UsageError
from labkit.programs.catalogue import CATALOGUE, builds_of, needed_by_a_lab
from labkit.programs.key import cache_key

WORKFLOW = REPO / ".github" / "workflows" / "ci.yml"
DEVCONTAINER = REPO / ".devcontainer" / "devcontainer.json"
EXAMPLE = REPO / "examples" / "test-your-manifests"
CI, TESTING = REPO / "docs" / "ci.md", REPO / "docs" / "testing-your-manifests.md"
PAGES = (CI, TESTING)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")
_TOP = {path.name for path in REPO.iterdir()} - {"artifacts"}  # which runs make


def fenced(page: Path, language: str) -> list[str]:
    return [text for kind, text in _FENCE.findall(page.read_text()) if kind == language]


def recipes() -> dict[str, Any]:
    """Every YAML recipe by a name: the workflow's and the pages' own."""
    found = {"ci.yml": yaml.safe_load(WORKFLOW.read_text())}
    for number, text in enumerate(fenced(CI, "yaml"), 1):
        found[f"recipe {number} of ci.md"] = yaml.safe_load(text)
    return found


def scripts(recipe: Any) -> Iterator[str]:
    """Every shell script in a recipe, of either system."""
    if isinstance(recipe, dict):
        for key, value in recipe.items():
            if key == "run":
                yield value
            elif key in ("script", "after_script"):
                yield from value
            else:
                yield from scripts(value)
    elif isinstance(recipe, list):
        for each in recipe:
            yield from scripts(each)


def told() -> Iterator[tuple[str, str]]:
    """(where, command line) for all that a reader or a runner is told to run."""
    for name, recipe in recipes().items():
        for script in scripts(recipe):
            for line in script.replace("\\\n", " ").splitlines():
                yield name, line
    for page in PAGES:
        for text in fenced(page, ""):
            for line in text.splitlines():
                yield page.name, line.removeprefix("$ ")
        for text in _INLINE.findall(_FENCE.sub("", page.read_text())):
            yield page.name, text
    yield "devcontainer.json", json.loads(DEVCONTAINER.read_text())["postCreateCommand"]


_INNER = re.compile(r"\$\(([^()]+)\)")
COMMANDS = sorted(
    {(where, text.strip()) for where, line in told() for text in (line, *_INNER.findall(line))}
)


def words_of(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def invocations(program: str) -> list[tuple[str, list[str]]]:
    """Where and with which words ``program`` is called, up to the end of that call."""
    found = []
    for where, line in COMMANDS:
        words = words_of(line)
        if program in words[:1]:
            ends = [n for n, word in enumerate(words) if word in (">", "|", "||", "&&", ";")]
            found.append((where, words[1 : min(ends, default=len(words))]))
    return found


def resolve(words: list[str]) -> None:
    """See that ``labkit WORDS`` names a command and options that there are."""
    command: Any = typer.main.get_command(app)
    rest = [*words]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"labkit {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for word in rest:
        if word.startswith("--") and word != "--":
            assert word.partition("=")[0] in options | {"--help"}, f"labkit {' '.join(words)}"


def test_every_labkit_command_that_is_told_exists() -> None:
    calls = invocations("labkit")
    assert {where for where, _ in calls} >= {"ci.yml", "ci.md", "testing-your-manifests.md"}
    for where, words in calls:
        if words and words[0] != "…":
            try:
                resolve(words)
            except AssertionError as error:
                raise AssertionError(f"{where}: there is no `{error.args[0]}`") from None


def test_every_program_and_make_target_that_is_told_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    for where, words in invocations("make"):
        assert set(words) <= targets, f"{where}: make {words}"
    asked = yaml.safe_load(fenced(CI, "yaml")[0])["env"]["PROGRAMS"]
    builds = builds_of(asked.split())
    assert builds == builds_of(needed_by_a_lab()), "PROGRAMS stands for what a lab needs"
    assert f"labkit programs get {asked}" in TESTING.read_text()
    assert all(f"PROGRAMS: {asked}" in text for text in fenced(CI, "yaml") if "PROGRAMS:" in text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for link in _LINK.findall(text):
        assert (page.parent / link).exists(), link
    for words in map(words_of, _INLINE.findall(_FENCE.sub("", text))):
        for word in words:
            if word.split("/")[0] in _TOP and "/" in word:
                assert (REPO / word).exists() or (EXAMPLE / word).exists(), word


@pytest.mark.parametrize("name", recipes())
def test_every_path_that_a_recipe_names_exists(name: str) -> None:
    recipe = recipes()[name]
    named = [word.rstrip(";") for script in scripts(recipe) for word in words_of(script)]
    for job in recipe.values():
        if isinstance(job, dict) and "cache" in job:
            named += job["cache"]["key"]["files"]
    for word in named:
        if word.split("/")[0] in _TOP and "$" not in word:
            assert [*REPO.glob(word)], word


def jobs(recipe: Any) -> dict[str, Any]:
    return recipe["jobs"]


@pytest.mark.parametrize("name", [name for name, each in recipes().items() if "jobs" in each])
def test_a_workflow_has_few_rights_an_end_and_pinned_actions(name: str) -> None:
    recipe = recipes()[name]
    assert recipe["permissions"] == {"contents": "read"}
    for job in jobs(recipe).values():
        assert "permissions" not in job
        assert job["timeout-minutes"]
        assert "latest" not in job["runs-on"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w/-]+@v\d+", step["uses"])
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
            for script in scripts(step):
                assert "${{" not in script, "values go through the environment, never into a shell"


def test_the_workflow_runs_on_what_the_kit_says_it_supports() -> None:
    recipe = yaml.safe_load(WORKFLOW.read_text())
    assert recipe["concurrency"]["cancel-in-progress"] is True
    matrix = jobs(recipe)["lessons"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert [(row["os"], row["untried"]) for row in matrix["include"]] == [("macos-15", True)]
    assert jobs(recipe)["lessons"]["continue-on-error"] == "${{ matrix.untried }}"
    said = "\n".join(scripts(recipe))
    for each in ("labkit up", "papermill", "--nbval", "labkit programs key", "labkit down --all"):
        assert each in said
    kept = next(s for s in jobs(recipe)["lessons"]["steps"] if "upload" in s.get("uses", ""))
    assert kept["if"] == "always()"


def test_the_cache_key_is_another_one_when_a_lock_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key()
    assert re.fullmatch(r"labkit-\w+-\w+-[0-9a-f]{16}", before)
    assert cache_key() == before
    assert cache_key(["etcd"]) != cache_key(["external-secrets"]) != before
    assert cache_key(["etcd"]) == cache_key(["etcdutl"]), "one build makes both"
    with pytest.raises(UsageError, match="no such program"):
        cache_key(["etdc"])
    monkeypatch.setattr(type(CATALOGUE["etcd"].source), "lock_digest", lambda self: self.name)
    assert cache_key() != before


def test_the_page_shows_the_example_as_it_is() -> None:
    assert fenced(TESTING, "python") == [(EXAMPLE / "test_orders.py").read_text()]


def test_the_devcontainer_sets_up_without_docker_and_forwards_jupyter_alone() -> None:
    found = json.loads(DEVCONTAINER.read_text())
    assert "python:3.12" in found["image"]
    assert found["forwardPorts"] == [8888]
    assert found["otherPortsAttributes"] == {"onAutoForward": "ignore"}
    assert not {"features", "privileged", "mounts", "runArgs"} & set(found)
