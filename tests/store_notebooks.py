"""Run every notebook and store its outputs, clean: `make notebooks`.

What is stored is what `make test` compares with, and what people read who run nothing.
Editors' metadata and the outputs of cells that are told to vary stay out; run counts are
those of one run from top to bottom (nbval takes a cell without one as never run).
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from labkit import lab as labs

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
VARIES = "nbval-ignore-output"


def clean(notebook: nbformat.NotebookNode) -> None:
    """Keep of a run only what is the same next time."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            if VARIES in (tags or []):
                cell.outputs = []
            for output in cell.outputs:
                if output.output_type in ("execute_result", "display_data"):
                    output.metadata = {}
                if output.output_type == "execute_result":
                    output.execution_count = count


def main() -> None:
    lab = labs.up(labs.default_name(), progress=print)
    os.environ["LABKIT_LAB"] = lab.name
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        lab.reset()
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOKS}}).execute()
        clean(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: stored")


if __name__ == "__main__":
    main()
