"""How things end: hang-ups, crashes, kills, signals; nobody is left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from tests import tinygguf
from tests.engine_fixture import RunningEngine, alive, start_engine, wait_until
from tests.integration.engine.conftest import HI, connect, loaded

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

CHAT = "/v1/chat/completions"
ENDLESS = {"model": "slow", "messages": HI, "max_tokens": 1_000_000, "stream": True}


@pytest.fixture
async def own(models_dir: Path) -> AsyncIterator[RunningEngine]:
    """An engine that a test may hurt."""
    async with start_engine(models_dir) as running:
        yield running


def _idle(pid: int) -> Callable[[], bool]:
    """True once the process has used no processor for half a second."""
    process = psutil.Process(pid)
    seen: list[tuple[float, float]] = []

    def idle() -> bool:
        now = asyncio.get_running_loop().time()
        times = process.cpu_times()
        seen.append((now, times.user + times.system))
        before = [used for at, used in seen if at <= now - 0.5]
        return bool(before) and seen[-1][1] - before[-1] < 0.03

    return idle


@pytest.mark.parametrize("stream", [True, False])
async def test_hanging_up_stops_the_generation_and_keeps_the_model(
    own: RunningEngine, stream: bool
) -> None:
    async with connect(own) as client:
        await client.post("/api/v1/models/load", json={"model": "slow"})
        (child,) = own.children()
        busy = asyncio.create_task(_read_forever(client, {**ENDLESS, "stream": stream}))
        used = sum(psutil.Process(child).cpu_times()[:2])
        await wait_until(lambda: sum(psutil.Process(child).cpu_times()[:2]) > used + 0.3)
        assert not busy.done()
        busy.cancel()
        await asyncio.wait({busy})
        await wait_until(_idle(child), seconds=20)
        assert (await loaded(client)).keys() == {"slow"}
        assert own.children() == [child]


async def _read_forever(client: httpx.AsyncClient, body: dict) -> None:
    async with client.stream("POST", CHAT, json=body) as answer:
        async for _ in answer.aiter_raw():
            continue


async def test_a_killed_model_is_reported_in_the_stream_and_comes_back(own: RunningEngine) -> None:
    async with connect(own) as client:
        lines: list[str] = []
        async with client.stream("POST", CHAT, json=ENDLESS) as answer:
            async for line in answer.aiter_lines():
                lines += [line] if line else []
                if len(lines) == 3:
                    os.kill(own.children()[0], signal.SIGKILL)
        error = orjson.loads(lines[-1].removeprefix("data: "))["error"]
        assert error["type"] == "model_crashed"
        assert error["message"].startswith("The model has crashed")
        assert "Exit code: -9" in error["message"]
        assert "data: [DONE]" not in lines
        assert await loaded(client) == {}
        again = await client.post(CHAT, json={**ENDLESS, "stream": False, "max_tokens": 3})
        assert again.json()["usage"]["completion_tokens"] == 3


async def test_a_killed_model_is_reported_to_a_plain_request_too(own: RunningEngine) -> None:
    async with connect(own) as client:
        await client.post("/api/v1/models/load", json={"model": "slow"})
        (child,) = own.children()
        asked = asyncio.create_task(client.post(CHAT, json={**ENDLESS, "stream": False}))
        used = sum(psutil.Process(child).cpu_times()[:2])
        await wait_until(lambda: sum(psutil.Process(child).cpu_times()[:2]) > used + 0.2)
        os.kill(child, signal.SIGKILL)
        answer = await asked
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("The model has crashed")


async def test_unloading_a_model_that_answers_says_so_in_the_stream(own: RunningEngine) -> None:
    async with connect(own) as client:
        lines: list[str] = []
        async with client.stream("POST", CHAT, json=ENDLESS) as answer:
            async for line in answer.aiter_lines():
                lines += [line] if line else []
                if len(lines) == 3:
                    await client.post("/api/v1/models/unload", json={"instance_id": "slow"})
        error = orjson.loads(lines[-1].removeprefix("data: "))["error"]
        assert error["type"] == "model_unloaded"
        assert error["message"].startswith("Model has unloaded or crashed..")


async def test_no_model_outlives_a_killed_engine(tmp_path: Path) -> None:
    tinygguf.parrot(tmp_path / "parrot.gguf")
    tinygguf.big(tmp_path / "big.gguf", 1.0)
    async with start_engine(tmp_path) as engine, connect(engine) as client:
        await client.post("/api/v1/models/load", json={"model": "parrot"})
        loading = asyncio.create_task(client.post("/api/v1/models/load", json={"model": "big"}))
        await wait_until(lambda: len(engine.children()) == 2)
        children = engine.children()
        os.kill(engine.pid, signal.SIGKILL)
        await asyncio.wait({loading})
        assert isinstance(loading.exception(), httpx.TransportError)
        await wait_until(lambda: not any(alive(child) for child in children))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_engine_and_its_models_though_one_is_answering(
    models_dir: Path, sign: signal.Signals
) -> None:
    async with start_engine(models_dir) as engine, connect(engine) as client:
        async with client.stream("POST", CHAT, json=ENDLESS) as answer:
            await anext(answer.aiter_raw())
            children = engine.children()
            started = asyncio.get_running_loop().time()
            os.kill(engine.pid, sign)
            await engine.ended()
            assert asyncio.get_running_loop().time() - started < 10
        assert len(children) == 1
        assert not any(alive(child) for child in children)


async def test_the_end_of_stdin_ends_the_engine(models_dir: Path) -> None:
    async with start_engine(models_dir) as engine, connect(engine) as client:
        await client.post("/api/v1/models/load", json={"model": "parrot"})
        children = engine.children()
        assert engine.process.stdin
        engine.process.stdin.close()
        assert await engine.ended() == 0
        assert not any(alive(child) for child in children)
