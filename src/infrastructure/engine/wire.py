"""What goes over the wire: LM Studio's ways to say no, bodies in, JSON and event streams out."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.errors import BadParameter, ContextTooLong, DeskError, ModelNotFound, NotFound

T = TypeVar("T")
Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

MAX_BODY: Final = 64 << 20
STREAM_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Refusal(Exception):
    """An error in the shape that the route's family of API gives it."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def plain(message: str, *, status: int = 400) -> Refusal:
    """`{"error": "text"}`."""
    return Refusal(status, {"error": message})


def openai(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> Refusal:
    """As OpenAI does it."""
    return Refusal(
        status,
        {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": param,
                "code": code,
            }
        },
    )


def native(
    message: str,
    *,
    kind: str = "invalid_request",
    code: str | None = None,
    param: str | None = None,
    status: int = 400,
) -> Refusal:
    """As LM Studio's own API does it."""
    error: Json = {"type": kind, "message": message}
    error |= {"code": code} if code else {}
    error |= {"param": param} if param else {}
    return Refusal(status, {"error": error})


def as_openai(error: DeskError) -> Refusal:
    """What `/v1` and `/api/v0` answer when this happened."""
    match error:
        case ModelNotFound():
            return openai(error.message, param="model", code="model_not_found")
        case ContextTooLong():
            return openai(error.message, param="messages", code="context_length_exceeded")
        case BadParameter():
            return openai(error.message)
        case _ if error.code in ("model_load_failed", "not_enough_memory"):
            return openai(error.message, param="model", code=error.code)
        case _:
            return plain(error.message)


def as_native(error: DeskError) -> Refusal:
    """What `/api/v1` answers when this happened."""
    match error:
        case ModelNotFound() | NotFound():
            return native(error.message, kind="model_not_found", status=404)
        case ContextTooLong() | BadParameter():
            return native(error.message, code=error.code)
        case _ if error.code in ("model_load_failed", "not_enough_memory"):
            return native(error.message, kind="model_load_failed", status=500)
        case _:
            return native(error.message, kind="internal_error", code=error.code, status=500)


def reply(body: object, status: int = 200) -> Response:
    """JSON, indented as LM Studio's."""
    data = orjson.dumps(body, option=orjson.OPT_INDENT_2)
    return Response(data, status, media_type="application/json; charset=utf-8")


def compact(body: object, status: int = 200) -> Response:
    """JSON without a blank, as LM Studio's short answers."""
    return Response(orjson.dumps(body), status, media_type="application/json; charset=utf-8")


async def body_of(request: Request, refuse: Callable[[str], Refusal]) -> Json:
    """The request's JSON object. Raises what `refuse` makes of a body that is none."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise refuse("The request body is too large.")
        parts.append(chunk)
    try:
        body = orjson.loads(b"".join(parts))
    except orjson.JSONDecodeError as error:
        raise refuse(f"Invalid JSON in request body: {error}") from None
    if not isinstance(body, dict):
        raise refuse("The request body must be a JSON object.")
    return body


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, but give it up when the client hangs up (ClientDisconnect)."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_hung_up(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class EventStream(Response):
    """Sends what a generator gives; when the client hangs up, the generator is closed at once.

    `owned` is closed when the stream is over, however it ends.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes], owned: AsyncExitStack) -> None:
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]
        self._source = source
        self._owned = owned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._owned:
            sending = asyncio.create_task(self._send_all(send))
            gone = asyncio.create_task(_hung_up(receive))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                sending.cancel()
                await asyncio.wait({sending, gone})
            if not sending.cancelled():
                sending.result()

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            async for data in self._source:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._source.aclose()


def event(data: Json) -> bytes:
    """One event of `/v1`."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named_event(kind: str, **fields: object) -> bytes:
    """One event of `/api/v1/chat`; the data repeats the name."""
    data = orjson.dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
