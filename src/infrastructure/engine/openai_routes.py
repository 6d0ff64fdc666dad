"""Inference: `/v1` as OpenAI speaks it, and the same under `/api/v0` with statistics."""

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from core.errors import ContextTooLong, DeskError
from infrastructure.engine import answers, requests, upstream, wire
from infrastructure.engine.desk import Desk
from infrastructure.engine.instance import Instance
from infrastructure.engine.stream_errors import Quirks, instead_of_refusal
from infrastructure.engine.upstream import Answer
from infrastructure.engine.wire import Handler, Json

_EDGE_TOKENS = 2


def chat_completions(desk: Desk, *, extras: bool = False) -> Handler:
    """`extras`: with the blocks of `/api/v0`."""

    quirks = desk.config.quirks

    async def handle(request: Request) -> Response:
        body = await wire.body_of(request, wire.openai)
        started = time.monotonic()
        requests.chat_body(body, "")  # refuse before anything is loaded
        async with AsyncExitStack() as stack:
            try:
                answer, forced = await wire.unless_gone(request, _ask_chat(desk, stack, body))
                if body.get("stream"):
                    usage = requests.wants_usage(body)
                    source: AsyncGenerator[bytes]
                    if forced:
                        source = answers.forced_call(
                            answer, usage=usage, extras=extras, quirks=quirks
                        )
                    else:
                        source = answers.passing(
                            answer,
                            usage=usage,
                            extras=extras,
                            started=started,
                            quirks=quirks,
                            # Who knows this word of llama.cpp's knows that one too.
                            timings=body.get("return_progress") is True,
                        )
                    return wire.EventStream(source, stack.pop_all())
                got = answers.Gathered(started=started)
                await wire.unless_gone(request, got.gather(answer))
            except DeskError as error:
                return _refuse(error, body, quirks)
            if forced:
                got.force_call()
            whole = answers.whole_chat(got, answer.instance)
            return _with_extras(whole, got, answer.instance) if extras else wire.reply(whole)

    return handle


def completions(desk: Desk, *, extras: bool = False) -> Handler:
    """Text goes on from a text; no template is applied."""

    quirks = desk.config.quirks

    async def handle(request: Request) -> Response:
        body = await wire.body_of(request, wire.openai)
        started = time.monotonic()
        requests.completion_body(body, "")
        async with AsyncExitStack() as stack:
            try:
                answer = await wire.unless_gone(request, _ask_completion(desk, stack, body))
                if body.get("stream"):
                    usage = requests.wants_usage(body)
                    source = answers.passing(
                        answer, usage=usage, extras=extras, started=started, quirks=quirks
                    )
                    return wire.EventStream(source, stack.pop_all())
                got = answers.Gathered(started=started)
                await wire.unless_gone(request, got.gather(answer))
            except DeskError as error:
                return _refuse(error, body, quirks)
            whole = answers.whole_completion(got, answer.instance)
            return _with_extras(whole, got, answer.instance) if extras else wire.reply(whole)

    return handle


def embeddings(desk: Desk) -> Handler:
    """Vectors; a text longer than the context is cut, as LM Studio does."""

    async def handle(request: Request) -> Response:
        body = await wire.body_of(request, wire.openai)
        given = body.get("input")
        if not isinstance(given, str | list) or not given:
            raise wire.plain("'input' field must be a string or an array of strings")
        async with AsyncExitStack() as stack:
            try:
                return await wire.unless_gone(request, _embed(desk, stack, body))
            except DeskError as error:
                raise wire.as_openai(error) from None

    return handle


def _refuse(error: DeskError, body: Json, quirks: Quirks) -> Response:
    """What a request gets that failed before its first word. Raises Refusal, or plays a quirk."""
    stream = instead_of_refusal(error, quirks) if body.get("stream") else None
    if stream is None:
        raise wire.as_openai(error) from None
    return stream


async def _ask_chat(desk: Desk, stack: AsyncExitStack, body: Json) -> tuple[Answer, bool]:
    instance = await desk.borrow(stack, body.get("model"), "llm", body.get("ttl"))
    asked, forced = requests.chat_body(body, instance.id)
    path = "/v1/chat/completions"
    return await Answer.open(stack, desk.session, instance, path, asked), forced


async def _ask_completion(desk: Desk, stack: AsyncExitStack, body: Json) -> Answer:
    instance = await desk.borrow(stack, body.get("model"), "llm", body.get("ttl"))
    asked = requests.completion_body(body, instance.id)
    return await Answer.open(stack, desk.session, instance, "/v1/completions", asked)


async def _embed(desk: Desk, stack: AsyncExitStack, body: Json) -> Response:
    instance = await desk.borrow(stack, body.get("model"), "embedding", body.get("ttl"))
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    asked = {
        "input": texts,
        "model": instance.id,
        "encoding_format": body.get("encoding_format", "float"),
    }
    try:
        answer = await upstream.exchange(desk.session, instance, "/v1/embeddings", asked)
    except ContextTooLong:
        asked["input"] = [await _cut(desk, instance, text) for text in texts]
        answer = await upstream.exchange(desk.session, instance, "/v1/embeddings", asked)
    used = answer.get("usage", {})
    return wire.reply(
        {
            "object": "list",
            "data": answer["data"],
            "model": instance.id,
            "usage": {
                "prompt_tokens": used.get("prompt_tokens", 0),
                "total_tokens": used.get("total_tokens", 0),
            },
        }
    )


async def _cut(desk: Desk, instance: Instance, text: object) -> object:
    """The text's first tokens, as many as the context holds."""
    if not isinstance(text, str):
        return text
    answer = await upstream.exchange(
        desk.session, instance, "/tokenize", {"content": text, "add_special": False}
    )
    tokens: list[int] = answer["tokens"]
    return tokens[: max(1, instance.context_length - _EDGE_TOKENS)]


def _with_extras(whole: Json, got: answers.Gathered, instance: Instance) -> Response:
    waited = (got.first_token or got.started) - got.started
    return wire.reply(whole | answers.extra_blocks(got.timings, got.finish, waited, instance))
