"""Who may come in: the token, and no web page of a stranger."""

import hmac
import re
from typing import Final
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from infrastructure.engine.config import EngineConfig

GREETING: Final = "/lmstudio-greeting"
TOKEN: Final = re.compile(r"sk-lm-([A-Za-z0-9]{8}):([A-Za-z0-9]{20})")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
MISSING: Final = (
    "An LM Studio API token is required to make requests to this server, but none was provided "
    "using the Authorization header using the 'Bearer' scheme (i.e., 'Authorization: Bearer "
    "$LM_API_TOKEN'). Learn more at: https://lmstudio.ai/docs/developer/core/authentication."
)


class Guard:
    """Refuses before any route is reached."""

    def __init__(self, app: ASGIApp, config: EngineConfig) -> None:
        self._app = app
        self._token = config.required_token
        # A page whose name was bent to 127.0.0.1 still sends its own name.
        self._hosts = _LOOPBACK if config.host in _LOOPBACK else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._foreign(headers)
        if scope["type"] == "websocket":
            # The token comes in its first frame. Closed before it is accepted, it is a plain 403.
            await (self._app if refusal is None else WebSocketClose())(scope, receive, send)
            return
        if refusal is None and self._token and scope["path"] != GREETING:
            refusal = self._without_token(headers)
        await (refusal or self._app)(scope, receive, send)

    def _foreign(self, headers: Headers) -> Response | None:
        host = _host_of("//" + headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            return _refuse(403, f"The host name {host!r} is not this server's.", "invalid_host")
        origin = headers.get("origin")
        if origin is not None and _host_of(origin) not in (self._hosts or {host}):
            return _refuse(403, "Requests from other web pages are refused.", "invalid_origin")
        return None

    def _without_token(self, headers: Headers) -> Response | None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            return _refuse(401, MISSING, "invalid_api_key")
        given = given.strip()
        if hmac.compare_digest(given.encode(), (self._token or "").encode()):
            return None
        word = "Invalid" if TOKEN.fullmatch(given) else "Malformed"
        message = f"{word} LM Studio API token provided: {starred(given)}"
        return _refuse(401, message, "invalid_api_key")


def starred(secret: str) -> str:
    """Its first ten characters, as LM Studio repeats a token."""
    return secret[:10] + "*" * max(0, len(secret) - 10)


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _refuse(status: int, message: str, code: str) -> Response:
    error = {"error": {"type": "invalid_request", "code": code, "message": message}}
    return Response(
        orjson.dumps(error, option=orjson.OPT_INDENT_2), status, media_type="application/json"
    )
