"""Loads over the WebSocket: their progress, their end, and what is left of one that was cancelled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import tinygguf
from tests.engine_fixture import RunningEngine, alive, start_engine, wait_until
from tests.integration.engine.conftest import HI, connect, loaded, unload_all
from tests.integration.engine.socket_client import (
    NO_CONFIG,
    CallFailed,
    Socket,
    config,
    connect_socket,
    load,
    predict,
)

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.fixture(scope="module")
async def big(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    """An engine whose model takes a while to load."""
    folder = tmp_path_factory.mktemp("big")
    tinygguf.big(folder / "big.gguf", 1.0)
    async with start_engine(folder) as running:
        yield running


@pytest.fixture
async def llm(engine: RunningEngine, client: httpx.AsyncClient) -> AsyncIterator[Socket]:
    await unload_all(client)
    async with connect_socket(engine, "llm") as socket:
        yield socket


def _want(model: str, **more: object) -> dict[str, object]:
    return {"identifier": model, "loadConfigStack": NO_CONFIG, **more}


async def _until(socket: Socket, channel: int, fraction: float) -> None:
    async for message in socket.messages(channel):
        if message.get("progress", 0) >= fraction:
            return
    raise AssertionError("the load ended too early")


def _hold(engine: RunningEngine) -> psutil.Process:
    """Keep the load where it is, however busy the machine is; its process."""
    (pid,) = engine.children()
    child = psutil.Process(pid)
    child.suspend()
    return child


async def test_a_load_moves_at_least_ten_times_between_its_start_and_its_instance(
    big: RunningEngine,
) -> None:
    async with connect_socket(big, "llm") as socket:
        messages = await socket.all("loadModel", load("big"))
        kinds = [m["type"] for m in messages]
        assert kinds == ["resolved", *["progress"] * (len(kinds) - 2), "success"]
        assert messages[0]["info"]["modelKey"] == "big"
        fractions = [m["progress"] for m in messages[1:-1]]
        assert len(fractions) >= 10
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        (info,) = await socket.call("listLoaded")
        assert info == messages[-1]["info"]
        await socket.call("unloadModel", {"identifier": "big"})


async def test_cancelling_a_load_leaves_no_instance_no_process_and_no_memory(
    big: RunningEngine,
) -> None:
    async with connect_socket(big, "llm") as socket:
        channel = await socket.open("loadModel", load("big"))
        await _until(socket, channel, 0.3)
        child = _hold(big)
        assert child.memory_info().rss > 200 << 20
        started = asyncio.get_running_loop().time()
        await socket.tell(channel, "cancel")
        with pytest.raises(CallFailed, match="cancelled"):
            await socket.rest(channel)
        assert not alive(child.pid)
        assert asyncio.get_running_loop().time() - started < 2
        assert big.children() == []
        assert await socket.call("listLoaded") == []
        async with connect(big) as client:
            assert await loaded(client) == {}


async def test_a_client_that_leaves_in_the_middle_of_a_load_leaves_nothing(
    big: RunningEngine,
) -> None:
    async with connect_socket(big, "llm") as socket:
        channel = await socket.open("loadModel", load("big"))
        await _until(socket, channel, 0.1)
        child = _hold(big)
    await wait_until(lambda: not alive(child.pid))
    async with connect_socket(big, "llm") as other:
        assert await other.call("listLoaded") == []


async def test_one_of_two_who_wait_for_a_model_may_cancel_without_harm_to_the_other(
    big: RunningEngine,
) -> None:
    async with connect_socket(big, "llm") as one, connect_socket(big, "llm") as other:
        first = await one.open("getOrLoad", _want("big"))
        await _until(one, first, 0.05)
        child = _hold(big)
        second = await other.open("getOrLoad", _want("big"))
        await _until(other, second, 0.05)
        await one.tell(first, "cancel")
        with pytest.raises(CallFailed, match="cancelled"):
            await one.rest(first)
        child.resume()
        last = [message async for message in other.messages(second)][-1]
        assert last["type"] == "loadSuccess"
        (only,) = await one.call("listLoaded")
        assert only["modelKey"] == "big"
        assert big.children() == [child.pid]
        # A load before it that is still ending may have its name.
        await one.call("unloadModel", {"identifier": only["identifier"]})


async def test_a_load_that_fails_says_why_on_its_channel(llm: Socket) -> None:
    with pytest.raises(CallFailed, match="not within the file bounds"):
        await llm.all("loadModel", load("truncated"))
    with pytest.raises(CallFailed) as failed:
        await llm.all("loadModel", load("nobody"))
    assert failed.value.error["displayData"]["code"] == "generic.pathNotFound"
    for values, told in (
        ({"llm__load__contextLength": "many"}, "contextLength must be a whole number"),
        ({"llm__load__llama__acceleration__offloadRatio": 2}, "a number from 0 to 1"),
        ({"llm__load__llama__kCacheQuantizationType": "q3"}, "must be one of f32, f16"),
    ):
        with pytest.raises(CallFailed, match=told):
            await llm.all("loadModel", load("parrot", loadConfigStack=config(**values)))
    assert await llm.call("listLoaded") == []


async def test_an_identifier_in_use_is_refused_and_a_plain_second_load_is_a_second_instance(
    llm: Socket,
) -> None:
    await llm.all("loadModel", load("parrot", identifier="mine"))
    with pytest.raises(CallFailed, match="'mine' is loaded already"):
        await llm.all("loadModel", load("thinker", identifier="mine"))
    for _ in range(2):
        await llm.all("loadModel", load("parrot"))
    names = [m["identifier"] for m in await llm.call("listLoaded")]
    assert names == ["mine", "parrot", "parrot:2"]


async def test_a_load_with_a_time_to_live_leaves_after_it_and_others_stay(
    llm: Socket, engine: RunningEngine
) -> None:
    await llm.all("loadModel", load("parrot"))
    await llm.all("loadModel", load("thinker", ttlMs=300))
    await wait_until(lambda: len(engine.children()) == 1)
    assert [m["identifier"] for m in await llm.call("listLoaded")] == ["parrot"]


async def test_get_or_load_loads_once_then_only_says_what_is_there(llm: Socket) -> None:
    messages = await llm.all("getOrLoad", _want("parrot", loadTtlMs=60_000))
    assert messages[0]["type"] == "startLoading"
    assert messages[0]["identifier"] == messages[0]["info"]["modelKey"] == "parrot"
    assert {m["type"] for m in messages[1:-1]} == {"loadProgress"}
    assert messages[-1]["type"] == "loadSuccess"
    assert messages[-1]["info"]["ttlMs"] == 60_000
    (again,) = await llm.all("getOrLoad", _want("parrot"))
    assert again["type"] == "alreadyLoaded"
    assert again["info"]["instanceReference"] == messages[-1]["info"]["instanceReference"]


async def test_get_or_load_makes_room_and_says_so_but_spares_what_was_loaded_on_purpose(
    llm: Socket,
) -> None:
    await llm.all("loadModel", load("tools"))
    await llm.all("getOrLoad", _want("parrot"))
    messages = await llm.all("getOrLoad", _want("thinker"))
    (evicted,) = [m["info"] for m in messages if m["type"] == "unloadingOtherJITModel"]
    assert evicted["identifier"] == "parrot"
    names = [m["identifier"] for m in await llm.call("listLoaded")]
    assert names == ["tools", "thinker"]


async def test_two_clients_see_the_same_models_and_one_may_unload_the_others(
    llm: Socket, engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    async with connect_socket(engine, "llm") as other:
        await llm.all("loadModel", load("slow"))
        channel = await llm.open("predict", predict("slow", "Hi."))
        async for message in llm.messages(channel):
            if message["type"] == "fragment":
                break
        await other.call("unloadModel", {"identifier": "slow"})
        with pytest.raises(CallFailed) as failed:
            await llm.rest(channel)
        assert failed.value.error["displayData"] == {"code": "generic.specificModelUnloaded"}
        assert await llm.call("listLoaded") == await other.call("listLoaded") == []
    # The engine is as before.
    body = {"model": "parrot", "messages": HI}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def test_the_guardrail_is_told_before_a_load_and_by_it(tmp_path: Path) -> None:
    tinygguf.big(tmp_path / "big.gguf", 2.0)
    tinygguf.parrot(tmp_path / "parrot.gguf")
    async with (
        start_engine(tmp_path, memory_budget=600 << 20) as engine,
        connect_socket(engine, "llm") as socket,
    ):
        for key, fits in (("big", False), ("parrot", True)):
            plan = {"modelKey": key, "loadConfigStack": NO_CONFIG}
            told = await socket.call("estimateModelUsage", plan)
            assert told["passesGuardrails"] is fits
        with pytest.raises(CallFailed, match="insufficient system resources"):
            await socket.all("loadModel", load("big"))
        assert engine.children() == []
