"""The provider against the real engine, with models that llama.cpp really runs."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from core.chat import (
    Answered,
    ChatEvent,
    ChatMessage,
    ChatRequest,
    MessageDelta,
    Parameters,
    ReasoningDelta,
)
from core.errors import DeskError, LoadFailed, NotEnoughMemory, NotLoadable
from core.models import Loaded, LoadEvent, LoadOptions, LoadProgress
from infrastructure.providers.lmstudio import LMStudioProvider
from tests import tinygguf
from tests.engine_fixture import RunningEngine, start_engine, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

TOKEN = "sk-lm-abcdefgh:" + "0123456789" * 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.thinker(folder / "thinker.gguf")
    tinygguf.embedder(folder / "embed.gguf")
    tinygguf.endless(folder / "slow.gguf", ballast_mib=96, name="slow")
    tinygguf.big(folder / "big.gguf", 0.5)
    tinygguf.truncated(folder / "truncated.gguf")
    return folder


@asynccontextmanager
async def engine_with(
    models: Path, *, token: str | None = None, **options: Any
) -> AsyncGenerator[tuple[RunningEngine, LMStudioProvider]]:
    async with start_engine(models, token=token, **options) as engine:
        secret = SecretStr(token) if token else None
        provider = LMStudioProvider("desk", engine.url, token=secret, kind="embedded")
        try:
            yield engine, provider
        finally:
            await provider.aclose()


async def load(
    provider: LMStudioProvider, model_id: str, **options: Any
) -> tuple[list[LoadProgress], Loaded]:
    events: list[LoadEvent] = []
    async with aclosing(provider.load_model(model_id, LoadOptions(**options))) as stream:
        async for event in stream:
            events.append(event)
    assert isinstance(events[-1], Loaded)
    return [event for event in events if isinstance(event, LoadProgress)], events[-1]


def ask(model_id: str, **parameters: Any) -> ChatRequest:
    messages = (ChatMessage(role="user", content="Hi."),)
    return ChatRequest(model_id=model_id, messages=messages, parameters=Parameters(**parameters))


async def test_a_model_is_listed_loaded_with_real_progress_asked_and_unloaded(models: Path) -> None:
    async with engine_with(models) as (engine, provider):
        health = await provider.health()
        listed = {model.id: model for model in await provider.list_models()}
        progress, loaded = await load(provider, "big", context_length=2048)
        after = {model.id: model for model in await provider.list_models()}
        events = [event async for event in provider.stream_chat(ask("big"))]
        await provider.unload_instance(loaded.instance.id)
        end = {model.id: model for model in await provider.list_models()}

    assert (health.state, health.flavour) == ("ready", "api/v1")
    assert listed["embed"].kind == "embedding"
    assert not listed["big"].loaded
    fractions = [event.fraction for event in progress]
    assert all(event.exact for event in progress)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 5
    assert fractions[-1] == 1.0
    assert loaded.instance.context_length == 2048
    assert after["big"].instances == (loaded.instance,)
    text = "".join(event.content for event in events if isinstance(event, MessageDelta))
    assert text == tinygguf.HELLO_TEXT
    last = events[-1]
    assert isinstance(last, Answered)
    assert (last.finish_reason, last.model_id) == ("stop", "big")
    assert last.input_tokens
    assert last.output_tokens
    assert not end["big"].loaded
    assert not engine.children()


async def test_thinking_arrives_as_thinking(models: Path) -> None:
    async with engine_with(models) as (_, provider):
        await load(provider, "thinker")
        events = [event async for event in provider.stream_chat(ask("thinker"))]

    thinking = "".join(event.content for event in events if isinstance(event, ReasoningDelta))
    answer = "".join(event.content for event in events if isinstance(event, MessageDelta))
    assert (thinking.strip(), answer) == ("The user wants an answer.", "It is 42!")


async def test_a_stopped_answer_leaves_the_model_idle_and_loaded(models: Path) -> None:
    async with engine_with(models) as (engine, provider):
        _, loaded = await load(provider, "slow")
        (child,) = engine.children()
        said: list[ChatEvent] = []
        async with aclosing(provider.stream_chat(ask("slow", max_tokens=1_000_000))) as events:
            async for event in events:
                said.append(event)
                if len(said) == 5:
                    break
        process = psutil.Process(child)
        await wait_until(lambda: process.cpu_percent(interval=0.3) < 10)
        listed = {model.id: model for model in await provider.list_models()}

    assert listed["slow"].instances == (loaded.instance,)


async def test_a_model_that_is_killed_keeps_what_it_said_and_says_that_it_crashed(
    models: Path,
) -> None:
    async with engine_with(models) as (engine, provider):
        await load(provider, "slow")
        said: list[ChatEvent] = []
        error: DeskError | None = None
        try:
            async for event in provider.stream_chat(ask("slow", max_tokens=1_000_000)):
                said.append(event)
                if len(said) == 5:
                    for child in engine.children():
                        os.kill(child, signal.SIGKILL)
        except DeskError as raised:
            error = raised
        health = await provider.health()

    assert len(said) >= 5
    assert error is not None
    assert error.code == "model_crashed"
    assert health.state == "ready"


async def test_an_embedder_is_loaded_too(models: Path) -> None:
    async with engine_with(models) as (_, provider):
        _, loaded = await load(provider, "embed")
        listed = {model.id: model for model in await provider.list_models()}

    assert listed["embed"].instances == (loaded.instance,)


async def test_a_damaged_file_fails_with_a_reason(models: Path) -> None:
    async with engine_with(models) as (engine, provider):
        with pytest.raises(LoadFailed) as caught:
            await load(provider, "truncated")

        assert "This file is damaged: the file is incomplete" in caught.value.message
        assert not engine.children()


async def test_a_model_that_does_not_fit_is_refused_as_such(models: Path) -> None:
    async with engine_with(models, memory_budget=100_000_000) as (_, provider):
        with pytest.raises(NotEnoughMemory):
            await load(provider, "big")


async def test_closing_a_load_ends_it_in_the_engine(models: Path) -> None:
    async with engine_with(models) as (engine, provider):
        async with aclosing(provider.load_model("big", LoadOptions())) as events:
            await anext(events)
        await wait_until(lambda: not engine.children())
        listed = {model.id: model for model in await provider.list_models()}

    assert not listed["big"].loaded


async def test_an_older_engine_loads_and_unloads_as_far_as_it_can(models: Path) -> None:
    async with engine_with(models, profile="0.3") as (engine, provider):
        health = await provider.health()
        progress, loaded = await load(provider, "parrot")
        if all(event.exact for event in progress):  # over its WebSocket
            await provider.unload_instance(loaded.instance.id)
            assert not engine.children()
        else:
            with pytest.raises(NotLoadable):
                await provider.unload_instance(loaded.instance.id)

    assert health.flavour == "api/v0"
    assert progress
    assert loaded.instance.context_length


async def test_a_token_opens_the_engine_and_none_is_asked_for_one(models: Path) -> None:
    async with engine_with(models, token=TOKEN) as (engine, provider):
        without = LMStudioProvider("desk", engine.url, kind="embedded")
        states = [(await provider.health()).state, (await without.health()).state]
        await load(provider, "parrot")
        await without.aclose()

    assert states == ["ready", "needs_token"]
