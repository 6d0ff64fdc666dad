"""The request bodies of `/api/v1`, which are strict: an unknown key is an error."""

from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from core.value import Value
from infrastructure.engine.wire import Json, Refusal, native

Body = TypeVar("Body", bound=Value)


class LoadBody(Value):
    """`POST /api/v1/models/load`."""

    model: str
    context_length: int | None = Field(default=None, ge=1)
    eval_batch_size: int | None = Field(default=None, ge=1, le=65536)
    flash_attention: bool | None = None
    num_experts: int | None = Field(default=None, ge=1)
    offload_kv_cache_to_gpu: bool | None = None
    parallel: int | None = Field(default=None, ge=1, le=64)
    echo_load_config: bool = False


class UnloadBody(Value):
    """`POST /api/v1/models/unload`."""

    instance_id: str


class InputItem(Value):
    """One part of what the person says."""

    type: Literal["message", "text", "image"]
    content: str | None = None
    data_url: str | None = None


class ChatBody(Value):
    """`POST /api/v1/chat`."""

    model: str
    input: str | list[InputItem]
    system_prompt: str | None = None
    integrations: list[Any] | None = None
    stream: bool = False
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repeat_penalty: float | None = Field(default=None, ge=0)
    max_output_tokens: int | None = Field(default=None, ge=1)
    reasoning: Literal["off", "low", "medium", "high", "on"] | None = None
    context_length: int | None = Field(default=None, ge=1)
    store: bool = True
    previous_response_id: str | None = None


def checked(kind: type[Body], body: Json) -> Body:
    """The body as a value. Raises Refusal in LM Studio's words."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> Refusal:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    names: dict[str, list[str]] = {}
    for problem in problems:
        names.setdefault(problem["type"], []).append(".".join(map(str, problem["loc"])))
    if unknown := names.get("extra_forbidden"):
        keys = ", ".join(f"'{name}'" for name in unknown)
        return native(f"Unrecognized key(s) in object: {keys}", code="unrecognized_keys")
    if missing := names.get("missing"):
        return native(
            f'"{missing[0]}" is required', code="missing_required_parameter", param=missing[0]
        )
    where = ".".join(map(str, problems[0]["loc"]))
    return native(f'"{where}": {problems[0]["msg"]}', code="invalid_value", param=where)
