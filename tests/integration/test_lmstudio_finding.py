"""What the provider finds at an address, and the lists it makes of it."""

import time

import orjson
import pytest
from pydantic import SecretStr

from core.errors import (
    BadParameter,
    ProviderNeedsToken,
    ProviderProtocolError,
    ProviderUnreachable,
)
from core.models import Capabilities, Instance
from core.ports import ModelLoader, Provider
from infrastructure.providers.lmstudio import LMStudioProvider
from tests.servers import TOKEN, ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, pages, raw_server, serve

pytestmark = pytest.mark.anyio

HTML = (200, "text/html; charset=utf-8", b"<!doctype html><title>My Router</title><p>Hello")
NOT_FOUND = (404, "application/json", b'{"detail":"Not Found"}')


def json_page(body: object, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", orjson.dumps(body)


async def test_the_adapter_is_a_provider_that_loads() -> None:
    provider = LMStudioProvider("lm", "http://127.0.0.1:1")
    as_provider: Provider = provider

    assert isinstance(provider, ModelLoader)
    assert (as_provider.name, as_provider.kind) == ("lm", "lmstudio")


@pytest.mark.parametrize(
    ("profile", "flavour"), [("0.4", "api/v1"), ("0.3", "api/v0"), ("v1", "v1")]
)
async def test_the_api_is_detected_by_the_shape_of_its_lists(profile: str, flavour: str) -> None:
    lm = ScriptedLMStudio(profile=profile)  # type: ignore[arg-type]
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        models = await provider.list_models()
        await provider.aclose()

    assert (health.state, health.flavour, health.url) == ("ready", flavour, url)
    assert health.latency_ms is not None
    assert [model.id for model in models] == ["qwen/qwen3-4b", "text-embedding-nomic"]
    assert [model.kind for model in models] == ["llm", "embedding"]
    assert [model.loadable for model in models] == [profile != "v1"] * 2


async def test_detection_is_done_once() -> None:
    lm = ScriptedLMStudio(profile="0.3")
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        for _ in range(3):
            await provider.health()
        await provider.aclose()

    assert len(lm.requests("/lmstudio-greeting")) == 1
    assert len(lm.requests("/api/v1/models")) == 1


async def test_a_server_that_went_away_and_came_back_newer_is_detected_anew() -> None:
    port = free_port()
    provider = LMStudioProvider("lm", f"http://127.0.0.1:{port}")
    async with serve(ScriptedLMStudio(profile="0.3"), port=port):
        first = await provider.health()
    gone = await provider.health()
    async with serve(ScriptedLMStudio(profile="0.4"), port=port):
        second = await provider.health()
    await provider.aclose()

    assert [h.state for h in (first, gone, second)] == ["ready", "unreachable", "ready"]
    assert [h.flavour for h in (first, gone, second)] == ["api/v0", None, "api/v1"]


async def test_a_route_that_vanishes_is_looked_for_again() -> None:
    lm = ScriptedLMStudio(profile="0.4")
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        await provider.list_models()
        lm.profile = "0.3"

        assert len(await provider.list_models()) == 2
        assert (await provider.health()).flavour == "api/v0"
        await provider.aclose()


async def test_a_list_of_0_4_says_everything_it_knows() -> None:
    model = ScriptedModel(
        "qwen/qwen3-4b", instances={"qwen/qwen3-4b": 8192, "qwen/qwen3-4b:2": 16384}
    )
    async with serve(ScriptedLMStudio(models=[model])) as url:
        provider = LMStudioProvider("lm", url)
        (listed,) = await provider.list_models()
        await provider.aclose()

    assert listed.full_name == "lm:qwen/qwen3-4b"
    assert (listed.name, listed.state, listed.loaded) == ("QWEN3-4B", "loaded", True)
    assert listed.instances == (
        Instance(id="qwen/qwen3-4b", context_length=8192),
        Instance(id="qwen/qwen3-4b:2", context_length=16384),
    )
    assert (listed.size_bytes, listed.quantization, listed.parameters) == (
        500_000_000,
        "Q4_K_M",
        "4B",
    )
    assert (listed.context_length, listed.format, listed.publisher) == (32768, "gguf", "somebody")
    assert listed.capabilities == Capabilities(vision=False, tools=True)


async def test_further_instances_of_0_3_are_folded_into_their_model() -> None:
    model = ScriptedModel("qwen", instances={"qwen:2": 16384})
    async with serve(ScriptedLMStudio(profile="0.3", models=[model])) as url:
        provider = LMStudioProvider("lm", url)
        (listed,) = await provider.list_models()
        await provider.aclose()

    assert (listed.id, listed.state) == ("qwen", "loaded")
    assert listed.instances == (Instance(id="qwen:2", context_length=16384),)
    assert listed.capabilities.tools is True


async def test_a_nicety_of_an_unknown_shape_does_not_cost_the_list() -> None:
    entry = {
        "key": "m",
        "type": "llm",
        "quantization": "Q4",
        "size_bytes": "big",
        "capabilities": [],
        "loaded_instances": [{"id": "m", "config": {"context_length": "many"}}],
    }
    lm = ScriptedLMStudio()
    lm.answers["GET", "/api/v1/models"] = (200, {"models": [entry, {"key": "i", "type": "image"}]})
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        (listed,) = await provider.list_models()
        await provider.aclose()

    assert (listed.quantization, listed.size_bytes) == (None, None)
    assert listed.instances == (Instance(id="m"),)


async def test_a_list_of_a_wrong_shape_is_an_error_in_a_sentence() -> None:
    lm = ScriptedLMStudio(profile="v1")
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        await provider.list_models()
        lm.answers["GET", "/v1/models"] = (200, {"data": [{"name": "no id"}]})

        with pytest.raises(ProviderProtocolError, match="list of models"):
            await provider.list_models()
        assert (await provider.health()).state == "error"
        await provider.aclose()


async def test_a_server_without_models_is_told_from_one_that_is_broken() -> None:
    async with serve(ScriptedLMStudio(models=[])) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        await provider.aclose()

    assert health.state == "no_models"
    assert "lms get" in health.hint


async def test_where_nothing_listens_the_hint_says_how_to_start() -> None:
    provider = LMStudioProvider("lm", f"http://127.0.0.1:{free_port()}/v1")

    health = await provider.health()
    with pytest.raises(ProviderUnreachable):
        await provider.list_models()
    await provider.aclose()

    assert health.state == "unreachable"
    assert "lms server start" in health.hint


async def test_the_engine_is_not_called_lm_studio() -> None:
    provider = LMStudioProvider("desk", f"http://127.0.0.1:{free_port()}", kind="embedded")

    health = await provider.health()
    await provider.aclose()

    assert health.message.startswith("The built-in engine")
    assert "LM Studio" not in health.message + health.hint


async def test_a_server_that_accepts_and_never_answers_is_given_up_in_time() -> None:
    async def silent(head: bytes, writer: object) -> None:
        return None

    async with raw_server(silent) as url:
        provider = LMStudioProvider("lm", url)
        started = time.monotonic()
        health = await provider.health()
        await provider.aclose()

    assert health.state == "unreachable"
    assert time.monotonic() - started < 5


# -- tokens --------------------------------------------------------------------------------------


async def test_a_missing_token_is_asked_for_and_no_older_api_is_tried() -> None:
    lm = ScriptedLMStudio(token=TOKEN)
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        with pytest.raises(ProviderNeedsToken):
            await provider.list_models()
        await provider.aclose()

    assert health.state == "needs_token"
    assert not lm.requests("/api/v0/models")
    assert not lm.requests("/v1/models")
    assert all("authorization" not in asked.headers for asked in lm.asked)


async def test_a_wrong_token_is_never_repeated_not_even_in_part() -> None:
    async with serve(ScriptedLMStudio(token=TOKEN)) as url:
        provider = LMStudioProvider("lm", url, token=SecretStr("sk-secret-value"))
        health = await provider.health()
        with pytest.raises(ProviderNeedsToken) as caught:
            await provider.list_models()
        await provider.aclose()

    told = health.message + health.hint + str(caught.value) + repr(provider.__dict__)
    assert "sk-" not in told
    assert "secret" not in told


async def test_the_right_token_opens_the_server() -> None:
    async with serve(ScriptedLMStudio(token=TOKEN)) as url:
        provider = LMStudioProvider("lm", url, token=SecretStr(f" {TOKEN}\n"))
        assert (await provider.health()).state == "ready"
        await provider.aclose()


async def test_an_empty_token_is_none() -> None:
    lm = ScriptedLMStudio()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url, token=SecretStr("  "))
        await provider.list_models()
        await provider.aclose()

    assert all("authorization" not in asked.headers for asked in lm.asked)


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown() -> None:
    with pytest.raises(BadParameter) as caught:
        LMStudioProvider("lm", "http://x", token=SecretStr("two\nlines"))

    assert "two" not in caught.value.message


