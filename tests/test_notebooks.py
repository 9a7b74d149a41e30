"""Every notebook, run: by papermill with other values, by nbval against what is stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from labkit.lab import Lab

REPO = Path(__file__).parent.parent
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
ARTIFACTS = REPO / "artifacts" / "notebooks"


@pytest.fixture
def kernel_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels started by this test attach to the session's lab."""
    monkeypatch.setenv("LABKIT_LAB", lab.name)
    monkeypatch.setenv("IPYTHONDIR", str(lab.paths.root / "ipython"))


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Cells whose outputs are the same each time; papermill's own one left out."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and not {"injected-parameters", "nbval-ignore-output"} & set(cell.metadata.get("tags", []))
    ]


def ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=ids)
@pytest.mark.usefixtures("kernel_environment")
def test_papermill_runs_it_with_other_values(notebook: Path, lab: Lab) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    done = papermill.execute_notebook(
        notebook,
        ARTIFACTS / notebook.name,
        parameters={"user": "somebody_else"},
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
    )
    assert lab.app.shows("db_user") == "somebody_else"
    text = nbformat.writes(done)
    for file in (lab.paths.vault_token, lab.paths.vault_unseal_key, lab.paths.proxy_url):
        assert file.read_text().strip() not in text
    password = lab.app.shows("db_password")
    assert password
    assert password not in text
    for before, after in zip(
        code_cells(nbformat.read(notebook, as_version=4)), code_cells(done), strict=True
    ):
        assert bool(before.outputs) == bool(after.outputs), f"{before.id}: run `make notebooks`"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=ids)
@pytest.mark.usefixtures("kernel_environment")
def test_nbval_finds_the_stored_outputs_again(notebook: Path, lab: Lab) -> None:
    lab.reset()  # the run above left other values
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(notebook.parent)),
            *("--nbval", "--nbval-sanitize-with", str(REPO / "tests" / "nbval.cfg")),
            *("--override-ini", "addopts=", str(notebook)),
        ],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=ids)
def test_stored_outputs_are_clean(notebook: Path) -> None:
    stored = nbformat.read(notebook, as_version=4)
    nbformat.validate(stored)
    count = 0
    for cell in stored.cells:
        assert set(cell.metadata) <= {"tags"}, f"{cell.id}: metadata of somebody's editor"
        if cell.cell_type != "code":
            continue
        count += 1
        assert cell.execution_count == count, f"{cell.id}: not one run from top to bottom"
        for output in cell.outputs:
            assert output.output_type != "error", f"{cell.id} stores an error"
            assert str(Path.home()) not in str(output), f"{cell.id} stores a path of this machine"
