"""What goes back to the client: the server's own `send`, with our headers on the first message."""

import time
from collections.abc import Iterable
from urllib.parse import quote

from starlette.types import Scope, Send

from api.gateway.errors import Refusal
from api.security import RAW_HEADERS, UNGUARDED_SEND

Header = tuple[bytes, bytes]
JSON_TYPE = b"application/json"
# All that may stand in a header as it is; of a model's name everything else is percent-encoded.
_PRINTABLE = "!#$%&'()*+,-./:;<=>?@[]^_`{|}~ "


class Reply:
    """One answer. `started` once its status has gone out; after that no other model may answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        # The guard's own wrapper would cost every token a coroutine.
        self.send: Send = scope.get(UNGUARDED_SEND, send)
        self.began = time.monotonic()
        self.started = False
        self.truth: list[Header] = []
        """Which model answers, and why."""

    def tell(self, *, model: str, provider: str, route: str) -> None:
        """The truth headers of what is sent from here on."""
        named = (("model", model), ("provider", provider), ("route", route))
        self.truth = [
            (b"x-lmdesk-" + name.encode(), quote(value, safe=_PRINTABLE).encode())
            for name, value in named
        ]

    async def start(
        self, status: int, content_type: bytes, more: Iterable[Header] = (), *, length: int = -1
    ) -> None:
        """Status and headers; without a length the body comes in pieces."""
        headers = [(b"content-type", content_type), *self.truth, *more, *RAW_HEADERS]
        if length >= 0:
            headers.append((b"content-length", b"%d" % length))
        else:
            # No proxy may gather a stream, and none may keep it.
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, raw: bytes) -> None:
        """A piece of the body. Waits while the client reads slower than we could send."""
        await self.send({"type": "http.response.body", "body": raw, "more_body": True})

    async def end(self, raw: bytes = b"") -> None:
        """The last piece."""
        await self.send({"type": "http.response.body", "body": raw, "more_body": False})

    async def whole(
        self,
        status: int,
        raw: bytes,
        content_type: bytes = JSON_TYPE,
        more: Iterable[Header] = (),
    ) -> None:
        """All at once."""
        await self.start(status, content_type, more, length=len(raw))
        await self.end(raw)

    async def refuse(self, refused: Refusal) -> None:
        """An error, whole."""
        await self.whole(refused.status, refused.body, JSON_TYPE, refused.headers)
