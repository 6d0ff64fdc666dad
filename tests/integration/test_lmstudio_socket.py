"""LM Studio's WebSockets against a scripted server: loads, cancels, calls, and every way to fall back."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import (
    BadParameter,
    DeskError,
    LoadFailed,
    LoadUnproven,
    ModelNotFound,
    NotEnoughMemory,
    NotLoadable,
    ProviderRejected,
    ProviderUnreachable,
    UnloadUnproven,
)
from core.models import (
    Instance,
    Loaded,
    LoadEvent,
    LoadOptions,
    LoadProgress,
    MemoryEstimate,
    Processing,
)
from core.ports import BusyTeller, MemoryEstimator, TokenCounter
from infrastructure.providers.lmstudio import (
    LMStudioProvider,
    calls,
    loading,
    server,
    socket,
    socket_load,
    sockets,
)
from tests.servers import TOKEN, Profile, ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, passage, serve, until
from tests.websocket_servers import SocketLMStudio

pytestmark = pytest.mark.anyio

KEY = "qwen/qwen3-4b"
EMBEDDER = "text-embedding-nomic"


@asynccontextmanager
async def connected(
    lm: ScriptedLMStudio, *, token: str | None = None
) -> AsyncGenerator[LMStudioProvider]:
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url, token=SecretStr(token) if token else None)
        try:
            yield provider
        finally:
            await provider.aclose()


async def load(
    provider: LMStudioProvider, model_id: str = KEY, **options: Any
) -> tuple[list[LoadProgress], Loaded]:
    events: list[LoadEvent] = []
    async with aclosing(provider.load_model(model_id, LoadOptions(**options))) as stream:
        async for event in stream:
            events.append(event)
    *progress, last = events
    assert isinstance(last, Loaded)
    return [event for event in progress if isinstance(event, LoadProgress)], last


async def failing(provider: LMStudioProvider, model_id: str = KEY, **options: Any) -> DeskError:
    with pytest.raises(DeskError) as caught:
        await load(provider, model_id, **options)
    return caught.value


def one_loaded(**options: Any) -> SocketLMStudio:
    model = ScriptedModel(KEY, instances={KEY: 8192})
    embedder = ScriptedModel(EMBEDDER, type="embedding", instances={EMBEDDER: 2048})
    return SocketLMStudio(models=[model, embedder], **options)


# -- loads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["0.4", "0.3", "v1"])
@pytest.mark.parametrize("model_id", [KEY, EMBEDDER])
async def test_every_kind_of_model_loads_with_the_servers_own_progress_on_every_version(
    profile: Profile, model_id: str
) -> None:
    lm = SocketLMStudio(profile=profile, load_steps=20)
    async with connected(lm) as provider:
        progress, loaded = await load(provider, model_id, context_length=1024)
        listed = {model.id: model for model in await provider.list_models()}
        await provider.unload_instance(loaded.instance.id)

    fractions = [event.fraction for event in progress]
    assert all(event.exact for event in progress)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 20
    assert fractions[-1] == 1.0
    assert loaded.instance == Instance(id=model_id, context_length=1024)
    assert listed[model_id].instances == (loaded.instance,)
    assert listed[model_id].loadable
    assert not lm.models[model_id].instances
    assert all(asked.method == "GET" for asked in lm.asked if "unload" not in asked.path)


async def test_all_load_options_reach_the_server() -> None:
    lm = SocketLMStudio()
    async with connected(lm) as provider:
        await load(
            provider,
            context_length=4096,
            ttl_seconds=300,
            gpu_offload=0.5,
            flash_attention=True,
            kv_cache_type="q8_0",
            eval_batch_size=256,
            parallel=2,
        )
        await load(provider, EMBEDDER, context_length=512, gpu_offload=1.0, flash_attention=True)

    first, second = (frame["creationParameter"] for frame in lm.got("loadModel"))
    fields = [
        {"key": "llm.load.contextLength", "value": 4096},
        {"key": "llm.load.llama.acceleration.offloadRatio", "value": 0.5},
        {"key": "llm.load.llama.flashAttention", "value": True},
        {
            "key": "llm.load.llama.kCacheQuantizationType",
            "value": {"checked": True, "value": "q8_0"},
        },
        {
            "key": "llm.load.llama.vCacheQuantizationType",
            "value": {"checked": True, "value": "q8_0"},
        },
        {"key": "llm.load.llama.evalBatchSize", "value": 256},
        {"key": "llm.load.numParallelSessions", "value": 2},
    ]
    layer = {"layerName": "apiOverride", "config": {"fields": fields}}
    assert first == {"modelKey": KEY, "ttlMs": 300_000, "loadConfigStack": {"layers": [layer]}}
    assert second["loadConfigStack"]["layers"][0]["config"]["fields"] == [
        {"key": "embedding.load.contextLength", "value": 512},
        {"key": "embedding.load.llama.acceleration.offloadRatio", "value": "max"},
    ]
    assert "ttlMs" not in second


async def test_a_load_with_another_context_than_asked_for_says_which_it_is() -> None:
    lm = SocketLMStudio()
    lm.context = 2048
    async with connected(lm) as provider:
        _, loaded = await load(provider, context_length=4096)

    assert loaded.instance == Instance(id=KEY, context_length=2048)


async def test_the_instance_that_came_is_the_one_reported() -> None:
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    async with connected(lm) as provider:
        running = asyncio.create_task(load(provider, context_length=4096))
        await until(lambda: lm.got("loadModel"))
        lm.models[KEY].load(1024)  # by somebody else, meanwhile
        lm.load_may_go.set()
        _, loaded = await running

    assert loaded.instance == Instance(id=f"{KEY}:2", context_length=4096)


@pytest.mark.parametrize("profile", ["0.4", "0.3", "v1"])
async def test_a_success_that_the_list_does_not_show_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    monkeypatch.setattr(loading, "SHOW_SECONDS", 0.3)
    monkeypatch.setattr(loading, "LEAVE_SECONDS", 0.3)
    lm = one_loaded(profile=profile)
    lm.models["other"] = ScriptedModel("other")
    lm.lies = True
    async with connected(lm) as provider:
        error = await failing(provider, "other")
        with pytest.raises(UnloadUnproven):
            await provider.unload_instance(KEY)

    assert type(error) is LoadUnproven


GUARDRAIL = {"title": "Model loading was stopped due to insufficient system resources."}
BROKEN = {"title": "Failed to load LLM 'x'", "cause": "bad magic"}
ODD = {"title": "Context size too large for sk-lm-ABCDEFGH:secret"}


@pytest.mark.parametrize(
    ("said", "kind"), [(GUARDRAIL, NotEnoughMemory), (BROKEN, LoadFailed), (ODD, LoadFailed)]
)
async def test_a_failed_load_gives_the_servers_reason_and_is_not_tried_again(
    said: dict[str, str], kind: type[DeskError]
) -> None:
    lm = SocketLMStudio()
    lm.refused["loadModel"] = said
    async with connected(lm) as provider:
        error = await failing(provider)

    assert type(error) is kind
    assert said.get("cause", said["title"][:17]) in error.message
    assert "secret" not in error.message
    assert len(lm.got("loadModel")) == 1
    assert not lm.cancels()
    assert not [asked for asked in lm.asked if asked.method == "POST"]


async def test_a_connection_lost_in_the_middle_leaves_the_verdict_to_the_list() -> None:
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    async with connected(lm) as provider:
        for arrives in (False, True):
            running = asyncio.create_task(load(provider))
            await until(lambda n=int(arrives) + 1: len(lm.got("loadModel")) == n)
            if arrives:
                lm.models[KEY].load(1024)
            await lm.drop()
            if arrives:
                _, loaded = await running
                assert loaded.instance == Instance(id=KEY, context_length=1024)
            else:
                with pytest.raises(ProviderUnreachable):
                    await running


# -- cancel --------------------------------------------------------------------------------------


async def test_a_cancelled_load_leaves_nothing_behind() -> None:
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    async with connected(lm) as provider:
        async with aclosing(provider.load_model(KEY, LoadOptions())) as events:
            async for event in events:
                assert isinstance(event, LoadProgress)
                if event.fraction >= 0.5:
                    break
            left = time.monotonic()
        took = time.monotonic() - left
        lm.load_may_go.set()
        listed = {model.id: model for model in await provider.list_models()}

    assert lm.cancels() == 1
    assert took < 2
    assert not listed[KEY].loaded


async def test_a_load_whose_task_is_cancelled_is_cancelled_at_the_server() -> None:
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    async with connected(lm) as provider:
        running = asyncio.create_task(load(provider))
        await until(lambda: lm.got("loadModel"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: lm.cancels() == 1)
        _, loaded = await _after(lm, provider)

    assert list(lm.models[KEY].instances) == [loaded.instance.id]


async def _after(
    lm: SocketLMStudio, provider: LMStudioProvider
) -> tuple[list[LoadProgress], Loaded]:
    lm.load_may_go.set()
    return await load(provider)


async def test_a_cancel_that_comes_too_late_is_made_good_by_an_unload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_load, "CANCEL_SECONDS", 0.2)
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    lm.obeys_cancel = False
    async with connected(lm) as provider:
        async with aclosing(provider.load_model(KEY, LoadOptions())) as events:
            await anext(events)
        assert lm.cancels() == 1
        assert not lm.got("unloadModel")
        lm.load_may_go.set()
        await until(lambda: lm.got("unloadModel"))
        await until(lambda: not lm.models[KEY].instances)


# -- falling back --------------------------------------------------------------------------------


async def test_a_server_without_websockets_is_asked_once() -> None:
    lm = ScriptedLMStudio()
    async with connected(lm) as provider:
        progress, _ = await load(provider)
        await load(provider, EMBEDDER)
        await provider.unload_instance(KEY)
        nothing = [
            await provider.estimate_memory(KEY, LoadOptions()),
            await provider.processing(EMBEDDER),
            await provider.count_tokens(EMBEDDER, "a b"),
        ]

    assert len(lm.requests("/system")) == 1
    assert not lm.requests("/llm")
    assert progress[-1].exact
    assert lm.requests("/api/v1/chat")
    assert nothing == [None, None, None]


@pytest.mark.parametrize("profile", ["0.4", "0.3"])
async def test_a_handshake_without_an_answer_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    monkeypatch.setattr(sockets, "DETECT_SECONDS", 0.5)
    lm = SocketLMStudio(profile=profile)
    lm.upgrades = False
    async with connected(lm) as provider:
        assert (await provider.health()).state == "ready"
        await load(provider)
        await load(provider, EMBEDDER)

    assert lm.opened("system") == 1
    assert len(lm.connections) == 1


@pytest.mark.parametrize("trouble", ["unknown", "silent", "refused"])
async def test_a_server_that_does_not_tell_its_version_is_used_over_http(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(sockets, "DETECT_SECONDS", 0.5)
    lm = SocketLMStudio()
    if trouble == "refused":
        lm.refused["version"] = {"title": "no"}
    else:
        getattr(lm, trouble).add("version")
    async with connected(lm) as provider:
        await load(provider)
        await load(provider, EMBEDDER)

    assert len(lm.got("version")) == 1
    assert not lm.got("loadModel")
    assert lm.requests("/api/v1/chat")


async def test_a_server_that_comes_back_as_another_is_asked_again() -> None:
    port = free_port()
    provider = LMStudioProvider("lm", f"http://127.0.0.1:{port}")
    async with serve(ScriptedLMStudio(), port=port):
        await load(provider)
    with pytest.raises(ProviderUnreachable):
        await provider.list_models()
    lm = SocketLMStudio()
    async with serve(lm, port=port):
        await load(provider)
    with pytest.raises(ProviderUnreachable):
        await provider.list_models()
    old = ScriptedLMStudio()
    async with serve(old, port=port):
        await load(provider)
        await provider.aclose()

    assert lm.got("loadModel")
    assert old.requests("/api/v1/chat")


async def test_an_unknown_way_of_loading_leads_to_the_next_and_is_remembered() -> None:
    lm = SocketLMStudio()
    lm.unknown = {"loadModel"}
    async with connected(lm) as provider:
        progress, _ = await load(provider)
        await provider.unload_instance(KEY)
        await load(provider)
        await provider.unload_instance(KEY)
        lm.unknown = {"loadModel", "getOrLoad"}
        lm.models["other"] = ScriptedModel("other")
        over_http, _ = await load(provider, "other")

    assert all(event.exact for event in progress)
    assert len(lm.got("loadModel")) == 1
    assert lm.got("getOrLoad")[0]["creationParameter"] == {
        "identifier": KEY,
        "loadConfigStack": {"layers": []},
    }
    assert lm.requests("/api/v1/chat")
    assert over_http


async def test_an_option_that_is_not_understood_does_not_end_loading_over_websocket() -> None:
    lm = SocketLMStudio()
    lm.unknown = {"loadModel", "getOrLoad"}
    async with connected(lm) as provider:
        await load(provider, context_length=4096)
        await provider.unload_instance(KEY)
        lm.unknown = set()
        await load(provider)

    assert len(lm.got("loadModel")) == 2
    assert len(lm.requests("/api/v1/chat")) == 1


async def test_a_silent_way_of_loading_is_cancelled_before_the_next_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_load, "FIRST_WORD_SECONDS", 0.2)
    monkeypatch.setattr(socket_load, "CANCEL_SECONDS", 0.2)
    lm = SocketLMStudio()
    lm.silent = {"loadModel", "getOrLoad"}
    async with connected(lm) as provider:
        _, loaded = await load(provider)

    assert lm.cancels() == 2
    assert list(lm.models[KEY].instances) == [loaded.instance.id]


async def test_options_that_http_does_not_have_are_refused_rather_than_dropped() -> None:
    lm = ScriptedLMStudio()
    async with connected(lm) as provider:
        error = await failing(provider, gpu_offload=0.5)
        old = ScriptedLMStudio(profile="0.3")
        async with connected(old) as older:
            older_error = await failing(older, flash_attention=True)

    assert isinstance(error, BadParameter)
    assert "gpu offload" in error.message
    assert isinstance(older_error, BadParameter)
    assert all(asked.method == "GET" for asked in lm.asked + old.asked)


async def test_0_3_can_unload_only_over_websocket() -> None:
    lm = one_loaded(profile="0.3")
    lm.unknown = {"unloadModel"}
    async with connected(lm) as provider:
        with pytest.raises(NotLoadable):
            await provider.unload_instance(KEY)
    assert lm.models[KEY].instances
    lm.unknown = set()
    async with connected(lm) as provider:
        await provider.unload_instance(KEY)
        await provider.unload_instance("gone already")

    assert not lm.models[KEY].instances


async def test_an_unload_route_that_went_missing_is_replaced() -> None:
    lm = one_loaded()
    lm.answers["POST", "/api/v1/models/unload"] = (200, {"error": "Unexpected endpoint"})
    async with connected(lm) as provider:
        await provider.unload_instance(KEY)

    assert not lm.models[KEY].instances


async def test_a_refused_unload_gives_the_reason() -> None:
    lm = one_loaded(profile="0.3")
    lm.refused["unloadModel"] = {"title": "Not now"}
    async with connected(lm) as provider:
        with pytest.raises(ProviderRejected, match="Not now"):
            await provider.unload_instance(KEY)


# -- what else is asked --------------------------------------------------------------------------


async def test_memory_busyness_and_tokens_are_told() -> None:
    lm = one_loaded()
    lm.busy[KEY] = ("processingPrompt", 3)
    async with connected(lm) as provider:
        assert isinstance(provider, MemoryEstimator)
        assert isinstance(provider, BusyTeller)
        assert isinstance(provider, TokenCounter)
        estimate = await provider.estimate_memory(KEY, LoadOptions(context_length=4096))
        reading = await provider.processing(KEY)
        idle = await provider.processing(EMBEDDER)
        lm.busy[KEY] = ("dreaming", 0)
        unknown = await provider.processing(KEY)
        gone = await provider.processing("gone")
        tokens = await provider.count_tokens(KEY, "one two three")
        with pytest.raises(ModelNotFound):
            await provider.estimate_memory("unheard-of", LoadOptions())

    assert estimate == MemoryEstimate(
        model_bytes=500_000_000,
        context_bytes=1000,
        vram_bytes=30,
        total_bytes=500_001_000,
        confident=True,
        fits=True,
    )
    asked = lm.got("estimateModelUsage")[0]["parameter"]
    assert asked["modelKey"] == KEY
    fields = asked["loadConfigStack"]["layers"][0]["config"]["fields"]
    assert fields == [{"key": "llm.load.contextLength", "value": 4096}]
    assert reading == Processing(status="reading", queued=3)
    assert idle == Processing(status="idle")
    assert (unknown, gone, tokens) == (None, None, 3)


@pytest.mark.parametrize("trouble", ["unknown", "silent"])
async def test_what_the_server_cannot_tell_is_none_and_asked_once(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(sockets, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(calls, "ESTIMATE_SECONDS", 0.2)
    lm = one_loaded()
    wanted = {"estimateModelUsage", "getInstanceProcessingState", "countTokens"}
    getattr(lm, trouble).update(wanted)
    async with connected(lm) as provider:
        for _ in range(2):
            assert await provider.estimate_memory(KEY, LoadOptions()) is None
            assert await provider.processing(KEY) is None
            assert await provider.count_tokens(KEY, "a") is None
        lm.models[KEY].instances.clear()
        progress, _ = await load(provider)

    assert [len(lm.got(endpoint)) for endpoint in wanted] == [1, 1, 1]
    assert all(event.exact for event in progress)


async def test_a_refused_estimate_says_why_and_a_refused_state_is_none() -> None:
    lm = one_loaded()
    lm.refused["estimateModelUsage"] = {"title": "No engine for this format"}
    lm.refused["getInstanceProcessingState"] = {"title": "no"}
    async with connected(lm) as provider:
        with pytest.raises(ProviderRejected, match="No engine for this format"):
            await provider.estimate_memory(KEY, LoadOptions())
        assert await provider.processing(KEY) is None


async def test_older_lists_are_completed_with_names_and_sizes() -> None:
    lm = one_loaded(profile="0.3")
    async with connected(lm) as provider:
        first = {model.id: model for model in await provider.list_models()}
        await provider.list_models()
        lm.models["new"] = ScriptedModel("new", size_bytes=7)
        after = {model.id: model for model in await provider.list_models()}

    assert (first[KEY].name, first[KEY].size_bytes) == (KEY.upper(), 500_000_000)
    assert after["new"].size_bytes == 7
    assert len(lm.got("listDownloadedModels")) == 2


async def test_a_list_that_is_silent_on_contexts_is_completed_from_the_load_config() -> None:
    lm = SocketLMStudio(profile="v1")
    async with connected(lm) as provider:
        _, loaded = await load(provider, context_length=4096)
        listed = {model.id: model for model in await provider.list_models()}

    assert listed[KEY].instances == (loaded.instance,)
    assert loaded.instance.context_length == 4096


# -- connections ---------------------------------------------------------------------------------


async def test_each_namespace_has_one_connection_for_any_number_of_calls() -> None:
    lm = one_loaded()
    async with connected(lm) as provider:
        await provider.list_models()
        told = await asyncio.gather(
            *(provider.processing(KEY) for _ in range(20)),
            *(provider.processing(EMBEDDER) for _ in range(20)),
        )

    assert all(told)
    assert sorted(c.namespace for c in lm.connections) == ["embedding", "llm", "system"]


async def test_a_dropped_connection_is_replaced() -> None:
    lm = one_loaded()
    async with connected(lm) as provider:
        assert await provider.processing(KEY)
        await lm.drop()
        assert await provider.processing(KEY)
        lm.models[KEY].instances.clear()
        await lm.drop()
        progress, _ = await load(provider)

    assert all(event.exact for event in progress)
    assert lm.opened("llm") == 3


async def test_a_connection_unheard_for_long_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = one_loaded()
    async with connected(lm) as provider:
        assert await provider.processing(KEY)
        # What a laptop's sleep looks like: the wall's clock has moved on, and nobody was heard.
        monkeypatch.setattr(socket, "TRUST_SECONDS", 0.0)
        assert await provider.processing(KEY)

    assert lm.opened("llm") == 2


async def test_a_connection_that_fell_silent_ends_a_load_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "PING_SECONDS", 0.4)
    lm = SocketLMStudio()
    lm.load_may_go.clear()
    async with serve(lm) as url, passage(url) as way:
        provider = LMStudioProvider("lm", way.url)
        running = asyncio.create_task(load(provider))
        await until(lambda: lm.got("loadModel"))
        way.freeze()
        with pytest.raises(ProviderUnreachable):
            await running
        estimate = await provider.estimate_memory(KEY, LoadOptions())
        await provider.aclose()

    assert estimate
    assert lm.opened("llm") == 2


async def test_an_idle_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "KEEP_ALIVE_SECONDS", 0.05)
    lm = one_loaded()
    async with connected(lm) as provider:
        assert await provider.processing(KEY)
        await until(
            lambda: (
                sum(
                    frame["type"] == "keepAlive"
                    for _, frame in lm.frames_got[2:]
                    if "type" in frame
                )
                > 3
            )
        )
        assert await provider.processing(KEY)

    assert lm.opened("llm") == 1


async def test_a_token_introduces_us_and_a_guest_is_somebody_new() -> None:
    lm = one_loaded(token=TOKEN)
    async with connected(lm, token=TOKEN) as provider:
        assert await provider.processing(KEY)
    free = one_loaded()
    async with connected(free) as provider:
        assert await provider.processing(KEY)

    assert lm.frames_got[0][1] == {
        "authVersion": 1,
        "clientIdentifier": "ABCDEFGH",
        "clientPasskey": "0123456789abcdefghij",
    }
    guests = [frame for _, frame in free.frames_got if "authVersion" in frame]
    assert all(guest["clientIdentifier"].startswith("guest:") for guest in guests)


async def test_a_refused_introduction_means_http() -> None:
    lm = one_loaded()
    lm.models[KEY].instances.clear()
    async with connected(lm) as provider:
        await provider.list_models()
        lm.token = TOKEN  # only the WebSocket is asked from here on
        assert await provider.processing(EMBEDDER) is None
        lm.token = None
        await load(provider)

    assert lm.requests("/api/v1/chat")
    assert lm.opened("system") == 1


async def test_a_handshake_is_not_redirected_to_another_place() -> None:
    elsewhere = one_loaded()
    async with serve(elsewhere) as other:

        class Redirecting(ScriptedLMStudio):
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                if scope["path"] != "/system":
                    await super().__call__(scope, receive, send)
                    return
                headers = [(b"location", f"{other}/system".encode())]
                await send({"type": "http.response.start", "status": 307, "headers": headers})
                await send({"type": "http.response.body", "body": b""})

        lm = Redirecting(token=TOKEN)
        async with connected(lm, token=TOKEN) as provider:
            await load(provider)

    assert not elsewhere.asked
    assert not elsewhere.connections
    assert lm.requests("/api/v1/chat")


async def test_closing_leaves_no_connection_and_no_work_behind() -> None:
    before = asyncio.all_tasks()
    lm = one_loaded()
    lm.models["other"] = ScriptedModel("other")
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        await provider.processing(KEY)
        running = asyncio.create_task(load(provider, "other"))
        await until(lambda: lm.got("loadModel"))
        await provider.aclose()
        with pytest.raises(DeskError):
            await running
        await provider.aclose()
        await until(lambda: not any(connection.open for connection in lm.connections))
    await until(lambda: asyncio.all_tasks() <= before)
