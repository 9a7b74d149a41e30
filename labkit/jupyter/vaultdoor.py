"""Vault's own user interface through Jupyter's door.

It was made to stand at the root of a host (``/ui/``, ``/v1/``).  Here it stands below a
prefix, so its addresses are rewritten on the way: in its pages, scripts and style sheets,
and by a script that is put before its own for those it makes up as it goes.  The way to
Vault is the lab's network, by the Service's name.

Signing in is Vault's business and the visitor's: no token is added here.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from labkit.jupyter import doors, waiting

_SCRIPT = Path(__file__).with_name("vaultdoor.js")
_UNWANTED = "ui/sw-registration.js"
"""A service worker would be one of Jupyter's whole origin."""
_HANDED_ON = ("accept", "content-type", "range")
_HANDED_BACK = ("Content-Type", "Cache-Control", "Content-Disposition", "X-Content-Type-Options")
_REWRITTEN = ("text/html", "text/css", "text/javascript", "application/javascript")


class VaultHandler(JupyterHandler):
    """``labkit/vault/…``: one request to Vault."""

    def check_xsrf_cookie(self) -> None:
        """Vault asks for its own token in a header, which no other site can send."""

    @web.authenticated
    async def _any(self, name: str | None, path: str) -> None:
        if self.request.method not in {"GET", "HEAD"} and not doors.is_same_origin(self.request):
            raise web.HTTPError(403, "this request comes from another site")
        if not path:
            self.redirect(doors.place(self, name, "vault") + "/ui/")
        elif path == _UNWANTED:
            self._script("")
        elif path == "door.js":
            self._script(_SCRIPT.read_text())
        elif path.startswith(("ui/", "v1/")):
            await self._pass(name, path)
        else:
            raise web.HTTPError(404)

    get = head = post = put = patch = delete = _any

    def _script(self, text: str) -> None:
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(text)

    async def _pass(self, name: str | None, path: str) -> None:
        from labkit.vault import ADDRESS  # at the first call: it takes its time to import

        proxy = await doors.lookout(self, name).vault_proxy.get()
        if proxy is None:
            waiting.answer(self, await doors.lookout(self, name).status.get())
            return
        query = doors.query_without_token(self.request.query)
        headers = {
            key: value
            for key, value in self.request.headers.items()
            if key.lower() in _HANDED_ON or key.lower().startswith(("x-vault-", "x-bao-"))
        }
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=60), trust_env=False
                ) as session,
                session.request(
                    self.request.method,
                    f"{ADDRESS}/{quote(path)}" + (f"?{query}" if query else ""),
                    proxy=proxy,
                    headers={**headers, "Accept-Encoding": "identity"},
                    data=self.request.body or None,
                    allow_redirects=False,
                ) as answer,
            ):
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            raise web.HTTPError(502, "Vault does not answer; see `labkit status`") from None
        self._hand_back(answer, body, doors.place(self, name, "vault"))

    def _hand_back(self, answer: aiohttp.ClientResponse, body: bytes, prefix: str) -> None:
        self.set_status(answer.status)
        self.clear_header("Content-Security-Policy")  # Jupyter's: Vault has a stricter one
        for header in (*_HANDED_BACK, "Content-Security-Policy"):
            if header in answer.headers:
                self.set_header(header, answer.headers[header])
        if 300 <= answer.status < 400 and "Location" in answer.headers:
            self.set_header("Location", prefix + urlsplit(answer.headers["Location"]).path)
        kind = answer.headers.get("Content-Type", "")
        self.finish(rewritten(body, kind, prefix) if kind.startswith(_REWRITTEN) else body)


def rewritten(body: bytes, kind: str, prefix: str) -> bytes:
    """Vault's page, script or style sheet with its addresses below ``prefix``."""
    place = f"{prefix}/ui/".encode()
    for before in (b'"', b"'", b"(", b"%22"):
        body = body.replace(before + b"/ui/", before + place)
    if kind.startswith("text/html"):
        body = body.replace(b"%2Fui%2F", quote(place, safe="").encode())
        script = f'<head><script src="{prefix}/door.js"></script>'.encode()
        body = body.replace(b"<head>", script, 1)
    return body
