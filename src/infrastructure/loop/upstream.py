"""A server's refusal of a request, in our words."""

import orjson

from core.errors import (
    ContextTooLong,
    DeskError,
    ModelNotFound,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderRejected,
)
from core.ports import RawAnswer
from core.runs_errors import ToolsRefused
from infrastructure.http import ServerError, check_body

MAX_ERROR_BYTES = 256 * 1024
_TOO_LONG = ("context length", "context size", "context window", "context overflow", "n_ctx")
# Ollama, llama-server without its flag, and others.
_NO_TOOLS = (
    "does not support tools",
    "not support tool",
    "--jinja",
    "tools are not supported",
    "tool use is not supported",
    "support tool use",
)
_NO_MODEL = ("model_not_found", "not_found_error")


async def refusal(answer: RawAnswer) -> DeskError:
    """The error of an answer whose status says that it is one."""
    raw = bytearray()
    while len(raw) <= MAX_ERROR_BYTES and (chunk := await answer.read()):
        raw += chunk
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    error = check_body(body) or ServerError(
        _worded(body) or bytes(raw[:300]).decode(errors="replace")
    )
    after = answer.headers.get("retry-after", "")
    return worded(answer.status, error, retry_after=float(after) if after.isdecimal() else None)


def worded(status: int, error: ServerError, *, retry_after: float | None = None) -> DeskError:
    """`status` 200 stands for an error that hides in a success, or comes in a stream."""
    said = error.text.strip() or f"status {status}"
    small = said.casefold()
    if any(words in small for words in _TOO_LONG):
        return ContextTooLong(
            f"The run no longer fits the model's context: {said}",
            hint="Load the model with a larger context, or give the task in smaller parts.",
        )
    if error.code in _NO_MODEL or (status == 404 and "model" in small):
        return ModelNotFound(f"The provider does not serve the model: {said}")
    if status >= 400 and any(words in small for words in _NO_TOOLS):
        return ToolsRefused(
            f"The provider takes no tools with this model: {said}",
            hint='Start the run with "tools": "schema".',
        )
    if status in (401, 403):
        return ProviderNeedsToken(
            f"The provider refuses LM Desk: {said}", hint="Look at its token in the settings."
        )
    if status == 429:
        return ProviderBusy(f"The provider is busy: {said}", retry_after=retry_after)
    if 400 <= status < 500:
        return ProviderRejected(f"The provider refused the request: {said}")
    return ProviderFailed(f"The provider failed: {said}", hint="Trying again may help.")


def broken_off() -> DeskError:
    """For a stream that ended without the end its protocol wants."""
    return ProviderProtocolError(
        "The model's answer ended before it was complete.",
        hint="What was done so far is kept. Start the task again for the rest.",
    )


def _worded(body: object) -> str:
    if not isinstance(body, dict):
        return ""
    said = body.get("message") or body.get("detail")
    return said if isinstance(said, str) else ""
