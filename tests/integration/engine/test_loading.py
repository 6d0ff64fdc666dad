"""Loading and unloading: instances, budgets, just in time, countdowns, damage, cancelling."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests import tinygguf
from tests.engine_fixture import RunningEngine, alive, start_engine, wait_until
from tests.integration.engine.conftest import HI, connect, loaded, unload_all

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

CHAT = "/v1/chat/completions"
LOAD = "/api/v1/models/load"
UNLOAD = "/api/v1/models/unload"


@pytest.fixture(autouse=True)
async def nothing_loaded(client: httpx.AsyncClient) -> None:
    await unload_all(client)


async def test_a_load_answers_with_the_instance_and_how_it_was_loaded(
    client: httpx.AsyncClient,
) -> None:
    body = {"model": "parrot", "context_length": 512, "echo_load_config": True}
    answer = (await client.post(LOAD, json=body)).json()
    assert answer["type"] == "llm"
    assert answer["instance_id"] == "parrot"
    assert answer["status"] == "loaded"
    assert answer["load_time_seconds"] > 0
    assert answer["load_config"]["context_length"] == 512
    assert (await loaded(client))["parrot"]["context_length"] == 512


async def test_more_context_than_the_model_has_is_cut_to_what_it_has(
    client: httpx.AsyncClient,
) -> None:
    await client.post(LOAD, json={"model": "parrot", "context_length": 1_000_000})
    assert (await loaded(client))["parrot"]["context_length"] == 4096


async def test_a_second_load_gives_a_second_instance(
    engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    await client.post(LOAD, json={"model": "parrot"})
    second = (await client.post(LOAD, json={"model": "PARROT"})).json()
    assert second["instance_id"] == "parrot:2"
    assert (await loaded(client)).keys() == {"parrot", "parrot:2"}
    assert len(engine.children()) == 2
    names = [m["id"] for m in (await client.get("/v1/models")).json()["data"]]
    assert "parrot:2" in names
    answer = (await client.post(CHAT, json={"model": "parrot:2", "messages": HI})).json()
    assert answer["model"] == "parrot:2"
    await client.post(UNLOAD, json={"instance_id": "parrot"})
    v0 = {m["id"]: m["state"] for m in (await client.get("/api/v0/models")).json()["data"]}
    assert (v0["parrot"], v0["parrot:2"]) == ("not-loaded", "loaded")


async def test_an_unload_ends_the_process_before_it_answers(
    engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    await client.post(LOAD, json={"model": "parrot"})
    (child,) = engine.children()
    answer = await client.post(UNLOAD, json={"instance_id": "parrot"})
    assert answer.json() == {"instance_id": "parrot"}
    assert not alive(child)
    assert await loaded(client) == {}


async def test_unloading_what_is_not_loaded_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(UNLOAD, json={"instance_id": "parrot"})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "type": "model_not_found",
        "message": "Model with instance identifier 'parrot' is not loaded.",
    }


async def test_loading_an_unknown_model_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOAD, json={"model": "nobody"})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "type": "model_not_found",
        "message": "Model nobody not found in downloaded models",
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"model": "parrot", "ttl": 60},
            {
                "type": "invalid_request",
                "message": "Unrecognized key(s) in object: 'ttl'",
                "code": "unrecognized_keys",
            },
        ),
        (
            {"context_length": 512},
            {
                "type": "invalid_request",
                "message": '"model" is required',
                "code": "missing_required_parameter",
                "param": "model",
            },
        ),
    ],
)
async def test_native_bodies_are_strict(client: httpx.AsyncClient, body: dict, error: dict) -> None:
    answer = await client.post(LOAD, json=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": error}


@pytest.mark.parametrize(
    ("model", "damage", "reason"),
    [
        ("truncated", "the file is incomplete", "not within the file bounds"),
        ("corrupt", "it is not a GGUF file", "invalid magic characters"),
    ],
)
async def test_a_damaged_file_fails_in_plain_words_and_with_llama_cpps_own_reason(
    engine: RunningEngine, client: httpx.AsyncClient, model: str, damage: str, reason: str
) -> None:
    answer = await client.post(LOAD, json={"model": model})
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["type"] == "model_load_failed"
    words = f"Failed to load LLM '{model}': Error: This file is damaged: {damage}"
    assert error["message"].startswith(words)
    assert reason in error["message"]
    answer = await client.post(CHAT, json={"model": model, "messages": HI})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert reason in answer.json()["error"]["message"]
    assert engine.children() == []


async def test_a_model_larger_than_the_budget_is_refused_by_both_apis(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "parrot.gguf")
    tinygguf.big(tmp_path / "big.gguf", 2.0)
    async with (
        start_engine(tmp_path, memory_budget=600 << 20) as engine,
        connect(engine) as client,
    ):
        native = await client.post(LOAD, json={"model": "big"})
        assert native.status_code == 500
        assert native.json()["error"]["type"] == "model_load_failed"
        assert "insufficient system resources" in native.json()["error"]["message"]
        openai = await client.post(CHAT, json={"model": "big", "messages": HI})
        assert openai.status_code == 400
        assert openai.json()["error"]["message"].startswith('Failed to load model "big". Error: ')
        assert (await client.post(LOAD, json={"model": "parrot"})).status_code == 200
        assert (await client.post(LOAD, json={"model": "parrot"})).status_code == 200
        # Two small ones fill it.
        assert (await client.post(LOAD, json={"model": "parrot"})).status_code == 500
        assert len(engine.children()) == 2


async def test_a_model_on_demand_leaves_when_its_ttl_is_over(
    engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    await client.post(CHAT, json={"model": "parrot", "messages": HI, "ttl": 1})
    assert (await loaded(client)).keys() == {"parrot"}
    await wait_until(lambda: not engine.children())
    assert await loaded(client) == {}


async def test_the_countdown_does_not_run_during_an_answer(
    engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    body = {"model": "slow", "messages": HI, "ttl": 1, "max_tokens": 100_000, "stream": True}
    started = asyncio.get_running_loop().time()
    async with client.stream("POST", CHAT, json=body) as answer:
        async for _ in answer.aiter_raw():
            if asyncio.get_running_loop().time() > started + 3:
                break
        assert (await loaded(client)).keys() == {"slow"}
    await wait_until(lambda: not engine.children())


async def test_a_ttl_that_is_none_counts_as_the_default(client: httpx.AsyncClient) -> None:
    for nonsense in ("abc", -5, True):
        body = {"model": "parrot", "messages": HI, "ttl": nonsense}
        assert (await client.post(CHAT, json=body)).status_code == 200
        await unload_all(client)


async def test_a_load_on_demand_replaces_the_last_one_but_never_an_explicit_one(
    client: httpx.AsyncClient,
) -> None:
    await client.post(LOAD, json={"model": "tools"})
    await client.post(CHAT, json={"model": "parrot", "messages": HI})
    assert (await loaded(client)).keys() == {"tools", "parrot"}
    await client.post(CHAT, json={"model": "thinker", "messages": HI})
    assert (await loaded(client)).keys() == {"tools", "thinker"}


async def test_a_model_that_is_answering_is_replaced_only_when_it_has_finished(
    client: httpx.AsyncClient,
) -> None:
    body = {"model": "slow", "messages": HI, "max_tokens": 150, "stream": True}
    async with client.stream("POST", CHAT, json=body) as answer:
        other = await client.post(CHAT, json={"model": "parrot", "messages": HI})
        assert other.status_code == 200
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert raw.endswith(b"data: [DONE]\n\n")

    async def gone() -> bool:
        return "slow" not in await loaded(client)

    async with asyncio.timeout(10):
        while not await gone():
            continue


async def test_many_requests_for_a_model_that_is_not_loaded_share_one_load(
    engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    body = {"model": "parrot", "messages": HI}
    answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(6)))
    assert {a.json()["choices"][0]["message"]["content"] for a in answers} == {tinygguf.HELLO_TEXT}
    assert (await loaded(client)).keys() == {"parrot"}
    assert len(engine.children()) == 1


async def test_requests_for_different_models_at_once_are_all_answered(
    engine: RunningEngine,
    client: httpx.AsyncClient,
) -> None:
    names = ["parrot", "thinker", "endless", "tools"]
    answers = await asyncio.gather(
        *(
            client.post(CHAT, json={"model": name, "messages": HI, "max_tokens": 2})
            for name in names * 2
        )
    )
    assert [a.status_code for a in answers] == [200] * 8, [a.text for a in answers]
    assert [a.json()["model"] for a in answers] == names * 2
    await wait_until(lambda: len(engine.children()) == 1)


async def test_a_missing_openmp_library_is_explained(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text(
        "raise ImportError('libgomp.so.1: cannot open shared object file')"
    )
    async with (
        start_engine(models_dir, environment={"PYTHONPATH": f"{tmp_path}"}) as engine,
        connect(engine) as client,
    ):
        answer = await client.post(LOAD, json={"model": "parrot"})
        assert answer.status_code == 500
        assert "apt install libgomp1" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOAD, {"model": "big"}),
        ("/api/v1/chat", {"model": "big", "input": "hi", "stream": True}),
        (CHAT, {"model": "big", "messages": HI}),
    ],
)
async def test_hanging_up_cancels_a_load_and_leaves_nothing(
    tmp_path: Path, path: str, body: dict
) -> None:
    tinygguf.big(tmp_path / "big.gguf", 1.0)
    async with start_engine(tmp_path) as engine, connect(engine) as client:
        caller = asyncio.create_task(client.post(path, json=body))
        await wait_until(engine.children)
        (child,) = engine.children()
        states = {m["state"] for m in (await client.get("/api/v0/models")).json()["data"]}
        assert states == {"loading"}
        caller.cancel()
        await asyncio.wait({caller})
        await wait_until(lambda: not alive(child))
        assert engine.children() == []
        assert await loaded(client) == {}
