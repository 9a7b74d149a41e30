"""What Argo CD applied is what the files say, rendered and compared with nobody's help."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from argocd.world import World
from labkit import eso, gitrepo, programs
from labkit.paths import manifest

FOLDERS = ("apps", "vault", "store", "shop")
NOT_IN_THE_FILES = ("argocd.argoproj.io/tracking-id:", "generation:")
"""What Argo CD adds to each object: the annotation by which it knows its own again.  To take
it away would be a change of the object, which is what ``generation`` counts."""


@pytest.fixture(scope="module")
def rendered(built: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by their Application: the folders of the repository, ESO's chart and CRDs."""
    built.heal()
    place = tmp_path_factory.mktemp("rendered")
    upstream = place / "external-secrets"
    url = gitrepo.url(gitrepo.EXTERNAL_SECRETS)
    built.must("git", "clone", "-q", "--branch", gitrepo.TAG, url, str(upstream))
    helm = yaml.safe_load((built.clone / "apps/external-secrets.yaml").read_text())["spec"][
        "source"
    ]["helm"]
    (place / "values.yaml").write_text(yaml.safe_dump(helm["valuesObject"]))
    text = built.must(
        str(programs.resolve("helm").path), "template", helm["releaseName"],
        str(upstream / "deploy/charts/external-secrets"),
        "--namespace", eso.NAMESPACE, "--values", str(place / "values.yaml"),
    )  # fmt: skip
    (place / "chart.yaml").write_text(text)
    found = {name: built.clone / name for name in FOLDERS}
    found["platform"] = manifest("argocd-root")
    return found | {"crds": upstream / "deploy/crds", "chart": place / "chart.yaml"}


def _where(name: str) -> tuple[str, ...]:
    """Objects of the chart name no namespace: it is the Application that says where."""
    return ("-n", eso.NAMESPACE) if name == "chart" else ()


@pytest.mark.parametrize("name", [*FOLDERS, "platform", "crds", "chart"])
def test_a_server_side_apply_would_change_nothing(
    world: World, rendered: dict[str, Path], name: str
) -> None:
    """Every field that the files set has that very value; nothing needs to be ignored, since
    an apply takes away no field that it did not set itself."""
    # As Argo CD's own manager: somebody else would have to be told to take fields over.
    as_argocd = ("--server-side", "--field-manager=argocd-controller", "--force-conflicts")
    words = (*_where(name), "-f", str(rendered[name]))
    assert world.run("kubectl", "diff", *as_argocd, *words) == (0, "")


@pytest.mark.parametrize("name", [*FOLDERS, "chart"])
def test_argo_cd_has_set_nothing_else(world: World, rendered: dict[str, Path], name: str) -> None:
    """Three-way, with what Argo CD wrote as applied last: a field of its that is in no file
    would be taken away.  (CRDs and the root are not applied in this way.)"""
    words = ("kubectl", "diff", *_where(name), "-f", str(rendered[name]))
    code, said = world.run(*words)
    changed = [
        line[1:].strip()
        for line in said.splitlines()
        if line.startswith(("-", "+")) and not line.startswith(("---", "+++"))
    ]
    assert code == 1, said
    assert [line for line in changed if not line.startswith(NOT_IN_THE_FILES)] == []
    tracked = sum(line.startswith(NOT_IN_THE_FILES[0]) for line in changed)
    assert tracked == sum(line.startswith("diff ") for line in said.splitlines())


def test_a_difference_would_be_seen(world: World, rendered: dict[str, Path]) -> None:
    text = (rendered["shop"] / "shop.yaml").read_text().replace("replicas: 1", "replicas: 2")
    for how in ((), ("--server-side", "--field-manager=argocd-controller", "--force-conflicts")):
        code, said = world.run("kubectl", "diff", *how, "-f", "-", text=text)
        assert code == 1
        assert "+  replicas: 2" in said
    dry = world.must("kubectl", "apply", "--dry-run=server", "-f", str(rendered["store"]))
    assert "clustersecretstore.external-secrets.io/vault-backend" in dry
