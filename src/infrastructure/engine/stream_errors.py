"""How a stream of `/v1` tells that something went wrong, in each of the ways LM Studio has."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import orjson

from core.errors import ContextTooLong, DeskError
from infrastructure.engine.quirks import Quirk
from infrastructure.engine.upstream import DONE
from infrastructure.engine.wire import EventStream, event

Quirks = frozenset[Quirk]


def failure(error: DeskError, quirks: Quirks) -> bytes:
    """The last event of a stream that broke; no `[DONE]` follows."""
    if "string-stream-errors" in quirks:
        return event({"error": error.message})
    told = {"error": {"message": error.message, "type": error.code}}
    if "object-stream-errors" in quirks:
        return b"event: error\ndata: " + orjson.dumps(told) + b"\n\n"
    return event(told)


def instead_of_refusal(error: DeskError, quirks: Quirks) -> EventStream | None:
    """A stream that ends with the error, where a quirk wants 200 although nothing was said yet."""
    if "silent-empty-stream-on-overflow" in quirks and isinstance(error, ContextTooLong):
        return EventStream(_one(DONE), AsyncExitStack())
    if quirks & {"string-stream-errors", "object-stream-errors"}:
        return EventStream(_one(failure(error, quirks)), AsyncExitStack())
    return None


async def _one(data: bytes) -> AsyncGenerator[bytes]:
    yield data
