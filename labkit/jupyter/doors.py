"""The addresses below Jupyter's base URL, and what all doors have in common.

Every request needs Jupyter's sign-in (``ProxyHandler.prepare`` and ``authenticated`` see
to that), and one that may change something has to come from a page of the same origin.
Jupyter's own credentials stay at the door: what stands behind gets neither cookie nor
token.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from labkit.jupyter.lookout import Lookout

_NAME = r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"  # as paths.check_lab_name has it
_LOOKOUTS = "labkit_lookouts"


def open_in(web_app: Any) -> None:
    """Add the doors to Jupyter's web application."""
    from labkit.jupyter.appdoor import AppHandler
    from labkit.jupyter.vaultdoor import VaultHandler

    base = re.escape(url_path_join(web_app.settings["base_url"], "labkit"))
    start = rf"{base}(?:/labs/({_NAME}))?"
    web_app.settings.setdefault(_LOOKOUTS, {})
    web_app.add_handlers(
        ".*",
        [
            (rf"{start}/api/status", StatusHandler),
            (rf"{start}/(?:app|vault)", SlashHandler),
            (rf"{start}/app/(.*)", AppHandler),
            (rf"{start}/vault/(.*)", VaultHandler),
        ],
    )


def lookout(handler: Any, name: str | None) -> Lookout:
    """The one Lookout that there is for a lab in this server; None names the default lab."""
    from labkit.lab import default_name

    chosen = name or default_name()
    found: dict[str, Lookout] = handler.settings[_LOOKOUTS]
    return found.setdefault(chosen, Lookout(chosen))


def place(handler: Any, name: str | None, door: str) -> str:
    """The URL path of a door, with no slash at its end."""
    middle = f"labs/{name}/{door}" if name else door
    return str(url_path_join(handler.base_url, "labkit", middle))


def is_same_origin(request: Any) -> bool:
    """Whether a request comes from a page of ours, or from no browser at all.

    Browsers say so in ``Sec-Fetch-Site``, which no script can set; where they do not (an
    address that is not https nor this machine), ``Origin`` has to be the host that was asked.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return bool(site == "same-origin")
    origin = request.headers.get("Origin")
    return origin is None or bool(urlsplit(origin).netloc.lower() == request.host.lower())


def query_without_token(query: str) -> str:
    """The query as it is handed on: Jupyter takes its token from there, too."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(key, value) for key, value in pairs if key != "token"])


class SlashHandler(JupyterHandler):
    """A door's address without the slash that its relative URLs need."""

    @web.authenticated
    def get(self, _name: str | None) -> None:
        self.redirect(urlsplit(self.request.uri).path + "/")


class StatusHandler(APIHandler):
    """``GET labkit/api/status``: how the lab is (``lookout.Lookout.status``) as JSON."""

    _track_activity = False  # an open status bar is no sign of somebody being there

    @web.authenticated
    async def get(self, name: str | None) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(await lookout(self, name).status.get()))
