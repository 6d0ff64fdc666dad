"""A conversation and its sampling in the client libraries' words, turned into those of `/v1`."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from infrastructure.engine.sdk.frames import CallError, Parameter
from infrastructure.engine.wire import Json

_PREFIX: Final = "llm.prediction."
_NAMES: Final = {
    "temperature": "temperature",
    "topKSampling": "top_k",
    "topPSampling": "top_p",
    "minPSampling": "min_p",
    "repeatPenalty": "repeat_penalty",
    "llama.presencePenalty": "presence_penalty",
    "llama.frequencyPenalty": "frequency_penalty",
    "maxPredictedTokens": "max_tokens",
    "stopStrings": "stop",
    "seed": "seed",
}


class FunctionCall(Parameter):
    """What the model wanted done."""

    id: str | None = None
    name: str
    arguments: dict[str, Any] | None = None


class Part(Parameter):
    """One part of a message; which fields it has depends on its type."""

    type: Literal["text", "file", "toolCallRequest", "toolCallResult"]
    text: str = ""
    name: str | None = None
    tool_call_request: FunctionCall | None = None
    content: str = ""
    tool_call_id: str | None = None


class Message(Parameter):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: list[Part]


class History(Parameter):
    """A conversation."""

    messages: list[Message]


def messages(history: History) -> list[Json]:
    """As `/v1/chat/completions` takes them. Raises CallError for what it cannot take."""
    return [one for message in history.messages for one in _messages(message)]


def plain_text(history: History) -> str:
    """All that was said, one after the other, for a model that goes on from there."""
    return "".join(part.text for message in history.messages for part in message.content)


def sampling(values: Mapping[str, Any]) -> Json:
    """Fields of a request for an answer, from the settings of a prediction."""
    given = {
        key.removeprefix(_PREFIX): _unboxed(value)
        for key, value in values.items()
        if key.startswith(_PREFIX)
    }
    asked: Json = {
        ours: given[theirs]
        for theirs, ours in _NAMES.items()
        if given.get(theirs) not in (None, [])
    }
    tools = given.get("tools") or {}
    if tools.get("type") == "toolArray" and tools.get("tools"):
        asked["tools"] = tools["tools"]
        asked["tool_choice"] = (given.get("toolChoice") or {}).get("mode", "auto")
    wanted = given.get("structured") or {}
    if wanted.get("type") == "json":
        schema = wanted.get("jsonSchema") or {"type": "object"}
        json_schema = {"name": "answer", "strict": True, "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    if given.get("reasoning.enableThinking") is False:
        asked["chat_template_kwargs"] = {"enable_thinking": False}
    return asked


def grammar(values: Mapping[str, Any]) -> str | None:
    """In GBNF, where the answer is to follow one."""
    wanted = values.get(_PREFIX + "structured") or {}
    return wanted.get("gbnfGrammar") if wanted.get("type") == "gbnf" else None


def _messages(message: Message) -> list[Json]:
    parts = message.content
    if any(part.type == "file" for part in parts):
        raise CallError("This server takes no files over the WebSocket.")
    if message.role == "tool":
        return [
            {"role": "tool", "content": part.content, "tool_call_id": part.tool_call_id or ""}
            for part in parts
            if part.type == "toolCallResult"
        ]
    told: Json = {
        "role": message.role,
        "content": "".join(part.text for part in parts if part.type == "text"),
    }
    calls = [part.tool_call_request for part in parts if part.tool_call_request]
    if calls:
        told["tool_calls"] = [
            {
                "id": call.id or str(number),
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": orjson.dumps(call.arguments or {}).decode(),
                },
            }
            for number, call in enumerate(calls)
        ]
    return [told]


def _unboxed(value: Any) -> Any:
    """Of `{"checked": true, "value": …}` the value, if it is checked."""
    if isinstance(value, dict) and "checked" in value:
        return value.get("value") if value["checked"] else None
    return value
