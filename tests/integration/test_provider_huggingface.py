"""Hugging Face's router as a provider, scripted in the shapes of the real one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from core.chat import Answered, ChatMessage, ChatRequest
from core.errors import ProviderNeedsToken, ProviderRejected, ProviderUnreachable
from core.models import Capabilities
from core.ports import Embedder, Forwarder, ModelDownloader, ModelLoader
from core.providers import ProviderConfig, is_remote
from infrastructure.providers.huggingface.provider import HuggingFaceProvider
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, serve

pytestmark = pytest.mark.anyio

TOKEN = SecretStr("hf_abcdefghijklmnop")
KEY = "Qwen/Qwen3-32B"


def source(name: str, **more: Any) -> dict[str, Any]:
    known = {"provider": name, "status": "live", "is_model_author": False}
    return known | {"pricing": {"input": 0.1, "output": 0.4}} | more


def entry(name: str, *sources: dict[str, Any], sees: bool = False) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1754409279,
        "owned_by": name.partition("/")[0],
        "architecture": {
            "input_modalities": ["text", "image"] if sees else ["text"],
            "output_modalities": ["text"],
        },
        "providers": list(sources),
    }


LISTING = {
    "object": "list",
    "data": [
        entry(
            KEY,
            source("groq", context_length=131072, supports_tools=True),
            source("cerebras", context_length=40960, supports_tools=True),
            source("gone", status="error", context_length=512),
        ),
        entry(
            "google/gemma-3-27b-it",
            source("nebius", context_length=110000, supports_tools=False),
            source("scaleway", supports_tools=True),
            sees=True,
        ),
        entry("nobody/serves-this", source("x", status="staging")),
    ],
}


def router(listing: Any = LISTING, status: int = 200) -> ScriptedLMStudio:
    scripted = ScriptedLMStudio(profile="v1", models=[ScriptedModel(KEY)])
    scripted.answers["GET", "/v1/models"] = (status, listing)
    return scripted


@asynccontextmanager
async def at(url: str, *, token: SecretStr | None = TOKEN) -> AsyncGenerator[HuggingFaceProvider]:
    config = ProviderConfig(
        name="huggingface", kind="huggingface", base_url=f"{url}/v1", token=token, remote=True
    )
    provider = HuggingFaceProvider(config)
    try:
        yield provider
    finally:
        await provider.aclose()


async def test_it_can_what_it_says_it_can() -> None:
    async with at("http://127.0.0.1:1") as provider:
        assert isinstance(provider, Forwarder)
        for cannot in (Embedder, ModelLoader, ModelDownloader):
            assert not isinstance(provider, cannot)
    assert is_remote("huggingface", "http://127.0.0.1:1")


async def test_the_list_holds_what_is_served_with_what_all_who_serve_it_can() -> None:
    async with serve(router()) as url, at(url) as provider:
        qwen, gemma = await provider.list_models()
        health = await provider.health()

    assert (qwen.id, qwen.name, qwen.publisher) == (KEY, "Qwen3-32B", "Qwen")
    assert (qwen.context_length, qwen.loadable) == (40960, False)
    assert qwen.capabilities == Capabilities(vision=False, tools=True)
    assert qwen.metadata == {"run by": "groq, cerebras"}
    assert gemma.capabilities == Capabilities(vision=True, tools=None)
    assert (health.state, health.message) == ("ready", "Hugging Face is ready with 2 models.")


async def test_a_list_without_a_token_is_shown_and_said_to_need_one() -> None:
    async with serve(router()) as url, at(url, token=None) as provider:
        models = await provider.list_models()
        health = await provider.health()

    assert len(models) == 2
    assert health.state == "needs_token"
    assert health.message == "Hugging Face lists 2 models, and answers only with a token."
    assert "huggingface.co/settings/tokens" in health.hint


@pytest.mark.parametrize(
    ("status", "listing"), [(500, {"error": "Internal"}), (429, {"error": "Slow down"}), (200, "?")]
)
async def test_a_list_that_cannot_be_read_is_replaced_by_a_known_one_that_says_so(
    status: int, listing: Any
) -> None:
    scripted = router(listing, status)
    async with serve(scripted) as url, at(url) as provider:
        models = await provider.list_models()
        health = await provider.health()
        scripted.answers["GET", "/v1/models"] = (200, LISTING)
        after = await provider.list_models()
        recovered = await provider.health()

    assert len(models) > 5
    assert all("not known" in model.metadata["list"] for model in models)
    assert not any(model.loadable for model in models)
    assert health.state == "error"
    assert health.message.startswith("Hugging Face's list of models cannot be read: ")
    assert "offered instead" in health.hint
    assert (len(after), recovered.state) == (2, "ready")


async def test_without_the_internet_nothing_is_pretended() -> None:
    async with at(f"http://127.0.0.1:{free_port()}") as provider:
        health = await provider.health()
        with pytest.raises(ProviderUnreachable):
            await provider.list_models()

    assert health.state == "unreachable"
    assert "internet" in health.hint


async def test_a_wrong_token_is_asked_for_and_never_repeated() -> None:
    refused = {"error": f"Invalid token {TOKEN.get_secret_value()}"}
    async with serve(router(refused, 401)) as url, at(url) as provider:
        with pytest.raises(ProviderNeedsToken) as wrong:
            await provider.list_models()
        health = await provider.health()

    assert health.state == "needs_token"
    assert "abcdefgh" not in f"{wrong.value.message}{wrong.value.hint}{health}"


async def test_an_answer_comes_over_the_router_and_spent_credits_are_said() -> None:
    scripted = router()
    asked = ChatRequest(model_id=KEY, messages=(ChatMessage(role="user", content="Hi"),))
    async with serve(scripted) as url, at(url) as provider:
        events = [event async for event in provider.stream_chat(asked)]
        scripted.chat_error = (402, {"error": "You have exceeded your monthly included credits"})
        with pytest.raises(ProviderRejected, match="monthly included credits"):
            await anext(provider.stream_chat(asked))

    assert isinstance(events[-1], Answered)
    assert events[-1].model_id == KEY
    assert scripted.requests("/v1/chat/completions")[0].headers["authorization"].endswith("mnop")
