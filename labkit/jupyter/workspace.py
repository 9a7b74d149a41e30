"""A JupyterLab workspace for the course: the first lesson, with the app's page at its side.

JupyterLab keeps workspaces in a folder of the user's and writes every change of the layout
there.  So it is offered once, and from then on it is the learner's:
``lab/workspaces/labkit`` opens it as it was left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAME = "labkit"
_CONTENT = Path(__file__).with_name("workspace.json")
_PLACES = ("00-start-here.ipynb", "notebooks/00-start-here.ipynb")
"""Where the first lesson is, seen from where Jupyter was started."""


def content(root: Path) -> str | None:
    """The workspace (JSON) for a server whose files begin at ``root``; None where there
    is no course."""
    for place in _PLACES:
        if (root / place).is_file():
            return _CONTENT.read_text().replace("{notebook}", place)
    return None


def offer(server: Any) -> None:
    """Keep the workspace where JupyterLab looks for it, unless there is one already.

    A folder that cannot be written is no reason for Jupyter not to start.
    """
    from jupyterlab.commands import get_workspaces_dir  # type: ignore[import-untyped]
    from jupyterlab_server.workspaces_handler import WORKSPACE_EXTENSION, WorkspacesManager, slugify

    text = content(Path(server.root_dir))
    folder = Path(server.config.get("LabApp", {}).get("workspaces_dir") or get_workspaces_dir())
    if text is None or (folder / (slugify(NAME) + WORKSPACE_EXTENSION)).exists():
        return
    try:
        WorkspacesManager(str(folder)).save(NAME, text)
    except OSError as error:
        server.log.warning("labkit: no workspace is kept, since %s", error)
