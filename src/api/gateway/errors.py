"""Errors as OpenAI words them: `{"error": {"message", "type", "code", "param"}}`, with our sentences."""

from typing import Any, NamedTuple

import orjson

from core import errors

# The nearest ancestor in the table decides; what is not here stands in the API's own table.
_STATUS: dict[type[errors.DeskError], int] = {
    errors.DeskError: 500,
    errors.RequestError: 400,
    errors.NotFound: 404,
    errors.ModelAmbiguous: 404,
    errors.MessageTooLong: 413,
    # OpenAI's client repeats what comes with 409; of these some pass by themselves.
    errors.Conflict: 409,
    errors.ProviderError: 502,
    errors.ProviderUnreachable: 503,
    errors.ProviderTimeout: 504,
    errors.ProviderBusy: 429,
    errors.ModelUnloaded: 503,
    errors.NotEnoughMemory: 507,
    errors.StorageError: 507,
}
# Trying again changes nothing here, and OpenAI's client believes this header.
_HOPELESS = frozenset({501, 507})
_NO_RETRY = (b"x-should-retry", b"false")
RETRY_SECONDS = 2


class NotServed(errors.DeskError):
    """This provider's server has no such route."""

    code = "not_supported"


class UpstreamRefused(errors.DeskError):
    """The provider's server answered with an error; `body` is that, in OpenAI's shape."""

    code = "provider_refused"

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error["message"]))
        self.status = status
        self.error = error


class Refusal(NamedTuple):
    """An error, ready to be sent."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def refusal(
    status: int,
    code: str,
    message: str,
    *,
    hint: str = "",
    param: str | None = None,
    extra: dict[str, Any] | None = None,
    retry_after: float | None = None,
) -> Refusal:
    """An error of ours."""
    body = {
        "error": {
            "message": f"{message} {hint}".strip(),
            "type": "invalid_request_error" if status < 500 else "server_error",
            "code": code,
            "param": param,
            **(extra or {}),
        }
    }
    headers: list[tuple[bytes, bytes]] = []
    if status in _HOPELESS:
        headers.append(_NO_RETRY)
    elif status in (429, 503):
        seconds = RETRY_SECONDS if retry_after is None else max(1, round(retry_after))
        headers.append((b"retry-after", b"%d" % seconds))
    return Refusal(status, orjson.dumps(body), tuple(headers))


def refusal_of(error: errors.DeskError) -> Refusal:
    """What a client gets for an error of the core, or of the provider's server."""
    if isinstance(error, UpstreamRefused):
        return Refusal(error.status, orjson.dumps({"error": error.error}))
    code = "context_length_exceeded" if isinstance(error, errors.ContextTooLong) else error.code
    about_model = isinstance(error, errors.ModelNotFound)
    after = getattr(error, "retry_after", None)
    return refusal(
        _status(error),
        code,
        error.message,
        hint=error.hint,
        param="model" if about_model else None,
        extra=error.extra(),
        retry_after=after if isinstance(after, int | float) else None,
    )


def event_of(error: errors.DeskError) -> bytes:
    """The same as the last event of a stream that has begun."""
    return b"data: " + refusal_of(error).body + b"\n\n"


def _status(error: errors.DeskError) -> int:
    if isinstance(error, NotServed):
        return 501
    if error.code != type(error).code:  # an error that took over another's code, as a load's
        return _by_code(error.code)
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


def _by_code(code: str) -> int:
    pending: list[type[errors.DeskError]] = [errors.DeskError]
    while pending:
        cls = pending.pop()
        if cls.code == code:
            return next(_STATUS[base] for base in cls.__mro__ if base in _STATUS)
        pending.extend(cls.__subclasses__())
    return 500
