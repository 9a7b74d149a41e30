"""Several streams over one websocket, as Kubernetes' remote commands use it.

Each message begins with a byte that names its channel: 0 stdin, 1 stdout, 2 stderr,
3 error (how it ended, once), 4 resize.  Version 5 of the protocol can also end a single
channel (byte 255, then its number).  What the channels are used for is left to
``sessions`` and ``portforward``.

Source: k8s.io/streaming/pkg/httpstream/wsstream (``conn.go``) and the kubelet's
remotecommand server; the API server passes such a connection through to a node that
declares ExtendWebSocketsToKubelet (pkg/registry/core/pod/rest/subresources.go).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

ERROR, RESIZE = 3, 4
_CLOSE = 255

_FIRST, _DETAILED, _CLOSING = "channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"
COMMAND_PROTOCOLS = (_CLOSING, _DETAILED, _FIRST)

_MAX_MESSAGE = 32 * 1024 * 1024
_CLOSE_SECONDS = 5.0

Status = dict[str, Any]
"""An object of kind Status: how a remote command ended."""

SUCCESS: Status = {"metadata": {}, "status": "Success"}


def exited(code: int) -> Status:
    """How a command that ended with ``code`` is told."""
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def internal_error(text: str) -> Status:
    """How a command that could not be run is told."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }


class Gone(Exception):
    """The other side is not there any more."""


def is_websocket(request: web.Request) -> bool:
    """Whether the request asks for a websocket."""
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def chosen_protocol(request: web.Request, protocols: tuple[str, ...]) -> str | None:
    """The first of the caller's subprotocols that is known; "" when it named none."""
    named = request.headers.get("Sec-WebSocket-Protocol")
    if named is None:
        return ""
    return next((each for each in map(str.strip, named.split(",")) if each in protocols), None)


async def open_socket(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """Answer the handshake."""
    socket = web.WebSocketResponse(
        protocols=protocols,
        timeout=_CLOSE_SECONDS,
        compress=False,
        max_msg_size=_MAX_MESSAGE,
        decode_text=False,  # a text message is bytes too: some clients send stdin so
    )
    await socket.prepare(request)
    return socket


class Channels:
    """The channels of a remote command over ``socket``."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._version = socket.ws_protocol

    async def send(self, channel: int, data: bytes) -> None:
        """Send ``data``, no faster than it is taken.  Raises Gone."""
        try:
            await self._socket.send_bytes(bytes((channel,)) + data)
        except (ConnectionError, RuntimeError) as error:  # RuntimeError: closed already
            raise Gone from error

    async def messages(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """What comes, as (channel, data), until the other side goes; None ends a channel."""
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or not message.data:
                continue
            channel, data = message.data[0], bytes(message.data[1:])
            if channel == _CLOSE and self._version == _CLOSING:
                if len(data) != 1:
                    return
                yield data[0], None
            else:
                yield channel, data

    async def finish(self, status: Status) -> None:
        """Tell how it ended, and close.  Raises Gone."""
        if self._version in (_DETAILED, _CLOSING):
            await self.send(ERROR, json.dumps(status).encode())
        elif status["status"] != "Success":
            await self.send(ERROR, status["message"].encode())
        await self._socket.close()
