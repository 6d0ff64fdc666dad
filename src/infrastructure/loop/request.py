"""A request as pydantic-ai writes it, made into one that small local servers understand."""

from typing import Any

from core.runs_ports import LoopSpec
from infrastructure.loop.schema_mode import as_schema_request

_KEPT = ("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "stop")


def prepared(body: dict[str, Any], spec: LoopSpec) -> dict[str, Any]:
    """What goes to the server; its `model` is filled in by the run."""
    kept = {name: body[name] for name in _KEPT if body.get(name) is not None}
    sampling = spec.parameters.model_dump(exclude_none=True, exclude={"system_prompt"})
    wanted = {
        **kept,
        **sampling,
        "messages": [_message(place, each) for place, each in enumerate(kept["messages"])],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if "tools" in wanted:
        wanted["tools"] = [_tool(tool) for tool in wanted["tools"]]
        wanted["tool_choice"] = _choice(wanted.get("tool_choice"))
    else:
        wanted.pop("tool_choice", None)
        wanted.pop("parallel_tool_calls", None)
    if not spec.schema_mode:
        return wanted
    # What tools gave must be copied to the letter; a penalty for repetition keeps small ones from it.
    exact = {"temperature": 0.0, **({"repeat_penalty": 1.0} if spec.local else {})}
    return as_schema_request({**exact, **wanted})


def _choice(choice: Any) -> str:
    """LM Studio takes words alone."""
    if isinstance(choice, str):
        return choice
    return "required" if isinstance(choice, dict) else "auto"


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {k: v for k, v in tool.get("function", {}).items() if k != "strict"}
    return {"type": "function", "function": function}


def _message(place: int, message: dict[str, Any]) -> dict[str, Any]:
    """Chat templates of local models want the system's words first and nowhere else."""
    message = {key: value for key, value in message.items() if value is not None}
    if message.get("role") in ("system", "developer"):
        message["role"] = "user" if place else "system"
    if message.get("role") == "assistant":
        message.setdefault("content", "")
    return message
