"""One request as a client sends it: its bytes up to a bound, and the few fields that matter here."""

from typing import Any

import orjson
from starlette.types import Receive, Scope

from core.errors import BadParameter, DeskError, MessageTooLong, RequestError

# A request may carry pictures; a hundred photos do not fill this.
MAX_BODY_BYTES = 64 * 1024 * 1024
# A client that hears nothing while it sends would lose our answer; this much more is read and dropped.
MAX_DROPPED_BYTES = 256 * 1024 * 1024


class ClientLeft(Exception):
    """The client closed its connection before the request was complete."""


class BadJson(RequestError):
    """The body is no JSON object."""

    code = "bad_json"


class Call:
    """What is asked: `body` is the parsed JSON, of which nothing but the model's name is changed."""

    def __init__(self, path: str, body: dict[str, Any], model: str) -> None:
        self.path = path
        self.body = body
        self.model = model
        self.stream = body.get("stream") is True

    def bytes_for(self, model_id: str) -> bytes:
        """The request with the name by which the provider knows the model. Raises BadJson."""
        try:
            return orjson.dumps({**self.body, "model": model_id})
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise BadJson(f"The body cannot be handed on: {error}.") from None


def parsed(path: str, raw: bytes) -> Call:
    """Raises BadJson or BadParameter."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"The body is not valid JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadJson("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise MissingModel(
            "The request names no model.", hint="GET /v1/models lists what can be asked for."
        )
    return Call(path, body, model)


class MissingModel(BadParameter):
    """There is no usable `model` in the request."""

    code = "missing_model"


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises MessageTooLong, ClientLeft or BadJson."""
    announced = _announced(scope)
    if announced > MAX_BODY_BYTES + MAX_DROPPED_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > MAX_BODY_BYTES + MAX_DROPPED_BYTES:
            break
        more = message.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise _too_large()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _too_large() -> DeskError:
    return MessageTooLong(
        f"The request is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB.",
        hint="Send smaller pictures, or fewer.",
    )
