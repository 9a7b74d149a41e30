"""The lab inside JupyterLab: its pages through Jupyter's own door, and how the lab is.

A server extension, loaded by the configuration that labkit's wheel brings along.  Below
Jupyter's base URL it answers, to the signed-in user only, so that it is the same on one's
own machine, on Binder and on JupyterHub:

- ``labkit/app/``: the demo application's page (``appdoor``);
- ``labkit/vault/``: Vault's own user interface (``vaultdoor``);
- ``labkit/api/status``: how the lab is, for the status bar.

``labkit/labs/NAME/…`` is the same of another lab than the default one.  What a browser
makes of it (Launcher, status bar) is in ``_jupyter/labextension``, the views' frames in
``views``.  Nothing of the lab is imported before somebody asks.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by Jupyter's server when it starts (its extension interface)."""
    from labkit.jupyter import doors, workspace

    doors.open_in(server.web_app)
    workspace.offer(server)
