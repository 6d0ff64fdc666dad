"""Whatever is wrong at an address, every kind of provider says so in a sentence, and soon."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from core.chat import ChatMessage, ChatRequest
from core.diagnosis import diagnosed
from core.errors import (
    BadParameter,
    DeskError,
    ProviderNeedsToken,
    ProviderTimeout,
    ProviderUnreachable,
)
from core.models import ProviderKind
from core.ports import Embedder, Forwarder, ModelDownloader, ModelLoader, Provider
from core.providers import ProviderConfig
from infrastructure.providers.kinds import KINDS, build
from tests.ollama_server import ScriptedOllama
from tests.servers import ScriptedLMStudio
from tests.sockets import Asgi, Receive, Send, free_port, pages, raw_server, serve, until

pytestmark = pytest.mark.anyio

HEALTH_LIMIT = 3.9  # what core.watch waits for
NAME = "gpu-box"


def fixed(status: int, kind: str, body: bytes) -> Callable[[], AbstractAsyncContextManager[str]]:
    return lambda: serve(pages({}, other=(status, kind, body)))


@asynccontextmanager
async def refuses() -> AsyncGenerator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@asynccontextmanager
async def hangs() -> AsyncGenerator[str]:
    async def silent(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serve(silent) as url:
        yield url


@asynccontextmanager
async def hangs_up() -> AsyncGenerator[str]:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with raw_server(handle) as url:
        yield url


@asynccontextmanager
async def no_http() -> AsyncGenerator[str]:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    async with raw_server(handle) as url:
        yield url


JSON = "application/json"
HTML = b"<!doctype html><title>Router login</title><p>Hello"
BROKEN: dict[str, tuple[Callable[[], AbstractAsyncContextManager[str]], set[str]]] = {
    "refuses": (refuses, {"unreachable"}),
    "hangs": (hangs, {"unreachable"}),
    "hangs up": (hangs_up, {"unreachable"}),
    "no http": (no_http, {"wrong_server"}),
    "500": (fixed(500, JSON, b'{"error":"Internal"}'), {"error", "wrong_server"}),
    "502 page": (fixed(502, "text/html", b"<html>Bad Gateway</html>"), {"error", "wrong_server"}),
    "garbage": (fixed(200, JSON, b'{"data": [{"id": "m"'), {"error", "wrong_server"}),
    "other json": (fixed(200, JSON, b'{"hello":"world"}'), {"wrong_server"}),
    "html": (fixed(200, "text/html", HTML), {"wrong_server"}),
    "404": (fixed(404, JSON, b'{"detail":"Not Found"}'), {"wrong_server"}),
    "401": (fixed(401, JSON, b'{"error":{"message":"Who are you?"}}'), {"needs_token"}),
    "redirect": (fixed(301, "text/html", b""), {"error", "wrong_server"}),
}


@asynccontextmanager
async def provider_at(kind: ProviderKind, url: str) -> AsyncGenerator[Provider]:
    provider = build(ProviderConfig(name=NAME, kind=kind, base_url=url, timeout_seconds=3.0))
    try:
        yield provider
    finally:
        await provider.aclose()
        gc.collect()  # an open client would warn, and warnings are errors


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_broken_server_is_explained_in_time_under_its_name(
    kind: ProviderKind, broken: str
) -> None:
    server, states = BROKEN[broken]
    async with server() as url, provider_at(kind, url) as provider:
        started = time.monotonic()
        health = await provider.health()
        took = time.monotonic() - started

    # Its list is not all that a hub has: chats may still work.
    allowed = states | {"error"} if kind == "huggingface" else states
    assert health.state in allowed
    assert took < HEALTH_LIMIT
    assert (health.provider, health.kind, health.url) == (NAME, kind, url)
    assert health.message.endswith((".", ")")) or ": " in health.message
    assert NAME in health.message or url in health.message
    assert health.hint
    assert health.latency_ms is None or kind == "huggingface"


@pytest.mark.parametrize("broken", ["refuses", "hangs", "500", "html", "401"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_from_a_broken_server_is_an_error_and_never_an_answer(
    kind: ProviderKind, broken: str
) -> None:
    server, _ = BROKEN[broken]
    asked = ChatRequest(model_id="m", messages=(ChatMessage(role="user", content="Hi"),))
    async with server() as url, provider_at(kind, url) as provider:
        if broken == "hangs":  # an answer may take its time: it is for whoever waits to stop it
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await anext(provider.stream_chat(asked))
            with pytest.raises(ProviderTimeout):
                await provider.list_models()
            return
        with pytest.raises(DeskError) as failed:
            await anext(provider.stream_chat(asked))

    kinds = {"refuses": ProviderUnreachable, "401": ProviderNeedsToken}
    assert isinstance(failed.value, kinds.get(broken, DeskError))
    assert failed.value.message


@pytest.mark.parametrize("broken", ["hangs up", "502 page", "html", "401"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_broken_server_costs_no_sockets(kind: ProviderKind, broken: str) -> None:
    def connections() -> int:
        return len(psutil.Process().net_connections())

    server, _ = BROKEN[broken]
    before = connections()
    asked = ChatRequest(model_id="m", messages=(ChatMessage(role="user", content="Hi"),))
    async with server() as url, provider_at(kind, url) as provider:
        for _ in range(3):
            await provider.health()
            with pytest.raises(DeskError):
                await anext(provider.stream_chat(asked))

    await until(lambda: connections() <= before)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_doctor_has_a_word_for_every_kind(kind: ProviderKind) -> None:
    async with refuses() as url, provider_at(kind, url) as provider:
        diagnosis = await diagnosed(provider)

    assert (diagnosis.provider, diagnosis.kind, diagnosis.url) == (NAME, kind, url)
    assert diagnosis.state == "attention"
    assert diagnosis.message
    assert diagnosis.hint


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_sends_its_token_and_only_where_there_is_one(kind: ProviderKind) -> None:
    token = "hf_0123456789abcdef"
    studio, ollama = ScriptedLMStudio(), ScriptedOllama()
    app: Asgi = ollama if kind == "ollama" else studio
    async with serve(app) as url:
        for given in (None, SecretStr(token)):
            config = ProviderConfig(name=NAME, kind=kind, base_url=url, token=given)
            provider = build(config)
            await provider.list_models()
            await provider.aclose()

    asked = ollama.asked or studio.asked
    sent = [each.headers.get("authorization") for each in asked]
    assert set(sent) == {None, f"Bearer {token}"}
    assert sent == sorted(sent, key=lambda value: value is not None)


def test_what_cannot_be_configured_is_refused_in_words() -> None:
    with pytest.raises(BadParameter, match="cannot be configured"):
        build(ProviderConfig(name="x", kind="embedded", base_url="http://127.0.0.1:1"))
    for kind in KINDS:
        with pytest.raises(BadParameter):
            build(ProviderConfig(name="x", kind=kind, base_url="ftp://x"))
        with pytest.raises(BadParameter, match="token"):
            build(
                ProviderConfig(
                    name="x", kind=kind, base_url="http://x", token=SecretStr("über geheim")
                )
            )


CAN: dict[ProviderKind, set[type]] = {
    "lmstudio": {ModelLoader, ModelDownloader, Embedder, Forwarder},
    "ollama": {ModelLoader, ModelDownloader, Embedder, Forwarder},
    "llamacpp": {ModelLoader, Embedder, Forwarder},
    "openai": {Embedder, Forwarder},
    "huggingface": {Forwarder},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_kind_can_shows_in_its_protocols(kind: ProviderKind) -> None:
    async with provider_at(kind, "http://127.0.0.1:1") as provider:
        able = {
            port
            for port in (ModelLoader, ModelDownloader, Embedder, Forwarder)
            if isinstance(provider, port)
        }

    assert able == CAN[kind]
