"""Answers in LM Studio's shape: whole ones put together, streams touched up as they pass."""

import platform
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import orjson

from core.errors import DeskError
from infrastructure.engine.instance import Instance
from infrastructure.engine.stream_errors import Quirks, failure
from infrastructure.engine.upstream import DONE, Answer
from infrastructure.engine.wire import Json, event

STOP_REASONS: Final = {
    "stop": "eosFound",
    "length": "maxPredictedTokensReached",
    "tool_calls": "toolCalls",
}
_FINGERPRINT: Final = b'"system_fingerprint":"'
_REASONING: Final = b'"reasoning_content":'
# Inside a JSON text these would have a backslash before each quote, so they are always keys.
_LAST_CHUNK: Final = (b'"usage":', b'"timings":')


@dataclass
class Gathered:
    """A streamed answer, put together."""

    started: float = field(default_factory=time.monotonic)
    content: str = ""
    reasoning: str = ""
    calls: dict[int, Json] = field(default_factory=dict)
    finish: str | None = None
    first_token: float | None = None
    reasoning_tokens: int = 0
    usage: Json = field(default_factory=dict)
    timings: Json = field(default_factory=dict)
    id: str = ""
    created: int = 0

    async def gather(self, answer: Answer) -> "Gathered":
        """Take in the whole stream. Raises what the stream raises."""
        async for data in answer.events():
            self.add(data)
        return self

    def add(self, data: Json) -> None:
        self.id = data.get("id", self.id)
        self.created = data.get("created", self.created)
        self.usage = data.get("usage") or self.usage
        self.timings = data.get("timings") or self.timings
        for choice in data.get("choices", ()):
            self.finish = choice.get("finish_reason") or self.finish
            delta = choice.get("delta") or {}
            content = delta.get("content") or choice.get("text") or ""
            reasoning = delta.get("reasoning_content") or ""
            if (content or reasoning) and self.first_token is None:
                self.first_token = time.monotonic()
            self.content += content
            self.reasoning += reasoning
            self.reasoning_tokens += bool(reasoning)
            for piece in delta.get("tool_calls") or ():
                self._add_call(piece)

    def force_call(self) -> None:
        """The text is the JSON of a call; make it one, if it is whole."""
        if self.finish == "stop" and (call := tool_call(self.content)):
            self.calls, self.content, self.finish = {0: call}, "", "tool_calls"

    def usage_block(self) -> Json:
        prompt = self.usage.get("prompt_tokens", 0)
        completion = self.usage.get("completion_tokens", 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def _add_call(self, piece: Json) -> None:
        function = piece.get("function") or {}
        call = self.calls.setdefault(
            piece.get("index", 0),
            {"type": "function", "id": piece.get("id"), "function": {"name": "", "arguments": ""}},
        )
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def tool_call(text: str) -> Json | None:
    """The tool call that a forced answer's JSON stands for; None where the JSON is cut off."""
    try:
        wanted = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    arguments = orjson.dumps(wanted["arguments"]).decode()
    return {
        "type": "function",
        "id": str(secrets.randbelow(900_000_000) + 100_000_000),
        "function": {"name": wanted["name"], "arguments": arguments},
    }


def whole_chat(got: Gathered, instance: Instance) -> Json:
    """`chat.completion`."""
    message = {
        "role": "assistant",
        "content": got.content,
        "reasoning_content": got.reasoning,
        "tool_calls": list(got.calls.values()),
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": got.finish}
    return _whole(got, instance, "chat.completion", choice)


def whole_completion(got: Gathered, instance: Instance) -> Json:
    """`text_completion`."""
    choice = {"index": 0, "text": got.content, "logprobs": None, "finish_reason": got.finish}
    return _whole(got, instance, "text_completion", choice)


def extra_blocks(timings: Json, finish: str | None, waited: float | None, of: Instance) -> Json:
    """What `/api/v0` adds: stats, model_info, runtime. `waited`: seconds to the first token."""
    header = of.model.header
    return {
        "stats": {
            "tokens_per_second": timings.get("predicted_per_second", 0.0),
            "time_to_first_token": round(waited or 0.0, 4),
            "generation_time": round(timings.get("predicted_ms", 0.0) / 1e3, 4),
            "stop_reason": STOP_REASONS.get(finish or "stop", "eosFound"),
        },
        "model_info": {
            "arch": header.architecture,
            "quant": header.quantization,
            "format": "gguf",
            "context_length": of.context_length,
        },
        "runtime": runtime(),
    }


def runtime() -> Json:
    """What runs the models."""
    system = f"{platform.system()}-{platform.machine()}".lower()
    return {
        "name": f"llama.cpp-{system}",
        "version": version("xllamacpp"),
        "supported_formats": ["gguf"],
    }


async def passing(
    answer: Answer,
    *,
    usage: bool,
    extras: bool,
    started: float,
    quirks: Quirks,
    timings: bool = False,
) -> AsyncGenerator[bytes]:
    """The stream as it comes, with our names in it; an error as its last event.

    `usage`: keep the chunk with the usage. `extras`: add the blocks of `/api/v0` to it. `timings`:
    keep llama.cpp's own.
    """
    touch = _Touch(answer.instance, usage=usage, extras=extras, started=started, timings=timings)
    try:
        async for chunk in answer.chunks():
            yield touch.chunk(chunk)
    except DeskError as error:
        yield failure(error, quirks)


async def forced_call(
    answer: Answer, *, usage: bool, extras: bool, quirks: Quirks
) -> AsyncGenerator[bytes]:
    """A forced tool call as a stream: its JSON must be whole before it can be a call."""
    got = Gathered()
    try:
        await got.gather(answer)
    except DeskError as error:
        yield failure(error, quirks)
        return
    got.force_call()
    instance = answer.instance
    base = {
        "id": got.id,
        "object": "chat.completion.chunk",
        "created": got.created,
        "model": instance.id,
        "system_fingerprint": instance.id,
    }

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**base, "choices": [choice]}

    yield event(chunk({"role": "assistant"}))
    if got.content:
        yield event(chunk({"content": got.content}))
    for index, call in got.calls.items():
        head = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        yield event(chunk({"tool_calls": [head]}))
        rest = {"index": index, "function": {"arguments": call["function"]["arguments"]}}
        yield event(chunk({"tool_calls": [rest]}))
    last = chunk({}, got.finish)
    if extras:
        waited = (got.first_token or got.started) - got.started
        last |= extra_blocks(got.timings, got.finish, waited, instance)
    yield event(last)
    if usage:
        yield event({**base, "choices": [], "usage": got.usage_block()})
    yield DONE


class _Touch:
    """Changes what must change in passing chunks, and parses only the last ones."""

    def __init__(
        self, instance: Instance, *, usage: bool, extras: bool, started: float, timings: bool
    ) -> None:
        self._instance = instance
        self._timings = timings
        self._usage = usage
        self._extras = extras
        self._started = started
        self._waited: float | None = None
        self._reasoning_tokens = 0
        self._finish: str | None = None
        self._theirs = b""
        self._ours = _FINGERPRINT + orjson.dumps(instance.id)[1:]

    def chunk(self, chunk: bytes) -> bytes:
        if self._waited is None:
            self._waited = time.monotonic() - self._started
            self._learn_fingerprint(chunk)
        self._reasoning_tokens += chunk.count(_REASONING)
        if self._theirs:
            chunk = chunk.replace(self._theirs, self._ours)
        if any(mark in chunk for mark in _LAST_CHUNK):
            return b"".join(self._last(part) for part in chunk.split(b"\n\n") if part)
        return chunk

    def _learn_fingerprint(self, chunk: bytes) -> None:
        start = chunk.find(_FINGERPRINT)
        if start >= 0:
            end = chunk.index(b'"', start + len(_FINGERPRINT)) + 1
            self._theirs = chunk[start:end]

    def _last(self, part: bytes) -> bytes:
        if part == DONE.strip() or not part.startswith(b"data: "):
            return part + b"\n\n"
        data: dict[str, Any] = orjson.loads(part[6:])
        for choice in data.get("choices", ()):
            self._finish = choice.get("finish_reason") or self._finish
        timings = data.pop("timings", None)
        if used := data.pop("usage", None):
            if self._usage:
                details = {"reasoning_tokens": self._reasoning_tokens}
                data["usage"] = {**used, "completion_tokens_details": details}
            if not self._usage and not data.get("choices") and not self._extras:
                return b""
        if timings and self._extras:
            data |= extra_blocks(timings, self._finish, self._waited, self._instance)
        if timings and self._timings:
            data["timings"] = timings
        return event(data)


def _whole(got: Gathered, instance: Instance, kind: str, choice: Json) -> Json:
    return {
        "id": got.id,
        "object": kind,
        "created": got.created,
        "model": instance.id,
        "choices": [choice],
        "usage": got.usage_block(),
        "stats": {},
        "system_fingerprint": instance.id,
    }
