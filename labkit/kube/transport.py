"""HTTP to one Kubernetes API server with one identity; errors become labkit's.

It knows verbs, paths, JSON and streams, and nothing of resources: those are
``client``'s.  Built on urllib3, which the official client rests on too.
"""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from typing import Self, cast
from urllib.parse import urlencode

import urllib3

from labkit.errors import ApiError, ClusterError
from labkit.kube._text import short
from labkit.kube.credentials import Renewed
from labkit.kube.objects import Object

_RETRIES = urllib3.Retry(
    total=10, connect=False, read=False, redirect=False, other=False,
    allowed_methods=None, raise_on_status=False,
)  # fmt: skip
"""A server that says when to come again (429 or 503 with Retry-After: it has just started, say)
did nothing with the request, so it is sent again.  Any other failure is the caller's.
Source: ``maxRetries`` in client-go's ``rest/request.go``."""


class Transport:
    """A connection pool for one server and one identity.

    ``ca`` is PEM text (None: the system's authorities), ``client_cert`` a certificate
    and its key as PEM texts, ``token`` a bearer token; one that ends is asked of ``renewed``
    instead.  None of them shows in the repr.
    """

    def __init__(
        self,
        server: str,
        *,
        ca: str | None = None,
        client_cert: tuple[str, str] | None = None,
        token: str | None = None,
        renewed: Renewed | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self.ca = ca
        context = ssl.create_default_context(cadata=ca)
        if client_cert:
            _load_pair(context, *client_cert)
        self._token = token
        self._renewed = renewed
        self.ssl_context = context
        self._pool = urllib3.PoolManager(ssl_context=context, retries=_RETRIES, maxsize=16)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    @property
    def auth_headers(self) -> dict[str, str]:
        """The headers that sign a call of another library in as this identity."""
        token = self._renewed().token if self._renewed else self._token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def close(self) -> None:
        """Drop the pooled connections; safe to repeat."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        content_type: str = "application/json",
        accept: str = "",
        timeout: float = 30.0,
    ) -> Object:
        """One call; the decoded JSON answer.  Raises ApiError on any status ≥ 400.

        ``timeout`` is how long the server may be silent, in seconds.
        """
        answer = self.raw(
            method,
            path,
            body=body,
            query=query,
            content_type=content_type,
            accept=accept,
            timeout=timeout,
        )
        return cast(Object, json.loads(answer)) if answer else {}

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        content_type: str = "application/json",
        accept: str = "",
        timeout: float = 30.0,
    ) -> bytes:
        """One call; the answer's bytes (logs, metrics), in the form that ``accept`` names if
        it names one.  Raises ApiError on ≥ 400."""
        response = self._send(
            method,
            path,
            body,
            query,
            content_type,
            stream=False,
            accept=accept,
            read_timeout=timeout,
        )
        if response.status >= 400:
            raise _api_error(method, path, response.status, response.data)
        return response.data

    def stream(
        self, path: str, *, query: Mapping[str, object] | None = None, idle: float | None = None
    ) -> Iterator[bytes]:
        """The lines of an endless answer (watch, ``follow=true``, server-sent events).

        ``idle`` is how many seconds of silence end it (None: never).
        """
        try:
            response = self._send("GET", path, None, query, "", stream=True, read_timeout=idle)
        except ClusterError as error:
            if idle is not None and isinstance(
                error.__cause__, urllib3.exceptions.ReadTimeoutError
            ):
                return  # a busy server's silence, before its first line
            raise
        try:
            if response.status >= 400:
                raise _api_error("GET", path, response.status, response.read())
            rest = b""
            for chunk in response.stream(None if response.chunked else 1):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            if rest:
                yield rest
        except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
            return  # silence, or a server that went away: the stream is over either way
        finally:
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, object] | None,
        content_type: str,
        *,
        stream: bool,
        accept: str = "",
        read_timeout: float | None = 30.0,
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self.auth_headers | ({"Accept": accept} if accept else {})
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = content_type
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                preload_content=not stream,
                timeout=urllib3.Timeout(connect=min(5.0, read_timeout or 5.0), read=read_timeout),
            )
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(
                f"The Kubernetes API at {self.server} did not answer",
                seen=short(error),
                todo="Run `labkit status`; `labkit up` starts a lab that is down.",
            ) from error


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # The ssl module takes a key only from a file: one of our own, 0600, gone at once.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate.rstrip("\n") + "\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _api_error(method: str, path: str, status: int, data: bytes) -> ApiError:
    reason, message = "", data.decode(errors="replace").strip()[:300]
    try:
        answer = json.loads(data)
        reason, message = answer.get("reason") or "", answer.get("message") or message
    except (ValueError, AttributeError):
        pass
    verb = {"GET": "read", "POST": "create", "PATCH": "apply", "PUT": "update"}.get(
        method, method.lower()
    )
    return ApiError(
        f"The Kubernetes API refused to {verb} {path.partition('?')[0]}",
        status=status,
        reason=reason,
        seen=f"{status} {reason}: {message}",
        todo=_NEXT.get(status, ""),
    )


_NEXT = {
    401: "The credential is not (or no longer) valid here: run `labkit up` and attach again.",
    403: "The identity lacks a Role for this: `kubectl auth can-i --list --as=…` shows its rights.",
    409: "Somebody changed it at the same moment: try again.",
    422: "Mend the field that the message names and apply again.",
}
