"""Servers with OpenAI's API: the dialects of their lists, strict ones, and ones that break off."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer
from pydantic import SecretStr

from core.chat import Answered, ChatEvent, ChatMessage, ChatRequest, MessageDelta, Parameters
from core.errors import (
    BadParameter,
    ContextTooLong,
    DeskError,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderRejected,
    ProviderUnreachable,
)
from core.models import Capabilities
from core.ports import Embedder, Forwarder, ModelDownloader, ModelLoader
from core.providers import ProviderConfig
from infrastructure.providers.openai.provider import OpenAIProvider
from infrastructure.providers.openai.server import split_address
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import EVENTS_HEAD, http_chunk, http_json, raw_server, serve, until

pytestmark = pytest.mark.anyio

KEY = "m"
HI = (ChatMessage(role="user", content="Hi"),)
LISTED = http_json({"data": [{"id": KEY}]})


@asynccontextmanager
async def at(url: str, **more: Any) -> AsyncGenerator[OpenAIProvider]:
    config = {"name": "openai", "kind": "openai", "base_url": url} | more
    provider = OpenAIProvider(ProviderConfig.model_validate(config))
    try:
        yield provider
    finally:
        await provider.aclose()


def server(listing: Any = None, **options: Any) -> ScriptedLMStudio:
    """The OpenAI half of the scripted server, with this list."""
    scripted = ScriptedLMStudio(profile="v1", models=[ScriptedModel(KEY)], **options)
    if listing is not None:
        scripted.answers["GET", "/v1/models"] = (200, listing)
    return scripted


def request(**parameters: Any) -> ChatRequest:
    return ChatRequest(model_id=KEY, messages=HI, parameters=Parameters(**parameters))


async def ask(
    provider: OpenAIProvider, asked: ChatRequest | None = None
) -> tuple[list[ChatEvent], DeskError | None]:
    events: list[ChatEvent] = []
    try:
        async with aclosing(provider.stream_chat(asked or request())) as stream:
            async for event in stream:
                events.append(event)
    except DeskError as error:
        return events, error
    return events, None


def words(events: list[ChatEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, MessageDelta))


async def test_it_can_what_it_says_it_can() -> None:
    async with at("http://127.0.0.1:1") as provider:
        assert isinstance(provider, Embedder)
        assert isinstance(provider, Forwarder)
        for cannot in (ModelLoader, ModelDownloader):
            assert not isinstance(provider, cannot)


# -- lists ---------------------------------------------------------------------------------------

VLLM = {
    "id": "qwen",
    "object": "model",
    "owned_by": "vllm",
    "root": "Qwen/Qwen3-8B",
    "max_model_len": 40960,
    "permission": [{"id": "modelperm-1"}],
}
OPENROUTER = {
    "id": "qwen/qwen3-vl",
    "name": "Qwen: Qwen3 VL",
    "description": "Sees.",
    "context_length": 262144,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "top_provider": {"context_length": 131072, "max_completion_tokens": 32768},
    "supported_parameters": ["tools", "temperature"],
    "pricing": {"prompt": "0.0000001"},
}
GROQ = {"id": "llama-3.3-70b", "context_window": 131072, "max_completion_tokens": 32768}
MISTRAL = {
    "id": "mistral-small",
    "max_context_length": 131072,
    "capabilities": {"function_calling": True, "vision": False, "completion_chat": True},
}
TOGETHER = {"id": "bge", "type": "embedding", "context_length": 512, "display_name": "BGE"}
LLAMA = {
    "id": "tiny",
    "meta": {
        "n_ctx": 2048,
        "n_ctx_train": 4096,
        "n_params": 7_240_000_000,
        "size": 1000,
        "ftype": "Q4_K - Medium",
    },
}


async def test_every_dialect_of_a_list_is_read_for_what_it_tells() -> None:
    listing = {"data": [VLLM, OPENROUTER, GROQ, MISTRAL, TOGETHER, LLAMA]}
    async with serve(server(listing)) as url, at(url) as provider:
        vllm, router, groq, mistral, together, llama = await provider.list_models()
        health = await provider.health()

    assert (vllm.id, vllm.context_length, vllm.publisher) == ("qwen", 40960, "vllm")
    assert vllm.metadata == {"serves": "Qwen/Qwen3-8B"}
    assert (router.name, router.context_length, router.max_tokens) == (
        "Qwen: Qwen3 VL",
        262144,
        32768,
    )
    assert router.capabilities == Capabilities(vision=True, tools=True, reasoning=False)
    assert (groq.context_length, groq.max_tokens) == (131072, 32768)
    assert mistral.capabilities == Capabilities(vision=False, tools=True)
    assert (together.kind, together.name) == ("embedding", "BGE")
    assert llama.context_length == 2048  # what it serves, not what it was trained for
    assert (llama.quantization, llama.parameters, llama.size_bytes) == ("Q4_K_M", "7.24B", 1000)
    assert not any(model.loadable for model in (vllm, router, groq, mistral, together, llama))
    assert (health.state, health.message) == (
        "ready",
        "The OpenAI-compatible server is ready with 6 models.",
    )


async def test_a_bare_list_is_a_list_and_what_cannot_be_read_costs_only_itself() -> None:
    listing = [
        {"id": "a", "context_length": "a lot", "architecture": "GGUF"},
        {"id": 7},
        "b",
        {"no": "id"},
        {"id": "text-embedding-3-small"},
        {"id": "a", "context_length": 8192},
        *({"id": name} for name in ("whisper-1", "tts-1-hd", "dall-e-3", "omni-moderation-latest")),
        {"id": "x", "type": "image"},
        {"id": "y", "architecture": {"output_modalities": ["audio"]}},
    ]
    async with serve(server(listing)) as url, at(url) as provider:
        models = await provider.list_models()

    assert [(m.id, m.kind, m.context_length) for m in models] == [
        ("a", "llm", 8192),
        ("text-embedding-3-small", "embedding", None),
    ]


async def test_a_server_without_models_says_what_to_do() -> None:
    async with serve(server({"data": []})) as url, at(url, name="gpu-box") as provider:
        health = await provider.health()

    assert health.state == "no_models"
    assert health.message == "The OpenAI-compatible server (gpu-box) has no models."
    assert health.hint


@pytest.mark.parametrize(
    ("url", "root", "api"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "/v1"),
        ("127.0.0.1:8000/v1/", "http://127.0.0.1:8000", "/v1"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api", "/v1"),
        ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas", "/v4"),
        ("https://g.example/v1beta/openai/", "https://g.example", "/v1beta/openai"),
        ("http://h/v1/chat/completions", "http://h", "/v1"),
        ("http://h/vllm", "http://h/vllm", "/v1"),
    ],
)
def test_an_address_is_understood_as_people_paste_it(url: str, root: str, api: str) -> None:
    assert split_address(url) == (root, api)


async def test_an_api_that_lies_elsewhere_is_asked_there() -> None:
    scripted = server()
    scripted.answers["GET", "/api/paas/v4/models"] = (200, {"data": [{"id": KEY}]})
    scripted.answers["POST", "/api/paas/v4/chat/completions"] = (
        200,
        {"model": KEY, "choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]},
    )
    async with serve(scripted) as url, at(f"{url}/api/paas/v4") as provider:
        assert [model.id for model in await provider.list_models()] == [KEY]
        events, error = await ask(provider)
        passed = await provider.forward("/v1/chat/completions", b"{}")
        passed.close()

    assert (words(events), error, passed.status) == ("Hi.", None, 200)


@pytest.mark.parametrize("url", ["ftp://x", "", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadParameter):
        OpenAIProvider(ProviderConfig(name="x", kind="openai", base_url=url))


# -- requests ------------------------------------------------------------------------------------


async def test_the_token_goes_with_every_request_and_into_no_error() -> None:
    token = "sk-proj-0123456789abcdef"
    scripted = server(token=token)
    async with serve(scripted) as url:
        async with at(url) as provider:
            with pytest.raises(ProviderNeedsToken) as missing:
                await provider.list_models()
        async with at(url, token=SecretStr(token)) as provider:
            await provider.list_models()
            await ask(provider)
            scripted.chat_error = (400, {"error": {"message": f"Unhappy with {token}"}})
            _, error = await ask(provider)

    assert [a.headers.get("authorization") for a in scripted.asked] == [
        None,
        *[f"Bearer {token}"] * 3,
    ]
    assert "LM Desk's settings" in missing.value.hint
    assert error is not None
    assert "0123456789" not in error.message


async def test_a_model_that_wants_the_newer_word_for_its_limit_gets_it() -> None:
    scripted = server()

    class Strict(ScriptedLMStudio):
        async def _chat(self, body: dict[str, Any], watch: Any, send: Any) -> None:
            text = (
                "Unsupported parameter: 'max_tokens' is not supported with this model."
                " Use 'max_completion_tokens' instead."
            )
            refused = (400, {"error": {"message": text, "code": "unsupported_parameter"}})
            self.chat_error = refused if "max_tokens" in body else None
            await super()._chat(body, watch, send)

    scripted = Strict(profile="v1", models=[ScriptedModel(KEY)])
    async with serve(scripted) as url, at(url) as provider:
        events, error = await ask(provider, request(max_tokens=3))

    assert error is None
    assert isinstance(events[-1], Answered)
    first, second = (asked.body for asked in scripted.requests("/v1/chat/completions"))
    assert first["max_tokens"] == second["max_completion_tokens"] == 3
    assert "max_tokens" not in second


async def test_requests_pass_through_byte_for_byte_and_closing_them_ends_the_work() -> None:
    scripted = server(tokens=100_000, rate=200)
    body = b'{"model": "m",  "stream":true, "messages":[{"role":"user","content":"Hi"}]}'
    async with serve(scripted) as url, at(url) as provider:
        answer = await provider.forward("/v1/chat/completions", body)
        got = await answer.read()
        answer.close()
        await until(lambda: scripted.aborted == 1)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert got.startswith(b"data: ")


async def test_a_post_on_a_connection_the_server_has_just_closed_is_sent_again() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(head.split()[1])
        if len(asked) == 2:
            writer.transport.abort()  # once, on a connection that worked before
        elif head.startswith(b"GET"):
            writer.write(LISTED)
        else:
            writer.write(http_json({"data": [{"index": 0, "embedding": [1.0]}], "model": KEY}))

    asked: list[bytes] = []
    async with raw_server(handle) as url, at(url) as provider:
        await provider.list_models()
        assert (await provider.embed(KEY, ["a"])).vectors == ((1.0,),)

    assert asked == [b"/v1/models", b"/v1/embeddings", b"/v1/embeddings"]


# -- endings that are none -----------------------------------------------------------------------


Breaking = Callable[[asyncio.StreamWriter], None]


def cut(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def garble(writer: asyncio.StreamWriter) -> None:
    writer.write(b"zz not a chunk\r\n")


@pytest.mark.parametrize("breaking", [cut, reset, garble])
async def test_a_stream_that_breaks_off_keeps_what_was_said(breaking: Breaking) -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS_HEAD + http_chunk(chunk({"content": "Hel"})))
        await writer.drain()
        await heard.wait()
        breaking(writer)

    heard = asyncio.Event()
    async with (
        raw_server(handle) as url,
        at(url) as provider,
        aclosing(provider.stream_chat(request())) as events,
    ):
        assert await anext(events) == MessageDelta("Hel")
        heard.set()
        with pytest.raises(ProviderUnreachable):
            await anext(events)


async def test_an_error_in_the_stream_ends_it_with_its_words() -> None:
    scripted = server()
    broke = (
        b'data: {"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}\n\n'
    )
    scripted.frames = [chunk({"content": "Hel"}), broke]
    async with serve(scripted) as url, at(url) as provider:
        events, error = await ask(provider)

    assert words(events) == "Hel"
    assert type(error) is ProviderFailed
    assert "EngineCore died" in error.message


async def test_closing_an_answer_closes_its_connection_and_nothing_is_left_open() -> None:
    scripted = server(tokens=10_000, rate=200)
    async with serve(scripted) as url:
        async with at(url) as provider:
            async with aclosing(provider.stream_chat(request())) as events:
                async for event in events:
                    if isinstance(event, MessageDelta):
                        break
            await until(lambda: scripted.aborted == 1)
            await provider.aclose()
            assert await provider.list_models()  # opens anew
        del provider
        gc.collect()  # an open client would warn, and warnings are errors

    assert scripted.open == 0


async def test_a_hundred_answers_at_once_keep_their_words_to_themselves() -> None:
    scripted = server()
    scripted.frames = None
    scripted.tokens = 50
    async with serve(scripted) as url, at(url) as provider:
        answers = await asyncio.gather(*(ask(provider) for _ in range(100)))

    assert {words(events) for events, _ in answers} == {"".join(f"{n} " for n in range(50))}
    assert all(error is None for _, error in answers)


# -- a server no one here wrote, which breaks on demand --------------------------------------------


@pytest.fixture
def mock() -> Iterator[LLMock]:
    with LLMockServer() as running:
        yield LLMock(running)


async def test_the_foreign_mock_answers(mock: LLMock) -> None:
    mock.reply("Paris it is.", times=None)
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        assert await provider.list_models()
        events, error = await ask(provider)

    assert (words(events), error) == ("Paris it is.", None)


async def test_a_rate_limit_says_how_long_to_wait(mock: LLMock) -> None:
    mock.rate_limit(times=1, retry_after=2)
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        _, error = await ask(provider)

    assert isinstance(error, ProviderBusy)
    assert error.retry_after == 2.0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderRejected),
        (401, ProviderNeedsToken),
        (403, ProviderRejected),
        (500, ProviderFailed),
        (502, ProviderFailed),
        (503, ProviderBusy),
    ],
)
async def test_a_status_becomes_its_error(mock: LLMock, status: int, kind: type[DeskError]) -> None:
    mock.fail(status, times=None)
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        events, error = await ask(provider)

    assert (events, type(error)) == ([], kind)


async def test_a_prompt_too_long_is_called_that(mock: LLMock) -> None:
    mock.context_overflow()
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        _, error = await ask(provider)

    assert type(error) is ContextTooLong


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("disconnect", ProviderUnreachable),
        ("truncate", ProviderProtocolError),
        ("corrupt", ProviderProtocolError),
    ],
)
async def test_a_stream_that_is_not_whole_is_never_taken_for_an_answer(
    mock: LLMock, fault: str, kind: type[DeskError]
) -> None:
    mock.reply("one two three four five six", times=None)
    getattr(mock, fault)(after_chunks=2)
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        events, error = await ask(provider)

    assert type(error) is kind
    assert not any(isinstance(event, Answered) for event in events)


async def test_a_stalled_stream_can_be_stopped_at_once(mock: LLMock) -> None:
    mock.reply("one two three four five six", times=None)
    mock.stall(after_chunks=3, seconds=3)
    async with at(mock.base_url(), token=SecretStr("k")) as provider:
        events = provider.stream_chat(request())
        assert isinstance(await anext(events), MessageDelta)
        async with asyncio.timeout(2.5):
            await events.aclose()


async def test_the_usual_ending_is_read() -> None:
    scripted = server()
    scripted.frames = [chunk({"content": "Hi"}), *ending(KEY, 1)]
    async with serve(scripted) as url, at(url) as provider:
        events, error = await ask(provider)

    assert error is None
    assert isinstance(events[-1], Answered)
    assert (events[-1].output_tokens, events[-1].finish_reason) == (1, "stop")
