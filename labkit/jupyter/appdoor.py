"""The demo application's page through Jupyter's door.

A handler of jupyter-server-proxy that looks the page's port up for each request, since it
is another one after every reset.  Its event stream is passed on piece by piece and ends
when the page goes: the proxy's own way would keep it, and the app serves a bounded number
of pages.  Where there is no app, ``waiting`` answers.

The application guards itself against strangers' pages by the name it is asked by (Host).
Behind this door it is asked by its own; who may come to the door is Jupyter's business.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from jupyter_server_proxy.handlers import ProxyHandler  # type: ignore[import-untyped]
from tornado import httputil, iostream, web

from labkit.jupyter import doors, waiting

_HOST = "127.0.0.1"
_PRIVATE = ("Cookie", "Authorization", "X-Xsrftoken", "Origin", "Referer")
_UNREACHABLE = {500, 599}  # what jupyter-server-proxy makes of a connection that fails


class AppHandler(ProxyHandler):  # type: ignore[misc]
    """``labkit/app/…``: one request to the application."""

    _answer: aiohttp.ClientResponse | None = None
    _is_waiting = False

    async def http_get(self, name: str | None, path: str) -> None:
        await self._pass(name, path)

    async def head(self, name: str | None, path: str) -> None:
        await self._pass(name, path)

    async def post(self, name: str | None, path: str) -> None:
        if not doors.is_same_origin(self.request):
            raise web.HTTPError(403, "this request comes from another site")
        await self._pass(name, path)

    def _none(self, *_: Any) -> None:
        raise web.HTTPError(405)

    put = delete = patch = options = _none

    async def open(self, *_: Any) -> None:
        self.close()  # the application has no websockets

    async def _pass(self, name: str | None, path: str) -> None:
        self.proxy_base = doors.place(self, name, "app").removeprefix(self.base_url)
        lookout = doors.lookout(self, name)
        tried = None
        while (port := await lookout.app_port.get()) not in (None, tried):
            try:
                await self.proxy(_HOST, port, path)
                return
            except (web.HTTPError, aiohttp.ClientError) as error:
                if getattr(error, "status_code", 599) not in _UNREACHABLE:
                    raise
            lookout.app_port.forget()  # the lab was reset since; one more look
            tried = port
        self._is_waiting = True
        waiting.answer(self, await lookout.status.get())

    def _log(self) -> None:
        if not self._is_waiting:  # every two seconds the same, and no failure
            super()._log()

    # -- what is handed on -------------------------------------------------------------------

    def proxy_request_headers(self) -> httputil.HTTPHeaders:
        headers: httputil.HTTPHeaders = self.request.headers.copy()
        for header in _PRIVATE:
            headers.pop(header, None)
        headers["Host"] = _HOST
        return headers

    def proxy_request_options(self) -> dict[str, Any]:
        return {"follow_redirects": False, "connect_timeout": 3.0, "request_timeout": 20.0}

    def get_client_uri(self, protocol: str, host: str, port: int, proxied_path: str) -> str:
        uri = str(super().get_client_uri(protocol, host, port, proxied_path)).partition("?")[0]
        query = doors.query_without_token(self.request.query)
        return f"{uri}?{query}" if query else uri

    # -- the event stream --------------------------------------------------------------------

    async def _proxy_progressive(
        self, host: str, port: int, proxied_path: str, _body: Any, _client: Any
    ) -> None:
        url = self.get_client_uri("http", host, port, proxied_path)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3.0)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(url, headers={"Host": _HOST, "Accept": "text/event-stream"}) as answer,
        ):
            self._answer = answer
            self._headers = httputil.HTTPHeaders()
            self.set_status(answer.status)
            for header in ("Content-Type", "Cache-Control", "X-Accel-Buffering"):
                if header in answer.headers:
                    self.set_header(header, answer.headers[header])
            try:
                async for chunk in answer.content.iter_any():
                    self.write(chunk)
                    await self._sent()
            except (aiohttp.ClientError, iostream.StreamClosedError):
                return  # the application went away, or the page did

    async def _sent(self) -> None:
        # The proxy's base class (WebSocketHandlerMixin) hides the future that flush returns.
        await web.RequestHandler.flush(self)

    def on_connection_close(self) -> None:
        if self._answer is not None:
            self._answer.close()
        super().on_connection_close()
