"""What a client asks of `/v1`, checked and put in llama.cpp's words."""

from typing import Any, Final

from infrastructure.engine.wire import Json, Refusal, plain

# A list of what may pass, because llama.cpp takes more than a client of ours should reach.
_SAMPLING: Final = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repeat_penalty",
        "logit_bias",
        "seed",
        "logprobs",
        "top_logprobs",
        "return_progress",
    }
)
_CHAT: Final = _SAMPLING | {
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "chat_template_kwargs",
}
_COMPLETION: Final = _SAMPLING | {"prompt", "suffix", "echo"}
_TOOL_CHOICES: Final = ("none", "auto", "required")


def chat_body(body: Json, instance_id: str) -> tuple[Json, bool]:
    """For the model's process, and whether a tool call is forced. Raises Refusal."""
    if not isinstance(body.get("messages"), list):
        raise plain("'messages' field is required")
    asked = {key: value for key, value in body.items() if key in _CHAT and value is not None}
    _check_format(asked)
    _check_tool_choice(asked)
    if body.get("reasoning_effort") == "none":
        asked["chat_template_kwargs"] = {
            **asked.get("chat_template_kwargs", {}),
            "enable_thinking": False,
        }
    forced = asked.get("tool_choice") == "required" and bool(asked.get("tools"))
    if forced:
        _force_call(asked)
    return _streamed(asked, instance_id), forced


def completion_body(body: Json, instance_id: str) -> Json:
    """For the model's process. Raises Refusal."""
    if "prompt" not in body:
        raise plain("'prompt' field is required")
    asked = {key: value for key, value in body.items() if key in _COMPLETION and value is not None}
    return _streamed(asked, instance_id)


def wants_usage(body: Json) -> bool:
    """Whether a stream is to end with the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _streamed(asked: Json, instance_id: str) -> Json:
    return {
        **asked,
        "model": instance_id,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _check_format(asked: Json) -> None:
    wanted = asked.get("response_format")
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("json_schema", "text"):
        raise plain("'response_format.type' must be 'json_schema' or 'text'")
    if kind == "text":
        del asked["response_format"]


def _check_tool_choice(asked: Json) -> None:
    choice = asked.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, str):
        kind = "array" if isinstance(choice, list) else "object"
        raise _wrong_choice(f"Invalid tool_choice type: '{kind}'.")
    if choice not in _TOOL_CHOICES:
        raise _wrong_choice(f"Invalid tool_choice value: '{choice}'.")


def _wrong_choice(what: str) -> Refusal:
    return plain(f"{what} Supported string values: {', '.join(_TOOL_CHOICES)}")


def _force_call(asked: Json) -> None:
    """Make a tool call certain: llama.cpp's own `required` lets a weak model talk instead.

    The answer is then the JSON of one call, which `answers.tool_call` turns into a tool call.
    """
    calls: list[Json] = []
    for tool in asked["tools"]:
        function: Any = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            raise plain("'tools' must be a list of functions with a name")
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": function.get("parameters") or {"type": "object"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    asked["tool_choice"] = "none"
    asked["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "call", "schema": {"anyOf": calls}},
    }