async def test_a_token_does_not_follow_a_redirect() -> None:
    elsewhere = ScriptedLMStudio()

    async with serve(elsewhere) as other:

        async def redirect(head: bytes, writer: object) -> None:
            answer = f"HTTP/1.1 302 Found\r\nLocation: {other}/x\r\nContent-Length: 0\r\n\r\n"
            writer.write(answer.encode())  # type: ignore[attr-defined]

        async with raw_server(redirect) as url:
            provider = LMStudioProvider("lm", url, token=SecretStr(TOKEN))
            health = await provider.health()
            await provider.aclose()

    assert health.state == "wrong_server"
    assert not elsewhere.asked


# -- strangers -----------------------------------------------------------------------------------

MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "?"}]}


def owned_by(owner: str) -> tuple[int, str, bytes]:
    return json_page({"object": "list", "data": [{"id": "m", "owned_by": owner}]})


@pytest.mark.parametrize(
    ("routes", "other", "name"),
    [
        ({"/v1/models": owned_by("library")}, NOT_FOUND, "Ollama"),
        (
            {
                "/": (200, "text/plain", b"Ollama is running"),
                "/v1/models": json_page({"object": "list", "data": None}),
            },
            NOT_FOUND,
            "Ollama",
        ),
        ({"/v1/models": owned_by("llamacpp")}, NOT_FOUND, "llama-server"),
        (
            {
                "/props": json_page({"default_generation_settings": {}}),
                "/v1/models": json_page(
                    {"error": {"code": 503, "message": "Loading model"}}, status=503
                ),
            },
            NOT_FOUND,
            "llama-server",
        ),
        ({"/v1/models": owned_by("vllm")}, NOT_FOUND, "vLLM"),
        ({}, HTML, "My Router"),
        ({}, (500, "text/html", b"<!DOCTYPE html><pre>Internal Server Error</pre>"), "web page"),
        ({}, NOT_FOUND, "Another program"),
        ({}, json_page({}), "Another program"),
    ],
)
async def test_a_stranger_is_named(
    routes: dict[str, tuple[int, str, bytes]], other: tuple[int, str, bytes], name: str
) -> None:
    async with serve(pages(routes, other=other)) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        with pytest.raises(ProviderProtocolError):
            await provider.list_models()
        await provider.aclose()

    assert health.state == "wrong_server"
    assert name in health.message
    assert health.hint


