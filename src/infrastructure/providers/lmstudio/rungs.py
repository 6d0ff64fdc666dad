"""The ways a model can be brought into memory over HTTP, the best one first."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from core.errors import LoadFailed, ModelNotFound, ProviderTimeout
from core.models import LoadOptions, LoadProgress, ModelInfo
from infrastructure.http import Reply, check_body
from infrastructure.providers.estimate import (
    LOAD_SECONDS,
    Landed,
    LoadEstimates,
    estimated,
)
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.openai.stream import LineSplitter
from infrastructure.providers.problems import problem, reply_problem
from infrastructure.providers.server import Stream

POLL_SECONDS = 0.5
# The one token that a load over a chat route must generate.
TOKEN_SECONDS = 5.0

# The load route's own options, by the names it has for them too.
LOAD_ROUTE_TAKES = {"context_length", "flash_attention", "eval_batch_size", "parallel"}

Progress = AsyncGenerator[LoadProgress]


class RungMissing(Exception):
    """The server does not have this way of loading; try the next."""


async def through_chat(server: Server, model: ModelInfo, options: LoadOptions) -> Progress:
    """/api/v1/chat, the one route that tells real progress; it has to generate a token."""
    body: dict[str, Any] = {
        "model": model.id,
        "input": "hi",
        "max_output_tokens": 1,
        "store": False,
        "stream": True,
    }
    if options.context_length is not None:
        body["context_length"] = options.context_length
    stream = await server.open("/api/v1/chat", body, seconds=LOAD_SECONDS)
    try:
        if not stream.is_events:
            _accept(await stream.reply(), server)
            return
        highest, loaded = 0.0, False
        stage: str | None = None
        async with aclosing(_load_events(stream)) as events:
            async for event in events:
                kind = event.get("type")
                if kind == "model_load.end":
                    loaded, highest = True, 1.0
                elif kind == "model_load.progress":
                    highest = max(highest, min(1.0, _number(event.get("progress"))))
                    stage = _stage(event)
                elif kind == "chat.end":
                    return
                elif (failure := check_body(event)) is not None:
                    if loaded:
                        return  # the model is there; its one word does not matter
                    raise problem(failure, server.wording)
                if str(kind).startswith("model_load."):
                    yield LoadProgress(fraction=highest, exact=True, stage=stage)
    finally:
        stream.close()


async def through_load_route(
    server: Server, model: ModelInfo, options: LoadOptions, estimates: LoadEstimates
) -> Progress:
    """/api/v1/models/load, which is silent until the model is there. Bodies are strict: no ttl."""
    wanted = options.model_dump(include=LOAD_ROUTE_TAKES, exclude_none=True)
    call = _post(server, "/api/v1/models/load", {"model": model.id} | wanted)
    async with aclosing(estimated(call, model, estimates)) as events:
        async for progress in events:
            yield progress


async def just_in_time(
    server: Server,
    model: ModelInfo,
    options: LoadOptions,
    estimates: LoadEstimates,
    *,
    landed: Landed | None = None,
) -> Progress:
    """Any request loads the model, on every version; the only way over HTTP to give a ttl.

    `landed` returns when the server's list shows the model as loaded.
    """
    body: dict[str, Any] = {"model": model.id}
    if options.ttl_seconds is not None:
        body["ttl"] = options.ttl_seconds
    if model.kind == "embedding":
        call = _post(server, "/v1/embeddings", body | {"input": "hi"})
    else:
        messages = [{"role": "user", "content": "hi"}]
        call = _post(server, "/v1/chat/completions", body | {"messages": messages, "max_tokens": 1})
    try:
        async with aclosing(estimated(call, model, estimates, landed)) as events:
            async for progress in events:
                yield progress
    except ModelNotFound as error:
        # It is in the list, so what is missing is the loading.
        raise LoadFailed(
            f"{server.wording.who} did not load the model for a request: {error.message}",
            hint="Turn on 'Just in Time Model Loading' in the server's settings.",
        ) from error


async def _post(server: Server, path: str, body: dict[str, Any]) -> None:
    _accept(await server.post(path, body, seconds=None), server)


def _accept(reply: Reply, server: Server) -> None:
    if reply.ok:
        return
    strict = reply.error is not None and "unrecognized key" in reply.error.text.lower()
    if reply.route_missing or strict:
        raise RungMissing
    raise reply_problem(reply, server.wording)


async def _load_events(stream: Stream) -> AsyncGenerator[dict[str, Any]]:
    lines, seconds = LineSplitter(), LOAD_SECONDS
    while chunk := await _read(stream, seconds):
        for line in lines.feed(chunk):
            if not line.startswith(b"data:"):
                continue
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event
                if event.get("type") == "model_load.end":
                    seconds = TOKEN_SECONDS


async def _read(stream: Stream, seconds: float) -> bytes:
    try:
        return await stream.read(seconds=seconds)
    except ProviderTimeout:
        if seconds != TOKEN_SECONDS:
            raise
        return b""  # loaded, and slow with its one word: no reason to wait


def _number(value: object) -> float:
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0


def _stage(event: dict[str, Any]) -> str | None:
    """What a load is at; our own engine says so, LM Studio does not."""
    stage = event.get("stage")
    return stage if isinstance(stage, str) else None
