"""For models without tool support: they write JSON of a given shape, which is a call or the answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_DEEP = 12
GO_ON = "If that is enough, answer with it now."
CIRCLING = "Answer the task with it:"
# A longer task is not said again.
SHORT_TASK = 1000


def as_schema_request(body: dict[str, Any]) -> dict[str, Any]:
    """The same request without tools: they are described in words, and the shape is a schema."""
    tools = [tool["function"] for tool in body.get("tools", ()) if "function" in tool]
    rest = {
        name: value
        for name, value in body.items()
        if name not in ("tools", "tool_choice", "parallel_tool_calls", "messages")
    }
    messages = _messages(body["messages"])
    if not tools:
        return {**rest, "messages": messages}
    # A small model that repeats itself would go on for ever; the answer is all it may write then.
    circling = _repeats(body["messages"])
    schema = _schema([] if circling else tools)
    messages = _with_words(messages, tools, circling=circling)
    return {**rest, "messages": messages, "response_format": _format(schema)}


def as_answer_request(body: dict[str, Any]) -> dict[str, Any]:
    """A request of this mode without tools, in the same shape as all before it."""
    return {**body, "response_format": _format(_schema([]))}


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    named = {"name": "step", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


def _repeats(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether its last turn made calls that it had made before."""
    made = [message["tool_calls"] for message in messages if message.get("tool_calls")]
    turns = [[(c["function"]["name"], c["function"]["arguments"]) for c in calls] for calls in made]
    return bool(turns) and turns[-1] in turns[:-1]


def _schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    calls = [
        {
            "type": "object",
            "properties": {
                "tool": {"const": tool["name"]},
                "arguments": _closed(tool.get("parameters") or {}),
            },
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    answer = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {"anyOf": [*calls, answer]} if calls else answer


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's schema that can stand inside another one: nothing in it points outside."""
    definitions = schema.get("$defs") or schema.get("definitions") or {}
    closed: dict[str, Any] = _inlined(
        {
            key: value
            for key, value in schema.items()
            if key not in ("$defs", "definitions", "$schema")
        },
        definitions if isinstance(definitions, dict) else {},
        _DEEP,
    )
    return {"type": "object", **closed} if closed else {"type": "object"}


def _inlined(value: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    if depth == 0:
        return {}  # it holds itself: anything goes from here on
    if isinstance(value, list):
        return [_inlined(each, definitions, depth) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        return _inlined(definitions.get(reference.rpartition("/")[2], {}), definitions, depth - 1)
    return {key: _inlined(each, definitions, depth) for key, each in value.items()}


def _with_words(
    messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]], *, circling: bool
) -> list[dict[str, Any]]:
    if messages and isinstance(content := messages[-1]["content"], str) and len(messages) > 2:
        task = next((m["content"] for m in messages if m["role"] == "user"), "")
        again = task if isinstance(task, str) and len(task) <= SHORT_TASK else ""
        hint = f"{CIRCLING} {again}" if circling else GO_ON
        messages = [*messages[:-1], {**messages[-1], "content": f"{content}\n{hint}"}]
    lines = [line for tool in tools for line in _described(tool)]
    words = (
        "You can use these tools:\n" + "\n".join(lines) + "\n\n"
        'To use one, answer with JSON: {"tool": its name, "arguments": {…}}. You get its result with'
        ' the next message. When you know the answer, give it as JSON with the one key "answer".'
    )
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def _described(tool: Mapping[str, Any]) -> list[str]:
    """As a function in a program: small models copy a schema instead of filling it in."""
    schema = _closed(tool.get("parameters") or {})
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required") or ()
    signature, notes = [], []
    for name, each in properties.items():
        facts = each if isinstance(each, dict) else {}
        signature.append(f"{name}{'' if name in required else '?'}: {_kind(facts)}")
        if said := " ".join(str(facts.get("description") or "").split()):
            notes.append(f"  {name}: {said[:300]}")
    what = " ".join(str(tool.get("description") or "").split())[:600]
    return [f"- {tool['name']}({', '.join(signature)}): {what}", *notes]


def _kind(facts: Mapping[str, Any]) -> str:
    if isinstance(choices := facts.get("enum"), list):
        return " | ".join(map(json.dumps, choices))
    if facts.get("type") == "array" and isinstance(items := facts.get("items"), dict):
        return f"list of {_kind(items)}"
    if facts.get("type") == "object" or "properties" in facts:
        return json.dumps(facts.get("properties") or {})
    kind = facts.get("type", "anything")
    return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls and results as plain words, taking turns as chat templates want it."""
    told: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        calls = message.get("tool_calls") or []
        if calls:
            for call in calls:
                names[call["id"]] = call["function"]["name"]
            role = "assistant"
            content = "\n".join(
                f'{{"tool": {json.dumps(call["function"]["name"])},'
                f' "arguments": {call["function"]["arguments"]}}}'
                for call in calls
            )
        elif role == "tool":
            name = names.get(message.get("tool_call_id", ""), "the tool")
            role, content = "user", f"Result of {name}: {content}"
        elif role == "assistant":
            content = json.dumps({"answer": content})
        before = told[-1] if told and told[-1]["role"] == role else None
        if before and isinstance(content, str) and isinstance(before["content"], str):
            told[-1] = {**before, "content": f"{before['content']}\n{content}"}
        else:
            told.append({"role": role, "content": content})
    return told