async def test_something_that_does_not_speak_http_is_a_wrong_server() -> None:
    async def ssh(head: bytes, writer: object) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")  # type: ignore[attr-defined]

    async with raw_server(ssh) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        await provider.aclose()

    assert health.state == "wrong_server"


async def test_an_unknown_openai_server_is_used_for_what_it_can_do() -> None:
    async with serve(pages({"/v1/models": json_page(MODELS)}, other=NOT_FOUND)) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        await provider.aclose()

    assert (health.state, health.flavour) == ("ready", "v1")


async def test_a_server_that_answers_everything_with_200_and_an_error_is_not_ready() -> None:
    quirk = json_page({"error": "Unexpected endpoint or method. (GET /x)"})
    async with serve(pages({}, other=quirk)) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        await provider.aclose()

    assert health.state == "wrong_server"


async def test_a_greeting_server_with_internal_errors_is_an_error_and_no_stranger() -> None:
    broken = (500, "text/html", b"<!DOCTYPE html><pre>Internal Server Error</pre>")
    greeting = {"/lmstudio-greeting": json_page({"lmstudio": True})}
    async with serve(pages(greeting, other=broken)) as url:
        provider = LMStudioProvider("lm", url)
        health = await provider.health()
        await provider.aclose()

    assert health.state == "error"
