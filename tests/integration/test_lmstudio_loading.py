"""Loads and unloads against scripted servers: progress, proof, and every way to fail."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from core.errors import (
    BadParameter,
    DeskError,
    LoadFailed,
    LoadUnproven,
    ModelNotFound,
    NotEnoughMemory,
    NotLoadable,
    ProviderUnreachable,
    UnloadUnproven,
)
from core.models import Instance, Loaded, LoadEvent, LoadOptions, LoadProgress
from infrastructure.providers.lmstudio import LMStudioProvider, loading
from tests.servers import Profile, ScriptedLMStudio, ScriptedModel
from tests.sockets import serve, until

pytestmark = pytest.mark.anyio

KEY = "qwen/qwen3-4b"
EMBEDDER = "text-embedding-nomic"


async def load(
    provider: LMStudioProvider, model_id: str = KEY, **options: Any
) -> tuple[list[LoadProgress], Loaded]:
    events: list[LoadEvent] = []
    async with aclosing(provider.load_model(model_id, LoadOptions(**options))) as stream:
        async for event in stream:
            events.append(event)
    *progress, last = events
    assert isinstance(last, Loaded)
    assert all(isinstance(event, LoadProgress) for event in progress)
    return [event for event in progress if isinstance(event, LoadProgress)], last


async def failing_load(provider: LMStudioProvider, model_id: str = KEY) -> DeskError:
    with pytest.raises(DeskError) as caught:
        await load(provider, model_id)
    await provider.aclose()
    return caught.value


async def test_a_language_model_loads_with_the_servers_own_progress() -> None:
    lm = ScriptedLMStudio()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        progress, loaded = await load(provider, context_length=4096)
        await provider.aclose()

    fractions = [event.fraction for event in progress]
    assert all(event.exact for event in progress)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 5
    assert fractions[-1] == 1.0
    assert loaded.instance == Instance(id=KEY, context_length=4096)
    assert loaded.seconds > 0
    assert lm.requests("/api/v1/chat")[0].body == {
        "model": KEY,
        "input": "hi",
        "max_output_tokens": 1,
        "store": False,
        "stream": True,
        "context_length": 4096,
    }


async def test_progress_is_told_while_the_load_is_going_on() -> None:
    lm = ScriptedLMStudio()
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        async with aclosing(provider.load_model(KEY, LoadOptions())) as events:
            async for event in events:
                assert isinstance(event, LoadProgress)
                if event.fraction >= 0.5:
                    break
            assert not lm.models[KEY].instances
            lm.load_may_go.set()
            rest = [event async for event in events]
        await provider.aclose()

    assert isinstance(rest[-1], Loaded)


async def test_a_loaded_model_is_reported_and_not_loaded_twice() -> None:
    model = ScriptedModel(KEY, instances={KEY: 8192, f"{KEY}:2": 4096})
    lm = ScriptedLMStudio(models=[model])
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        progress, loaded = await load(provider)
        _, fitting = await load(provider, context_length=4096)
        await provider.aclose()

    assert (progress, loaded.seconds) == ([], 0.0)
    assert loaded.instance == Instance(id=KEY, context_length=8192)
    assert fitting.instance == Instance(id=f"{KEY}:2", context_length=4096)
    assert all(asked.method == "GET" for asked in lm.asked)


async def test_two_who_want_the_same_model_get_the_same_instance() -> None:
    lm = ScriptedLMStudio()
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        both = asyncio.gather(load(provider), load(provider))
        await until(lambda: lm.requests("/api/v1/chat"))
        lm.load_may_go.set()
        (_, first), (_, second) = await both
        await provider.aclose()

    assert first.instance == second.instance
    assert list(lm.models[KEY].instances) == [KEY]


async def test_an_embedder_loads_with_an_estimate_that_says_so() -> None:
    lm = ScriptedLMStudio()
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        seen: list[LoadEvent] = []
        async with aclosing(provider.load_model(EMBEDDER, LoadOptions())) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == 4:
                    lm.load_may_go.set()
        await provider.aclose()

    *progress, last = seen
    fractions = [e.fraction for e in progress if isinstance(e, LoadProgress) and not e.exact]
    assert len(fractions) == len(progress) >= 4
    assert fractions == sorted(fractions)
    assert 0 < fractions[-1] <= 0.95
    assert isinstance(last, Loaded)
    assert lm.requests("/api/v1/models/load")[0].body == {"model": EMBEDDER}


async def test_an_idle_time_goes_the_way_that_takes_one() -> None:
    lm = ScriptedLMStudio()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        await load(provider, ttl_seconds=300)
        await load(provider, EMBEDDER, ttl_seconds=60)
        await provider.aclose()

    assert lm.requests("/v1/chat/completions")[0].body["ttl"] == 300
    assert lm.requests("/v1/embeddings")[0].body["ttl"] == 60


async def test_context_and_idle_time_together_are_refused_rather_than_half_obeyed() -> None:
    async with serve(ScriptedLMStudio()) as url:
        provider = LMStudioProvider("lm", url)
        with pytest.raises(BadParameter):
            await load(provider, ttl_seconds=300, context_length=4096)
        await provider.aclose()


@pytest.mark.parametrize("model_id", [KEY, EMBEDDER])
async def test_0_3_loads_just_in_time_and_tells_the_context_it_really_got(model_id: str) -> None:
    lm = ScriptedLMStudio(profile="0.3")
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        progress, loaded = await load(provider, model_id, context_length=4096)
        await provider.aclose()

    assert progress
    assert not any(event.exact for event in progress)
    assert loaded.instance == Instance(id=model_id, context_length=8192)


async def test_on_0_3_the_list_ends_the_load_when_the_request_is_slow() -> None:
    lm = ScriptedLMStudio(profile="0.3")
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        running = asyncio.create_task(load(provider))
        await until(lambda: lm.requests("/v1/chat/completions"))
        lm.models[KEY].load(2048)
        _, loaded = await running
        await until(lambda: lm.aborted == 1)
        await provider.aclose()

    assert loaded.instance == Instance(id=KEY, context_length=2048)


async def test_0_3_without_just_in_time_loading_says_what_to_turn_on() -> None:
    lm = ScriptedLMStudio(profile="0.3")
    lm.jit = False
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url))

    assert type(error) is LoadFailed
    assert "Just in Time" in error.hint


async def test_a_server_that_cannot_say_what_is_loaded_loads_nothing() -> None:
    async with serve(ScriptedLMStudio(profile="v1")) as url:
        error = await failing_load(LMStudioProvider("lm", url))

    assert isinstance(error, NotLoadable)


# -- lies and failures ---------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["0.4", "0.3"])
@pytest.mark.parametrize("model_id", [KEY, EMBEDDER])
async def test_a_success_that_the_list_does_not_show_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, model_id: str
) -> None:
    monkeypatch.setattr(loading, "SHOW_SECONDS", 0.3)
    lm = ScriptedLMStudio(profile=profile)
    lm.lies = True
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url), model_id)

    assert type(error) is LoadUnproven
    assert model_id in error.message


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "Unexpected endpoint or method. (POST /x)"},
        {"success": True, "status": "loaded"},
    ],
)
async def test_a_server_that_answers_200_to_everything_loads_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(loading, "SHOW_SECONDS", 0.3)
    lm = ScriptedLMStudio()
    for path in ("/api/v1/chat", "/api/v1/models/load", "/v1/chat/completions"):
        lm.answers["POST", path] = (200, answer)
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url))

    assert type(error) is LoadUnproven


async def test_a_missing_way_of_loading_leads_to_the_next() -> None:
    lm = ScriptedLMStudio()
    missing = {"error": "Unexpected endpoint or method. (POST /api/v1/chat)"}
    lm.answers["POST", "/api/v1/chat"] = (200, missing)
    lm.answers["POST", "/api/v1/models/load"] = (404, {"detail": "Not Found"})
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        progress, loaded = await load(provider)
        await provider.aclose()

    assert not any(event.exact for event in progress)
    assert loaded.instance.id == KEY
    assert len(lm.requests("/v1/chat/completions")) == 1


GUARDRAIL = {
    "type": "model_load_failed",
    "message": "Failed to load LLM 'x': Error: Model loading was stopped due to insufficient"
    " system resources.",
}
BROKEN = {"type": "model_load_failed", "message": "Failed to load LLM 'x': Error: bad magic"}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(("body", "kind"), [(GUARDRAIL, NotEnoughMemory), (BROKEN, LoadFailed)])
@pytest.mark.parametrize("model_id", [KEY, EMBEDDER])
async def test_a_failed_load_gives_the_servers_reason(
    status: int, body: dict[str, str], kind: type[DeskError], model_id: str
) -> None:
    lm = ScriptedLMStudio()
    lm.load_error = (status, {"error": body})
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url), model_id)

    assert type(error) is kind
    assert body["message"].split(": ")[-1] in error.message


async def test_a_failed_just_in_time_load_gives_the_servers_reason() -> None:
    lm = ScriptedLMStudio(profile="0.3")
    text = 'Failed to load model "x". Error: Failed to load model.'
    lm.load_error = (400, {"error": {"message": text, "code": "model_not_found"}})
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url))

    assert type(error) is LoadFailed


async def test_an_unknown_model_is_refused_with_the_closest_names_before_anything_is_loaded() -> (
    None
):
    lm = ScriptedLMStudio()
    async with serve(lm) as url:
        error = await failing_load(LMStudioProvider("lm", url), "qwen/qwen3-5b")

    assert isinstance(error, ModelNotFound)
    assert error.candidates[0] == f"lm:{KEY}"
    assert all(asked.method == "GET" for asked in lm.asked)


async def test_an_error_after_the_load_does_not_undo_it() -> None:
    lm = ScriptedLMStudio(profile="0.3")
    lm.chat_error = (400, {"error": "Error rendering prompt with jinja template"})
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        _, loaded = await load(provider)
        await provider.aclose()

    assert loaded.instance.id == KEY


async def test_a_server_that_dies_during_a_load_is_unreachable() -> None:
    lm = ScriptedLMStudio()
    lm.load_may_go.clear()
    provider = LMStudioProvider("lm", "http://127.0.0.1:1")
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        running = asyncio.create_task(load(provider))
        await until(lambda: lm.open == 1)
    with pytest.raises(ProviderUnreachable):
        await running
    await provider.aclose()


@pytest.mark.parametrize("model_id", [KEY, EMBEDDER])
async def test_closing_a_load_closes_its_connection(model_id: str) -> None:
    lm = ScriptedLMStudio()
    lm.load_may_go.clear()
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        async with aclosing(provider.load_model(model_id, LoadOptions())) as events:
            await anext(events)
            await until(lambda: lm.open == 1)
        await until(lambda: lm.aborted == 1)
        lm.load_may_go.set()
        _, loaded = await load(provider, model_id)
        await provider.aclose()

    assert loaded.instance.id == model_id


# -- unloading -----------------------------------------------------------------------------------


async def test_an_unload_takes_the_instance_that_was_named() -> None:
    model = ScriptedModel(KEY, instances={KEY: 8192, f"{KEY}:2": 4096})
    lm = ScriptedLMStudio(models=[model])
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        await provider.unload_instance(f"{KEY}:2")
        await provider.aclose()

    assert list(model.instances) == [KEY]


async def test_an_unload_that_the_list_contradicts_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "LEAVE_SECONDS", 0.3)
    lm = ScriptedLMStudio(models=[ScriptedModel(KEY, instances={KEY: 8192})])
    lm.lies = True
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        with pytest.raises(UnloadUnproven):
            await provider.unload_instance(KEY)
        lm.answers["POST", "/api/v1/models/unload"] = (200, {"error": "Unexpected endpoint"})
        with pytest.raises(UnloadUnproven):
            await provider.unload_instance(KEY)
        await provider.aclose()


async def test_unloading_what_is_gone_already_is_done() -> None:
    async with serve(ScriptedLMStudio()) as url:
        provider = LMStudioProvider("lm", url)
        await provider.unload_instance(KEY)
        await provider.aclose()


async def test_0_3_cannot_unload_and_says_where_it_can_be_done() -> None:
    lm = ScriptedLMStudio(profile="0.3", models=[ScriptedModel(KEY, instances={KEY: 8192})])
    async with serve(lm) as url:
        provider = LMStudioProvider("lm", url)
        with pytest.raises(NotLoadable, match="eject it in LM Studio"):
            await provider.unload_instance(KEY)
        await provider.aclose()
