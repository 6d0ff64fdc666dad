"""A provider's server answers: whether that is an answer at all, and its errors in OpenAI's shape."""

from typing import Any

import orjson

from api.gateway.errors import NotServed, UpstreamRefused
from core.errors import (
    DeskError,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderProtocolError,
)
from core.ports import RawAnswer

# Whole answers up to this size are read before the first byte goes out, so that a server which
# breaks off can still be replaced by another.
MAX_HELD_BYTES = 8 * 1024 * 1024
MAX_ERROR_BYTES = 256 * 1024
EVENT_STREAM = "text/event-stream"
# How servers say that the conversation does not fit.
_TOO_LONG = ("context length", "context size", "context window", "context overflow", "n_ctx")


def is_events(answer: RawAnswer) -> bool:
    """Whether it streams."""
    return answer.status == 200 and _content_type(answer).startswith(EVENT_STREAM)


def content_type_of(answer: RawAnswer) -> bytes:
    """As it goes to the client."""
    return _content_type(answer).encode("latin-1", "replace") or b"application/json"


async def read_up_to(answer: RawAnswer, limit: int) -> tuple[bytes, bool]:
    """What there is of a body up to about this size, and whether that is all."""
    raw = bytearray()
    while chunk := await answer.read():
        raw += chunk
        if len(raw) > limit:
            return bytes(raw), False
    return bytes(raw), True


async def refused(answer: RawAnswer, who: str, path: str) -> DeskError:
    """The error of an answer whose status says that it is one."""
    raw, _ = await read_up_to(answer, MAX_ERROR_BYTES)
    after = answer.headers.get("retry-after", "")
    return as_error(answer.status, raw, who, path, retry_after=after)


def hidden_error(raw: bytes) -> bool:
    """LM Studio answers 200 with an error inside, also to a route it does not have."""
    return raw.lstrip()[:9].replace(b" ", b"") in (b'{"error":', b'{"error"')


def error_event(chunk: bytes) -> bytes | None:
    """The data of a stream's first event, if that is an error."""
    if not chunk.startswith((b'data: {"error"', b"event: error", b'data:{"error"')):
        return None
    for line in chunk.split(b"\n"):
        if line.startswith(b"data:"):
            return line[5:].strip()
    return None


def as_error(status: int, raw: bytes, who: str, path: str, *, retry_after: str = "") -> DeskError:
    """The server's error as ours; `status` 200 stands for one that hides in a success."""
    error, typed = _worded(raw)
    message = str(error.get("message") or f"{who} answered with status {status}.")
    missing = status in (404, 405, 501) and not typed
    if missing or message.startswith("Unexpected endpoint"):
        return NotServed(
            f"{who} does not serve {path}.", hint="Ask for a model of another provider."
        )
    if status in (401, 403):
        return ProviderNeedsToken(
            f"{who} refuses LM Desk: {message}", hint="Look at its token in LM Desk's settings."
        )
    if status == 429:
        seconds = float(retry_after) if retry_after.isdigit() else None
        return ProviderBusy(f"{who} is busy: {message}", retry_after=seconds)
    if 400 <= status < 500 or (status == 200 and _is_too_long(message)):
        code = "context_length_exceeded" if _is_too_long(message) else error.get("code")
        return UpstreamRefused(
            status if status != 200 else 400,
            {
                **error,
                "message": message,
                "type": str(error.get("type") or "invalid_request_error"),
                "code": None if code is None else str(code),
                "param": error.get("param"),
            },
        )
    return ProviderFailed(f"{who} failed: {message}", hint="Trying again may help.")


def broken_off(who: str) -> DeskError:
    """For a stream that ended without the end its protocol wants."""
    return ProviderProtocolError(
        f"{who} ended its answer before it was complete.",
        hint="What came so far is right. Ask again for the rest.",
    )


def _worded(raw: bytes) -> tuple[dict[str, Any], bool]:
    """The error object in a body of any dialect, and whether it says of what type it is."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}, False
    if not isinstance(body, dict):
        return {}, False
    error = body.get("error")
    if isinstance(error, dict):
        return error, bool(error.get("type") or error.get("code"))
    text = error if isinstance(error, str) else body.get("message") or body.get("detail")
    return ({"message": text} if isinstance(text, str) else {}), False


def _is_too_long(message: str) -> bool:
    small = message.lower()
    return any(words in small for words in _TOO_LONG)


def _content_type(answer: RawAnswer) -> str:
    return answer.headers.get("content-type", "")
