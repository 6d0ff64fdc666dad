"""Answers over a channel: the prompt's progress, fragments, tool calls, and how it ended."""

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import orjson

from infrastructure.engine import requests
from infrastructure.engine.answers import STOP_REASONS, Gathered
from infrastructure.engine.desk import Desk
from infrastructure.engine.instance import Instance
from infrastructure.engine.sdk import describe
from infrastructure.engine.sdk.describe import Specifier
from infrastructure.engine.sdk.frames import CallError, Channel, EndedByClient, Parameter
from infrastructure.engine.sdk.history import History, grammar, messages, plain_text, sampling
from infrastructure.engine.sdk.load_config import Stack, config_of
from infrastructure.engine.upstream import Answer
from infrastructure.engine.wire import Json, Refusal

_START_TAG: Final = "<think>"
_END_TAG: Final = "</think>"


class Predict(Parameter):
    """Of `predict`."""

    model_specifier: Specifier
    history: History
    prediction_config_stack: Stack


class Complete(Parameter):
    """Of `completeRawText`."""

    model_specifier: Specifier
    raw_prompt: str
    prediction_config_stack: Stack


class Prediction:
    """The channels that answer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def predict(self, channel: Channel, given: Predict) -> None:
        stack = given.prediction_config_stack
        if stack.has("completeModeFormatting"):
            prompt: Json = {"prompt": plain_text(given.history)}
        else:
            prompt = {"messages": messages(given.history)}
        await self._answer(channel, given.model_specifier, prompt, stack)

    async def complete(self, channel: Channel, given: Complete) -> None:
        prompt = {"prompt": given.raw_prompt}
        await self._answer(channel, given.model_specifier, prompt, given.prediction_config_stack)

    async def _answer(
        self, channel: Channel, specifier: Specifier, prompt: Json, stack: Stack
    ) -> None:
        instance = describe.find_instance(self._desk, specifier, "llm")
        path, asked, forced = _request(instance, prompt, stack)
        told = _Told(instance, forced)
        async with AsyncExitStack() as owned:
            await owned.enter_async_context(self._desk.pool.using(instance))
            stopped = False
            try:
                await channel.unless_ended(self._stream(channel, owned, told, path, asked))
            except EndedByClient:
                stopped = True
        most = asked.get("max_tokens")
        await channel.send(
            {
                "type": "success",
                "stats": told.stats("userStopped" if stopped else None, most),
                "modelInfo": describe.instance_info(instance),
                "loadModelConfig": config_of(instance, "llm"),
                "predictionConfig": {
                    "fields": [{"key": k, "value": v} for k, v in stack.values().items()]
                },
            }
        )

    async def _stream(
        self, channel: Channel, owned: AsyncExitStack, told: "_Told", path: str, asked: Json
    ) -> None:
        answer = await Answer.open(owned, self._desk.session, told.instance, path, asked)
        async for data in answer.events():
            for message in told.add(data):
                await channel.send(message)
        for message in told.end():
            await channel.send(message)


@dataclass
class _Told:
    """What a client has been told of an answer so far."""

    instance: Instance
    forced: bool
    """Whether the answer is the JSON of a tool call."""
    got: Gathered = field(default_factory=Gathered)
    reasoning: bool = False
    calls: list[int] = field(default_factory=list)

    def add(self, data: Json) -> Iterator[Json]:
        """The messages that a chunk of the answer makes."""
        if read := data.get("prompt_progress"):
            yield _progress(read)
        self.got.add(data)
        if self.forced:
            return
        for choice in data.get("choices", ()):
            delta = choice.get("delta") or {}
            if thought := delta.get("reasoning_content"):
                if not self.reasoning:
                    self.reasoning = True
                    yield _fragment(_START_TAG, "reasoningStartTag", 0)
                yield _fragment(thought, "reasoning")
            if said := delta.get("content") or choice.get("text"):
                yield from self._end_reasoning()
                yield _fragment(said)
            for piece in delta.get("tool_calls") or ():
                yield from self._end_reasoning()
                yield from self._tool_call(piece)

    def end(self) -> Iterator[Json]:
        """What was left open."""
        yield from self._end_reasoning()
        if self.forced:
            self.got.force_call()
            if self.got.content:
                yield _fragment(self.got.content, tokens=self.got.usage.get("completion_tokens", 1))
            for index, call in self.got.calls.items():
                yield from self._tool_call({**call, "index": index})
        if self.calls:
            yield self._call_ended(self.calls[-1])

    def stats(self, stop_reason: str | None, most: int | None) -> Json:
        got = self.got
        usage, timings = got.usage_block(), got.timings
        predicted = usage["completion_tokens"]
        if stop_reason is None:
            stop_reason = STOP_REASONS.get(got.finish or "stop", "eosFound")
            if got.finish == "length" and (most is None or predicted < most):
                stop_reason = "contextLengthReached"
        waited = (got.first_token or time.monotonic()) - got.started
        return {
            "stopReason": stop_reason,
            "tokensPerSecond": timings.get("predicted_per_second", 0.0),
            "numGpuLayers": self._gpu_layers(),
            "timeToFirstTokenSec": round(waited, 4),
            "totalTimeSec": round(time.monotonic() - got.started, 4),
            "promptTokensCount": usage["prompt_tokens"],
            "predictedTokensCount": predicted,
            "totalTokensCount": usage["total_tokens"],
        }

    def _gpu_layers(self) -> int:
        child = self.instance.child
        return (child.settings.gpu_layers or 0) if child.has_gpu else 0

    def _end_reasoning(self) -> Iterator[Json]:
        if self.reasoning:
            self.reasoning = False
            yield _fragment(_END_TAG, "reasoningEndTag", 0)

    def _tool_call(self, piece: Json) -> Iterator[Json]:
        index, function = piece.get("index", 0), piece.get("function") or {}
        if index not in self.calls:
            if self.calls:
                yield self._call_ended(self.calls[-1])
            self.calls.append(index)
            yield {"type": "toolCallGenerationStart", "toolCallId": piece.get("id") or str(index)}
        if name := function.get("name"):
            yield {"type": "toolCallGenerationNameReceived", "name": name}
        if arguments := function.get("arguments"):
            kind = "toolCallGenerationArgumentFragmentGenerated"
            yield {"type": kind, "content": arguments}

    def _call_ended(self, index: int) -> Json:
        call = self.got.calls[index]
        name, raw = call["function"]["name"], call["function"]["arguments"]
        try:
            arguments = orjson.loads(raw or "{}")
        except orjson.JSONDecodeError:
            error = CallError(f"The model's call of {name} is no JSON.").body
            return {"type": "toolCallGenerationFailed", "error": error, "rawContent": raw}
        request = {"id": call["id"], "type": "function", "name": name, "arguments": arguments}
        return {"type": "toolCallGenerationEnd", "toolCallRequest": request, "rawContent": raw}


def _request(instance: Instance, prompt: Json, stack: Stack) -> tuple[str, Json, bool]:
    """Path and body for the model's process, and whether a tool call is forced."""
    values = stack.values()
    body = {**sampling(values), **prompt, "return_progress": True}
    try:
        if "prompt" in prompt:
            path, asked, forced = "/v1/completions", None, False
            asked = requests.completion_body(body, instance.id)
        else:
            path = "/v1/chat/completions"
            asked, forced = requests.chat_body(body, instance.id)
    except Refusal as error:
        told = error.body["error"]
        raise CallError(told if isinstance(told, str) else told["message"]) from None
    if rules := grammar(values):
        asked["grammar"] = rules
    if "chat_template_kwargs" in body:
        asked["chat_template_kwargs"] = body["chat_template_kwargs"]
    return path, asked, forced


def _progress(read: Json) -> Json:
    total, processed, cached = read["total"], read["processed"], read.get("cache", 0)
    return {
        "type": "promptProcessingProgress",
        "progress": round(processed / max(1, total), 4),
        "details": {
            "cachedTokenCount": cached,
            "totalPromptTokenCount": total,
            "processedPromptTokenCount": processed,
            "unprocessedPromptTokenCount": max(0, total - processed),
        },
    }


def _fragment(content: str, reasoning: str = "none", tokens: int = 1) -> Json:
    return {
        "type": "fragment",
        "fragment": {
            "content": content,
            "tokensCount": tokens,
            "containsDrafted": False,
            "reasoningType": reasoning,
            "isStructural": False,
        },
    }
