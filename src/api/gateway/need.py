"""What a request asks of a model, read from its body: its text, its length, pictures, tools."""

from collections.abc import Iterator
from typing import Any

from core.routing import Need, tokens_in

_PICTURES = frozenset({"image_url", "input_image", "image"})


def need_of(body: dict[str, Any]) -> Need:
    """For the router. Whatever the body holds, this does not fail."""
    messages = _messages(body)
    texts = [text for message in messages for text in _texts(message)]
    return Need(
        text=_question(messages),
        tokens=tokens_in(texts),
        vision=any(_has_picture(message) for message in messages),
        tools=bool(body.get("tools") or body.get("functions")),
    )


def _messages(body: dict[str, Any]) -> list[Any]:
    """The parts of the conversation, in the words of whichever route it came by."""
    for name in ("messages", "input", "prompt"):
        given = body.get(name)
        if isinstance(given, list):
            return given
        if isinstance(given, str):
            return [given]
    return []


def _question(messages: list[Any]) -> str:
    """What the person said last."""
    for message in reversed(messages):
        if isinstance(message, str):
            return message
        if isinstance(message, dict) and message.get("role") == "user":
            return "\n".join(_texts(message))
    return ""


def _texts(message: Any) -> Iterator[str]:
    if isinstance(message, str):
        yield message
    if not isinstance(message, dict):
        return
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                yield text


def _has_picture(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") in _PICTURES for part in content)
