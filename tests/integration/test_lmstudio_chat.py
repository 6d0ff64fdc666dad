"""Answers over real sockets: whole ones, broken ones, and ones that are walked away from."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from core.chat import (
    Answered,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    MessageDelta,
    Parameters,
    PromptProgress,
    ReasoningDelta,
)
from core.errors import (
    ContextTooLong,
    DeskError,
    ModelCrashed,
    ModelNotFound,
    ModelUnloaded,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderRejected,
    ProviderUnreachable,
)
from infrastructure.providers.lmstudio import LMStudioProvider
from tests.frames import DONE, chunk, ending, usage_frame
from tests.servers import TOKEN, ScriptedLMStudio, ScriptedModel
from tests.sockets import EVENTS_HEAD, free_port, http_chunk, http_json, raw_server, serve, until

pytestmark = pytest.mark.anyio

KEY = "qwen/qwen3-4b"
HI = (ChatMessage(role="user", content="Hi"),)


def loaded(**options: Any) -> ScriptedLMStudio:
    return ScriptedLMStudio(models=[ScriptedModel(KEY, instances={KEY: 8192})], **options)


def request(**parameters: Any) -> ChatRequest:
    return ChatRequest(model_id=KEY, messages=HI, parameters=Parameters(**parameters))


@asynccontextmanager
async def at(url: str, **options: Any) -> AsyncGenerator[LMStudioProvider]:
    provider = LMStudioProvider("lm", url, **options)
    try:
        yield provider
    finally:
        await provider.aclose()


async def ask(
    provider: LMStudioProvider,
    asked: ChatRequest | None = None,
    *,
    heard: asyncio.Event | None = None,
) -> tuple[list[ChatEvent], DeskError | None]:
    """The events, and the error that ended them."""
    events: list[ChatEvent] = []
    try:
        async with aclosing(provider.stream_chat(asked or request())) as stream:
            async for event in stream:
                events.append(event)
                if heard is not None:
                    heard.set()
    except DeskError as error:
        return events, error
    return events, None


def said(events: list[ChatEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, MessageDelta))


async def test_an_answer_arrives_in_order_and_ends_with_what_it_was() -> None:
    async with serve(loaded(tokens=500)) as url, at(url) as provider:
        events, error = await ask(provider)

    assert error is None
    assert said(events) == "".join(f"{n} " for n in range(500))
    assert events[-1] == Answered(
        finish_reason="stop",
        model_id=KEY,
        input_tokens=7,
        output_tokens=500,
        raw_stats={"usage": {"prompt_tokens": 7, "completion_tokens": 500}},
    )


async def test_the_request_carries_what_was_asked_and_nothing_else() -> None:
    lm = loaded()
    asked = ChatRequest(
        model_id=KEY,
        instance_id=f"{KEY}:2",
        messages=HI,
        parameters=Parameters(
            temperature=0.5, top_p=0.9, top_k=40, max_tokens=3, system_prompt="Be brief."
        ),
    )
    lm.models[KEY].load(4096)
    async with serve(lm) as url, at(url) as provider:
        await ask(provider, asked)
        await ask(provider)

    full, bare = (asked.body for asked in lm.requests("/v1/chat/completions"))
    assert full == {
        "model": f"{KEY}:2",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 3,
    }
    assert set(bare) == {"model", "messages", "stream", "stream_options"}


async def test_a_system_message_that_is_there_is_not_doubled() -> None:
    lm = loaded()
    messages = (ChatMessage(role="system", content="Mine."), *HI)
    asked = ChatRequest(
        model_id=KEY, messages=messages, parameters=Parameters(system_prompt="Other.")
    )
    async with serve(lm) as url, at(url) as provider:
        await ask(provider, asked)

    (sent,) = lm.requests("/v1/chat/completions")
    assert [m["content"] for m in sent.body["messages"]] == ["Mine.", "Hi"]


async def test_another_model_that_answers_is_named() -> None:
    lm = loaded()
    lm.frames = [chunk({"content": "Hi"}, model="another"), *ending("another", 1)]
    async with serve(lm) as url, at(url) as provider:
        events, _ = await ask(provider)

    assert isinstance(events[-1], Answered)
    assert events[-1].model_id == "another"


async def test_thinking_is_told_from_the_answer_and_a_cut_one_says_so() -> None:
    lm = loaded()
    lm.frames = [
        chunk({"reasoning_content": "Hm"}),
        chunk({"content": "Yes"}),
        chunk({}, finish_reason="length"),
        usage_frame(3, 2),
        DONE,
    ]
    async with serve(lm) as url, at(url) as provider:
        events, _ = await ask(provider)

    assert events[:2] == [ReasoningDelta("Hm"), MessageDelta("Yes")]
    assert isinstance(events[-1], Answered)
    assert events[-1].finish_reason == "length"


async def test_the_engine_is_asked_for_prompt_progress() -> None:
    lm = loaded()
    progress = b'data: {"choices":[],"prompt_progress":{"total":4,"processed":3}}\n\n'
    lm.frames = [progress, chunk({"content": "Hi"}), *ending(KEY, 1)]
    async with serve(lm) as url, at(url, kind="embedded") as provider:
        events, _ = await ask(provider)

    assert events[0] == PromptProgress(0.75)
    assert lm.requests("/v1/chat/completions")[0].body["return_progress"] is True


async def test_a_server_that_does_not_stream_is_understood() -> None:
    message = {"role": "assistant", "content": "Hi.", "reasoning_content": "Hm"}
    whole = {
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    lm = loaded()
    lm.answers["POST", "/v1/chat/completions"] = (200, whole)
    async with serve(lm) as url, at(url) as provider:
        events, error = await ask(provider)

    assert error is None
    assert events[:2] == [ReasoningDelta("Hm"), MessageDelta("Hi.")]


# -- endings that are none -----------------------------------------------------------------------

HEL = chunk({"content": "Hel"})


@pytest.mark.parametrize(
    ("frames", "kind", "text"),
    [
        ([HEL, b'data: {"error":{"message":"Boom","type":"x"}}\n\n'], ProviderRejected, "Hel"),
        ([HEL, b'data: {"error":"Boom"}\n\n'], ProviderRejected, "Hel"),
        ([HEL, b'event: error\ndata: {"error":{"message":"Boom"}}\n\n'], ProviderRejected, "Hel"),
        ([HEL + b'event: error\ndata: "Boom"\n\n'], ProviderRejected, "Hel"),
        (
            [HEL, b'data: {"error":"The model has crashed. (Exit code: 6)"}\n\n'],
            ModelCrashed,
            "Hel",
        ),
        ([HEL, b'data: {"error":"Model unloaded."}\n\n'], ModelUnloaded, "Hel"),
        (
            [b'data: {"error":{"message":"Context size has been exceeded"}}\n\n'],
            ContextTooLong,
            "",
        ),
        ([DONE], ContextTooLong, ""),
        ([usage_frame(9000, 0), DONE], ContextTooLong, ""),
        ([chunk({"role": "assistant"}), DONE], ContextTooLong, ""),
        ([], ProviderProtocolError, ""),
        ([b": nothing\n\n"], ProviderProtocolError, ""),
        ([HEL], ProviderProtocolError, "Hel"),
        ([b"data: {not json\n\n", b"junk\n\n"], ProviderProtocolError, ""),
    ],
)
async def test_a_stream_that_ends_wrongly_keeps_its_text_and_says_what_happened(
    frames: list[bytes], kind: type[DeskError], text: str
) -> None:
    lm = loaded()
    lm.frames = frames
    async with serve(lm) as url, at(url) as provider:
        events, error = await ask(provider)

    assert type(error) is kind
    assert said(events) == text
    assert error.message


@pytest.mark.parametrize(
    "frames",
    [
        [chunk({"content": "Hello"}), chunk({}, finish_reason="stop")],
        [chunk({"content": "Hello"}, finish_reason="stop")],
        [chunk({"content": "Hello"}), DONE],
        [chunk({"content": "Hello"}), b'data: {"usa', b'data: {"choices":[]}\n\n', DONE],
    ],
)
async def test_a_whole_answer_counts_however_loosely_it_ends(frames: list[bytes]) -> None:
    lm = loaded()
    lm.frames = frames
    async with serve(lm) as url, at(url) as provider:
        events, error = await ask(provider)

    assert error is None
    assert said(events) == "Hello"
    assert isinstance(events[-1], Answered)


async def test_an_answer_of_nothing_but_its_end_is_an_answer() -> None:
    lm = loaded()
    lm.frames = [chunk({}, finish_reason="stop"), usage_frame(7, 1), DONE]
    async with serve(lm) as url, at(url) as provider:
        events, error = await ask(provider)

    assert error is None
    assert isinstance(events[-1], Answered)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"error": "Unexpected endpoint or method. (POST /v1/x)"}, ProviderProtocolError),
        (400, {"error": "Model has unloaded or crashed.."}, ModelUnloaded),
        (400, {"error": "The model has crashed. (Exit code: null)"}, ModelCrashed),
        (
            400,
            {"error": {"message": "Invalid model identifier", "code": "model_not_found"}},
            ModelNotFound,
        ),
        (400, {"error": {"message": "greater than the context length"}}, ContextTooLong),
        (400, {"error": "'messages' field is required"}, ProviderRejected),
        (401, {"error": {"code": "invalid_api_key", "message": "sk-…"}}, ProviderNeedsToken),
        (503, {"detail": "busy"}, ProviderBusy),
        (500, {"detail": "broken"}, ProviderFailed),
        (200, [], ProviderProtocolError),
    ],
)
async def test_a_refusal_becomes_its_error(status: int, body: Any, kind: type[DeskError]) -> None:
    lm = loaded()
    lm.chat_error = (status, body)
    async with serve(lm) as url, at(url) as provider:
        events, error = await ask(provider)

    assert type(error) is kind
    assert events == []


async def test_a_web_page_is_no_answer() -> None:
    async def page(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
        )

    async with raw_server(page) as url, at(url) as provider:
        _, error = await ask(provider)

    assert type(error) is ProviderProtocolError


Breaking = Callable[[asyncio.StreamWriter], None]


def cut(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def garble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"zz not a chunk\r\n")


@pytest.mark.parametrize("breaking", [cut, reset, garble])
async def test_a_connection_that_breaks_off_keeps_what_was_said(breaking: Breaking) -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS_HEAD + http_chunk(HEL))
        await writer.drain()
        await heard.wait()
        breaking(writer)

    heard = asyncio.Event()
    async with raw_server(handle) as url, at(url) as provider:
        events, error = await ask(provider, heard=heard)

    assert said(events) == "Hel"
    assert type(error) is ProviderUnreachable
    assert "before its answer was complete" in error.message


async def test_nobody_there_is_unreachable() -> None:
    async with at(f"http://127.0.0.1:{free_port()}") as provider:
        _, error = await ask(provider)

    assert type(error) is ProviderUnreachable
    assert "lms server start" in error.hint


async def test_a_pooled_connection_that_the_server_closed_does_not_cost_a_list() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(head.split()[1])
        if asked[-1] == b"/lmstudio-greeting":
            writer.write(http_json({"lmstudio": True}))
        elif asked[-1] == b"/api/v1/models" and asked.count(asked[-1]) == 3:
            writer.transport.abort()  # once, on a connection that worked before
        else:
            writer.write(http_json({"models": [{"key": "m"}]}))

    asked: list[bytes] = []
    async with raw_server(handle) as url, at(url) as provider:
        await provider.list_models()
        assert [model.id for model in await provider.list_models()] == ["m"]


# -- stopping ------------------------------------------------------------------------------------


async def test_closing_an_answer_closes_its_connection_at_once() -> None:
    lm = loaded(tokens=10_000, rate=200)
    async with serve(lm) as url, at(url) as provider:
        async with aclosing(provider.stream_chat(request())) as events:
            async for event in events:
                if isinstance(event, MessageDelta):
                    break
        await until(lambda: lm.aborted == 1)

    assert lm.open == 0
    assert lm.sent_tokens < 5_000


async def test_a_stop_does_not_wait_for_a_server_that_never_closes() -> None:
    lm = loaded()
    lm.frames, lm.hangs = [HEL], True
    async with serve(lm) as url, at(url) as provider:
        with anyio.fail_after(10):
            async with aclosing(provider.stream_chat(request())) as events:
                assert await anext(events) == MessageDelta("Hel")
            await until(lambda: lm.aborted == 1)


@pytest.mark.parametrize("frames", [[HEL], []])
async def test_cancelling_the_task_closes_the_connection(frames: list[bytes]) -> None:
    lm = loaded()
    lm.frames, lm.hangs = frames, True
    async with serve(lm) as url, at(url) as provider:
        task = asyncio.create_task(ask(provider))
        await until(lambda: lm.open == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: lm.aborted == 1)


async def test_done_ends_the_answer_though_the_server_keeps_the_line_open() -> None:
    lm = loaded()
    lm.frames, lm.hangs = [HEL, *ending(KEY, 1)], True
    async with serve(lm) as url, at(url) as provider:
        with anyio.fail_after(10):
            events, error = await ask(provider)

    assert error is None
    assert isinstance(events[-1], Answered)


async def test_a_hundred_answers_at_once_do_not_mix_and_all_can_be_stopped() -> None:
    lm = loaded(tokens=100_000, rate=20)

    async def first_words(provider: LMStudioProvider) -> str:
        words = ""
        async with aclosing(provider.stream_chat(request())) as events:
            async for event in events:
                assert isinstance(event, MessageDelta)
                words += event.content
                if words.count(" ") == 3:
                    return words
        raise AssertionError("the answer ended")

    async with serve(lm) as url, at(url) as provider:
        answers = await asyncio.gather(*(first_words(provider) for _ in range(128)))
        await until(lambda: lm.aborted == 128)

    assert set(answers) == {"0 1 2 "}
    assert lm.open == 0


async def test_the_token_goes_to_the_server_and_into_no_error() -> None:
    lm = loaded(token=TOKEN)
    lm.chat_error = (400, {"error": f"Unhappy with {TOKEN}"})
    async with serve(lm) as url, at(url, token=SecretStr(TOKEN)) as provider:
        _, error = await ask(provider)

    assert lm.asked[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert type(error) is ProviderRejected
    assert "ABCDEFGH" not in error.message


async def test_closing_the_provider_leaves_nothing_open() -> None:
    async with serve(loaded()) as url:
        provider = LMStudioProvider("lm", url)
        await ask(provider)
        await provider.aclose()
        await provider.aclose()
        del provider
        gc.collect()  # an open client would warn, and warnings are errors
