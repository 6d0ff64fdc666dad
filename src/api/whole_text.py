"""JSON bodies with whole characters only: a half of one (`"\\ud83d"`) can be neither kept nor sent on."""

import json
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.runs_text import clean

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# A half as JSON writes it, or as its bytes; whole characters may be written as two such halves.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


class WholeText:
    """An ASGI app before another one: a half becomes the mark of an unknown character."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGES:
            await self._app(scope, receive, send)
            return
        if "json" not in Headers(scope=scope).get("content-type", "json"):
            await self._app(scope, receive, send)
            return
        read = False

        async def whole() -> Message:
            nonlocal read
            if read:
                return await receive()
            message = await receive()
            parts = []
            while message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    read = True
                    return {"type": "http.request", "body": mended(b"".join(parts))}
                message = await receive()
            return message  # whoever sent it has left

        await self._app(scope, whole, send)


def mended(body: bytes) -> bytes:
    """The same JSON without halves of characters; what is no JSON stays as it is."""
    if _HALF.search(body) is None:
        return body
    try:
        return json.dumps(clean(json.loads(body))).encode()
    except (ValueError, RecursionError):
        return body
