"""llama-server as a provider: the real binary, with one model and as a router."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.chat import Answered, ChatMessage, ChatRequest, MessageDelta, Parameters, PromptProgress
from core.errors import (
    BadParameter,
    LoadFailed,
    ModelNotFound,
    NotLoadable,
    ProviderNeedsToken,
    ProviderRejected,
    ProviderUnreachable,
    UnloadUnproven,
)
from core.models import Instance, Loaded, LoadEvent, LoadOptions, LoadProgress, ModelInfo
from core.ports import BusyTeller, Embedder, Forwarder, ModelDownloader, ModelLoader, TokenCounter
from core.providers import ProviderConfig
from infrastructure.providers.llamacpp import loading
from infrastructure.providers.llamacpp.provider import LlamaServerProvider
from tests import tinygguf
from tests.llama_server import llama_server
from tests.router_server import ScriptedRouter
from tests.sockets import free_port, pages, serve, until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

HI = (ChatMessage(role="user", content="Hi"),)


@asynccontextmanager
async def at(url: str, **more: Any) -> AsyncGenerator[LlamaServerProvider]:
    config = ProviderConfig(name="llamacpp", kind="llamacpp", base_url=url, **more)
    provider = LlamaServerProvider(config)
    try:
        yield provider
    finally:
        await provider.aclose()


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.endless(folder / "endless.gguf")
    tinygguf.corrupt(folder / "broken.gguf")
    tinygguf.big(folder / "big.gguf", 1)
    return folder


@asynccontextmanager
async def router(
    models_dir: Path, *arguments: str, **more: Any
) -> AsyncGenerator[LlamaServerProvider]:
    command = ("--models-dir", str(models_dir), "-c", "1024", "-np", "2", *arguments)
    async with llama_server(*command) as url, at(url, **more) as provider:
        yield provider


async def load(provider: LlamaServerProvider, model_id: str) -> list[LoadEvent]:
    return [event async for event in provider.load_model(model_id, LoadOptions())]


async def find(provider: LlamaServerProvider, model_id: str) -> ModelInfo:
    return next(model for model in await provider.list_models() if model.id == model_id)


def request(model_id: str, **parameters: Any) -> ChatRequest:
    return ChatRequest(model_id=model_id, messages=HI, parameters=Parameters(**parameters))


async def test_it_can_what_it_says_it_can() -> None:
    async with at("http://127.0.0.1:1") as provider:
        for can in (ModelLoader, Embedder, Forwarder, BusyTeller, TokenCounter):
            assert isinstance(provider, can)
        assert not isinstance(provider, ModelDownloader)


# -- one model -----------------------------------------------------------------------------------


async def test_a_server_of_one_model_lists_it_loaded_and_not_loadable(models_dir: Path) -> None:
    path = models_dir / "parrot.gguf"
    command = ("-m", str(path), "-c", "1024", "-np", "2")
    async with llama_server(*command) as url, at(url) as provider:
        (model,) = await provider.list_models()
        health = await provider.health()

        assert (model.name, model.format, model.quantization) == ("parrot", "gguf", "F32")
        assert (model.state, model.loadable) == ("loaded", False)
        assert model.size_bytes is not None
        assert abs(model.size_bytes - path.stat().st_size) < 100_000
        assert model.parameters is not None
        assert model.instances == (Instance(id=model.id, context_length=512),)
        assert (model.context_length, model.capabilities.vision) == (4096, False)
        assert (health.state, health.flavour) == ("ready", "one model")
        with pytest.raises(NotLoadable):
            await provider.unload_instance(model.id)
        assert [event.kind for event in await load(provider, model.id)] == ["loaded"]


async def test_an_answer_comes_with_the_progress_of_its_prompt(models_dir: Path) -> None:
    command = ("-m", str(models_dir / "parrot.gguf"), "-c", "1024", "--alias", "polly")
    async with llama_server(*command) as url, at(url) as provider:
        events = [event async for event in provider.stream_chat(request("polly"))]
        tokens = await provider.count_tokens("polly", "Hello there")
        vectors = provider.embed("polly", ["a"])
        with pytest.raises(ProviderRejected, match="embeddings"):
            await vectors

    assert any(isinstance(event, PromptProgress) and event.fraction == 1.0 for event in events)
    said = "".join(event.content for event in events if isinstance(event, MessageDelta))
    assert said == tinygguf.HELLO_TEXT
    assert isinstance(events[-1], Answered)
    assert (events[-1].finish_reason, events[-1].model_id) == ("stop", "polly")
    assert events[-1].raw_stats is not None
    assert "predicted_per_second" in events[-1].raw_stats["timings"]
    assert tokens is not None
    assert tokens > 0


async def test_a_model_that_is_still_loading_is_starting_and_not_broken() -> None:
    loading = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    app = pages({}, other=(503, "application/json", loading))
    async with serve(app) as url, at(url) as provider:
        health = await provider.health()

    assert (health.state, health.message) == (
        "starting",
        "llama-server is still loading its model.",
    )


async def test_the_public_list_does_not_hide_that_a_key_is_missing(models_dir: Path) -> None:
    key = "k-0123456789"
    command = ("-m", str(models_dir / "parrot.gguf"), "--api-key", key)
    async with llama_server(*command) as url:
        async with at(url) as provider:
            health = await provider.health()
            with pytest.raises(ProviderNeedsToken):
                await anext(provider.stream_chat(request("parrot")))
        async with at(url, token=SecretStr(key)) as provider:
            assert (await provider.health()).state == "ready"

    assert health.state == "needs_token"
    assert "--api-key" in health.hint


# -- a router ------------------------------------------------------------------------------------


async def test_a_router_loads_with_true_progress_and_unloads_proved(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        before = await provider.list_models()
        events = await load(provider, "big")
        loaded = await find(provider, "big")
        health = await provider.health()
        again = await load(provider, "big")
        await provider.unload_instance("big")
        gone = await find(provider, "big")
        await provider.unload_instance("big")

    assert {model.id for model in before} == {"parrot", "endless", "broken", "big"}
    assert not any(model.loaded for model in before)
    assert all(model.loadable for model in before)
    exact = [event for event in events if isinstance(event, LoadProgress) and event.exact]
    assert exact
    assert exact[-1].stage == "reading weights"
    assert [event.fraction for event in exact] == sorted(event.fraction for event in exact)
    assert isinstance(events[-1], Loaded)
    assert events[-1].instance == Instance(id="big", context_length=512)
    assert (loaded.state, loaded.instances) == ("loaded", (events[-1].instance,))
    assert loaded.size_bytes is not None
    assert (health.flavour, health.state) == ("router", "ready")
    assert [event.kind for event in again] == ["loaded"]
    assert gone.state == "not-loaded"


async def test_a_file_that_is_broken_fails_its_load_with_the_exit_code(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        with pytest.raises(LoadFailed, match="ended with code"):
            await load(provider, "broken")
        assert (await find(provider, "broken")).state == "not-loaded"


async def test_an_unknown_name_and_unknown_options_load_nothing(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        with pytest.raises(ModelNotFound) as unknown:
            await load(provider, "parot")
        with pytest.raises(BadParameter, match="context length"):
            await anext(provider.load_model("parrot", LoadOptions(context_length=2048)))
        assert not any(model.loaded for model in await provider.list_models())

    assert unknown.value.candidates == ("llamacpp:parrot",)


async def test_a_load_that_is_given_up_is_ended_at_the_server(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        async with aclosing(provider.load_model("big", LoadOptions())) as events:
            async for event in events:
                assert isinstance(event, LoadProgress)
                break
        assert (await find(provider, "big")).state == "not-loaded"

        task = asyncio.create_task(load(provider, "big"))
        while (await find(provider, "big")).state == "not-loaded":
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await find(provider, "big")).state == "not-loaded"


async def test_two_who_load_the_same_get_the_same_one(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        ends = await asyncio.gather(load(provider, "parrot"), load(provider, "parrot"))

    assert ends[0][-1].kind == ends[1][-1].kind == "loaded"


async def test_what_a_model_does_is_told_and_closing_an_answer_stops_it(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        await load(provider, "endless")
        idle = await provider.processing("endless")
        async with aclosing(provider.stream_chat(request("endless"))) as events:
            async for event in events:
                if isinstance(event, MessageDelta):
                    break
            busy = await provider.processing("endless")
        stopped = asyncio.Event()

        async def watch() -> None:
            while (now := await provider.processing("endless")) is None or now.status != "idle":
                await asyncio.sleep(0.02)
            stopped.set()

        watching = asyncio.create_task(watch())
        await until(stopped.is_set)
        await watching

    assert idle is not None
    assert busy is not None
    assert (idle.status, busy.status) == ("idle", "generating")


async def test_requests_pass_through_as_they_are(models_dir: Path) -> None:
    async with router(models_dir) as provider:
        body = b'{"model":"parrot","messages":[{"role":"user","content":"Hi"}]}'
        answer = await provider.forward("/v1/chat/completions", body)
        got = b""
        while chunk := await answer.read():
            got += chunk
        answer.close()

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert tinygguf.HELLO_TEXT.encode() in got


async def test_a_router_makes_vectors_with_a_model_set_up_for_it(tmp_path: Path) -> None:
    tinygguf.embedder(tmp_path / "vec.gguf")
    preset = tmp_path / "preset.ini"
    preset.write_text(f"[vec]\nmodel = {tmp_path / 'vec.gguf'}\nembeddings = true\n")
    async with llama_server("--models-preset", str(preset)) as url, at(url) as provider:
        (model,) = await provider.list_models()
        vectors = await provider.embed("vec", ["a", "b", "a"])

    assert model.kind == "embedding"
    assert vectors.vectors[0] == vectors.vectors[2] != vectors.vectors[1]


# -- a router on a bad day -----------------------------------------------------------------------


def step(current: str, value: float) -> dict[str, Any]:
    progress = {"stages": ["text_model", "mmproj_model"], "current": current, "value": value}
    return {"status": "loading", "progress": progress}


async def test_the_stages_of_a_load_make_one_progress() -> None:
    scripted = ScriptedRouter(
        events=[step("text_model", 0.5), step("text_model", 1.0), step("mmproj_model", 0.5)]
    )
    scripted.may_load.clear()
    events: list[LoadEvent] = []
    async with serve(scripted) as url, at(url) as provider:
        async for event in provider.load_model("m", LoadOptions()):
            events.append(event)
            if isinstance(event, LoadProgress) and event.fraction == 0.75:
                scripted.may_load.set()
        model = await find(provider, "m")

    exact = [event for event in events if isinstance(event, LoadProgress) and event.exact]
    assert [(event.fraction, event.stage) for event in exact] == [
        (0.25, "reading weights"),
        (0.5, "reading weights"),
        (0.75, "reading the projector"),
    ]
    assert isinstance(events[-1], Loaded)
    assert events[-1].instance.context_length == 2048
    assert model.capabilities.vision is True


async def test_a_router_without_the_stream_is_followed_by_its_list_with_an_estimate() -> None:
    scripted = ScriptedRouter()
    async with serve(scripted) as url, at(url) as provider:
        events = await load(provider, "m")

    assert events[-1].kind == "loaded"
    assert len(events) > 1
    assert not any(event.exact for event in events if isinstance(event, LoadProgress))


async def test_what_another_is_loading_already_is_only_watched() -> None:
    scripted = ScriptedRouter(events=[])
    scripted.state = "loading"
    async with serve(scripted) as url, at(url) as provider:
        async with aclosing(provider.load_model("m", LoadOptions())) as events:
            await anext(events)
        assert scripted.state == "loading"  # not ours to end
        scripted.state = "loaded"
        assert [event.kind for event in await load(provider, "m")] == ["loaded"]

    assert not any(path in ("/models/load", "/models/unload") for path, _ in scripted.asked)


async def test_a_load_refused_or_undone_says_so() -> None:
    scripted = ScriptedRouter(events=[])
    scripted.refuses = (400, "model limit reached")
    async with serve(scripted) as url, at(url) as provider:
        with pytest.raises(ProviderRejected, match="limit reached"):
            await load(provider, "m")
        scripted.refuses, scripted.ends_as = None, "unloaded"
        with pytest.raises(LoadFailed, match="unloaded again"):
            await load(provider, "m")


async def test_an_unload_that_the_list_does_not_show_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "LEAVE_SECONDS", 0.3)
    scripted = ScriptedRouter()
    scripted.state, scripted.deaf = "loaded", True
    async with serve(scripted) as url, at(url) as provider:
        with pytest.raises(UnloadUnproven):
            await provider.unload_instance("m")


async def test_a_model_asleep_is_woken_by_a_question_only() -> None:
    scripted = ScriptedRouter()
    scripted.state = "sleeping"
    async with serve(scripted) as url, at(url) as provider:
        model = await find(provider, "m")

    assert (model.state, model.loadable) == ("not-loaded", False)


async def test_a_router_that_dies_during_a_load_ends_it_in_words() -> None:
    scripted = ScriptedRouter(events=[step("text_model", 0.1)])
    scripted.may_load.clear()
    port = free_port()
    async with at(f"http://127.0.0.1:{port}") as provider:
        async with serve(scripted, port=port):
            events = provider.load_model("m", LoadOptions())
            assert (await anext(events)).kind == "progress"
            assert scripted.state == "loading"
        with pytest.raises(ProviderUnreachable):
            await asyncio.wait_for(drain(events), 30)


async def drain(events: AsyncGenerator[LoadEvent]) -> None:
    async for _ in events:
        pass
