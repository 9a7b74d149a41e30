"""JupyterLab as `make lab` and `labkit lab` serve it: one person, this machine, bad Wi-Fi.

It listens on loopback behind Jupyter's own token, opens the first lesson beside the
application's page, and asks nothing of the network.  Of its log only the address is shown.
"""

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - Jupyter puts it there

c.ServerApp.ip = "127.0.0.1"
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True  # root is who one is in many containers
c.Application.log_level = "ERROR"
# The first lesson with the application's page at its side (labkit/jupyter/workspace.py).
c.LabApp.default_url = "/lab/workspaces/labkit"
c.LabApp.extension_manager = "readonly"
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
