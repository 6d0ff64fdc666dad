"""Frames of chat completion streams, as LM Studio sends them."""

from typing import Any

import orjson


def chunk(delta: dict[str, Any], *, model: str = "m", **choice: Any) -> bytes:
    """One frame of a chat completion stream."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1790630229,
        "model": model,
        "system_fingerprint": model,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | choice],
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


def chunk_halves(model: str) -> tuple[bytes, bytes]:
    """A frame around its text, so that a token costs one join."""
    before, _, after = chunk({"content": "@"}, model=model).partition(b"@")
    return before, after


def usage_frame(prompt: int, completion: int, *, model: str = "m") -> bytes:
    """The frame that tells the counts."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return b"data: " + orjson.dumps({"model": model, "choices": [], "usage": usage}) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def ending(model: str, count: int) -> list[bytes]:
    """How a whole answer ends."""
    finish = chunk({}, model=model, finish_reason="stop")
    return [finish, usage_frame(7, count, model=model), DONE]


def completion(model: str, count: int) -> dict[str, Any]:
    text = "".join(f"{n} " for n in range(count))
    message = {"role": "assistant", "content": text, "reasoning_content": "", "tool_calls": []}
    return {
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": count},
    }


def unrecognized(keys: set[str]) -> dict[str, Any]:
    text = f"Unrecognized key(s) in object: {', '.join(repr(k) for k in sorted(keys))}"
    return {"error": {"type": "invalid_request", "message": text}}


def unauthorised(given: str) -> dict[str, Any]:
    given = given.removeprefix("Bearer ")
    text = "An LM Studio API token is required to make requests to this server."
    if given:
        text = f"Malformed LM Studio API token provided: {given[:10]}**************"
    return {"error": {"type": "invalid_request", "code": "invalid_api_key", "message": text}}
