"""Benchmarks and what was learned, over the API with the real engine behind it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.benchmarking import Benchmarks
from core.jobs import JobService
from core.learned import Learned
from core.library import ModelLibrary
from core.providers import ProviderConfig
from infrastructure.providers.openai.provider import OpenAIProvider
from infrastructure.storage import open_store, sqlite_url
from tests import tinygguf
from tests.desk import DeskUnderTest, read_events, run_desk
from tests.engine_fixture import start_engine
from tests.llama_server import llama_server
from tests.servers import ScriptedLMStudio
from tests.sockets import free_port, serve

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

MODEL = "lmstudio:slow"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.endless(folder / "slow.gguf", ballast_mib=24, name="slow")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.embedder(folder / "embed.gguf")
    tinygguf.big(folder / "big.gguf", 0.5)
    return folder


@asynccontextmanager
async def desk_with(models: Path, folder: Path) -> AsyncGenerator[DeskUnderTest]:
    async with (
        start_engine(models) as engine,
        run_desk(folder, lmstudio_url=engine.url) as desk,
    ):
        yield desk


async def benchmark(desk: DeskUnderTest, **asked: Any) -> list[dict[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    async with desk.stream(
        "POST", "/api/v1/models/benchmark", json=asked, headers=headers, timeout=150
    ) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [event async for event in read_events(answer)]


async def learned(desk: DeskUnderTest, *contexts: int) -> list[dict[str, Any]]:
    """The table, once the loads with these contexts are in it: they wait for a look at the machine."""
    async with asyncio.timeout(30):
        while True:
            rows: list[dict[str, Any]] = (await desk.get("/api/v1/models/learned")).json()
            if set(contexts) <= {row["context_length"] for row in rows if row["loads"]}:
                return rows


async def loaded(desk: DeskUnderTest) -> dict[str, int]:
    found = (await desk.get("/api/v1/models/loaded")).json()
    return {each["id"]: each["instances"][0]["context_length"] for each in found}


async def test_a_benchmark_loads_measures_and_leaves_the_memory_as_it_was(
    models: Path, tmp_path: Path
) -> None:
    async with desk_with(models, tmp_path) as desk:
        events = await benchmark(desk, model_id="slow")
        left = await loaded(desk)
        (row,) = await learned(desk, 4096)
        compared = (await desk.get("/api/v1/models/compare", params={"model": "slow"})).json()

    kinds = {event["type"] for event in events}
    end = events[-1]
    figures = {each["measure"]: each for each in end["result"]["figures"]}
    progress = [e["progress"] for e in events if e["type"] == "benchmark.progress"]
    assert (end["type"], end["status"]) == ("job.end", "done"), end
    assert {"model_load.end", "benchmark.start", "benchmark.measured"} <= kinds
    assert progress == sorted(progress)
    assert set(figures) == {"prompt_512", "prompt_2048", "writing_128"}
    assert figures["prompt_512"]["tokens"] == pytest.approx(512, rel=0.1)
    assert figures["prompt_2048"]["tokens"] == pytest.approx(2048, rel=0.1)
    assert figures["writing_128"]["tokens"] == 128
    assert all(each["tokens_per_second"] > 0 for each in figures.values())
    assert left == {}
    assert row["model_id"] == MODEL
    assert row["benchmark"]["writing_128"] == figures["writing_128"]["tokens_per_second"]
    assert row["benchmark"]["prompt_512"] == figures["prompt_512"]["tokens_per_second"]
    assert row["benchmark"]["prompt_2048"] == figures["prompt_2048"]["tokens_per_second"]
    assert (row["loads"], row["answers"]) == (1, 0)
    assert compared == [row]


async def test_a_model_in_memory_is_measured_as_it_is_and_stays(
    models: Path, tmp_path: Path
) -> None:
    async with desk_with(models, tmp_path) as desk:
        await desk.post("/api/v1/models/load", json={"model_id": "slow", "context_length": 2560})
        events = await benchmark(desk, model_id="slow")
        left = await loaded(desk)

    assert events[-1]["result"]["context_length"] == 2560
    assert events[-1]["result"]["load_time_seconds"] is None
    assert all(each["rounds"] >= 2 for each in events if each["type"] == "benchmark.measured")
    assert left == {"slow": 2560}


async def test_a_context_too_small_for_a_prompt_is_said_and_the_old_one_comes_back(
    models: Path, tmp_path: Path
) -> None:
    async with desk_with(models, tmp_path) as desk:
        await desk.post("/api/v1/models/load", json={"model_id": "slow", "context_length": 2048})
        events = await benchmark(desk, model_id="slow", context_length=512)
        left = await loaded(desk)
        rows = await learned(desk, 512, 2048)

    notices = [e for e in events if e["type"] == "notice"]
    assert events[-1]["status"] == "done", events[-1]
    assert {each["code"] for each in notices} == {"context_too_small"}
    assert len(notices) == 2
    assert events[-1]["result"]["context_length"] == 512
    assert left == {"slow": 2048}
    assert {row["context_length"]: row["benchmark"] is not None for row in rows} == {
        512: True,
        2048: False,
    }


async def test_a_stop_ends_it_at_once_and_nothing_is_left(models: Path, tmp_path: Path) -> None:
    async with desk_with(models, tmp_path) as desk:
        job = (await desk.post("/api/v1/models/benchmark", json={"model_id": "slow"})).json()
        again = (await desk.post("/api/v1/models/benchmark", json={"model_id": "slow"})).json()
        assert again["id"] == job["id"]
        phase = ""
        while phase != "reading":
            state = (await desk.get(f"/api/v1/jobs/{job['id']}")).json()
            assert state["state"] == "running", state
            phase = state["phase"]
        stopped = (await desk.post(f"/api/v1/jobs/{job['id']}/stop")).json()
        running: list[Any] = [None]
        while running:
            running = (await desk.get("/api/v1/jobs", params={"state": "running"})).json()
        left = await loaded(desk)
        rows = (await desk.get("/api/v1/models/learned")).json()

    assert stopped["state"] == "stopped"
    assert left == {}
    assert [row["benchmark"] for row in rows] == [None] * len(rows)


async def test_a_model_that_ends_early_says_so_and_teaches_no_speed(
    models: Path, tmp_path: Path
) -> None:
    async with desk_with(models, tmp_path) as desk:
        events = await benchmark(desk, model_id="parrot")
        (row,) = (await desk.get("/api/v1/models/learned")).json()

    assert [e["code"] for e in events if e["type"] == "notice"] == ["too_short"]
    assert row["benchmark"]["writing_128"] is None
    assert row["benchmark"]["prompt_512"] > 0


async def test_our_own_engine_times_itself(models: Path, tmp_path: Path) -> None:
    settings = {
        "embedded": "always",
        "models_dir": models,
        "lmstudio_url": f"http://127.0.0.1:{free_port()}",
    }
    async with run_desk(tmp_path, **settings) as desk:
        async with asyncio.timeout(60):
            while "embedded:slow" not in [
                m["full_name"] for m in (await desk.get("/api/v1/models/")).json()
            ]:
                await desk.get("/api/v1/models/", params={"refresh": True})
        events = await benchmark(desk, model_id="embedded:slow")
        chat = await desk.chat()
        asked = {"model_id": "embedded:slow", "parameters": {"max_tokens": 40}}
        receipt = await desk.ask(chat, "Tell me more of it. " * 20, **asked)
        await desk.events(receipt["job_id"])
        (row,) = (await desk.get("/api/v1/models/learned")).json()

    assert events[-1]["status"] == "done", events[-1]
    assert [each["timed_by"] for each in events[-1]["result"]["figures"]] == ["server"] * 3
    assert (row["answers"], len(row["prompt_history"]), len(row["writing_history"])) == (1, 3, 2)


async def test_a_model_of_vectors_and_an_unknown_one_are_refused(
    models: Path, tmp_path: Path
) -> None:
    async with desk_with(models, tmp_path) as desk:
        vectors = await desk.post("/api/v1/models/benchmark", json={"model_id": "embed"})
        unknown = await desk.post("/api/v1/models/benchmark", json={"model_id": "nobody"})

    assert (vectors.status_code, vectors.json()["code"]) == (422, "bad_parameter")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")


async def test_answers_teach_their_speed_and_it_outlives_a_restart(
    models: Path, tmp_path: Path
) -> None:
    async with start_engine(models) as engine:
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            chat = await desk.chat()
            # Sixty tokens of this model take 50 ms, in which an answer counts as come in one piece.
            parameters = {"max_tokens": 1600}
            receipt = await desk.ask(chat, "Go on", model_id="slow", parameters=parameters)
            await desk.events(receipt["job_id"])
            (before,) = await learned(desk, 4096)
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            (after,) = (await desk.get("/api/v1/models/learned")).json()

    assert before["answers"] == 1
    assert before["tokens_per_second"] > 0
    assert before["load_seconds"] > 0
    assert after == before


async def test_an_answer_under_way_is_waited_for(models: Path, tmp_path: Path) -> None:
    async with desk_with(models, tmp_path) as desk:
        chat = await desk.chat()
        asked = {"model_id": "slow", "parameters": {"max_tokens": 4000}}
        turn = await desk.ask(chat, "Go on", **asked)
        text: list[str] = []
        while not text:
            state = (await desk.get(f"/api/v1/jobs/{turn['job_id']}")).json()
            text = [state["phase"]] if state["phase"] == "writing" else []
        job = (await desk.post("/api/v1/models/benchmark", json={"model_id": "slow"})).json()
        stage = ""
        while "answers being written" not in stage:
            state = (await desk.get(f"/api/v1/jobs/{job['id']}")).json()
            assert state["state"] == "running", state
            stage = state["stage"] or ""
        await desk.post(f"/api/v1/jobs/{turn['job_id']}/stop")
        while state["phase"] == "queued":
            state = (await desk.get(f"/api/v1/jobs/{job['id']}")).json()
        stopped = (await desk.post(f"/api/v1/jobs/{job['id']}/stop")).json()

    assert state["phase"] == "reading"
    assert stopped["state"] == "stopped"


async def test_a_real_llama_server_is_measured_by_its_own_timings(
    models: Path, tmp_path: Path
) -> None:
    command = ("--model", str(models / "slow.gguf"), "--ctx-size", "4096", "--parallel", "1")
    async with llama_server(*command) as url:
        providers = {"llama": {"kind": "llamacpp", "base_url": url}}
        async with run_desk(tmp_path, providers=providers) as desk:
            (model,) = (await desk.get("/api/v1/models/")).json()
            events = await benchmark(desk, model_id=model["full_name"])
            (row,) = (await desk.get("/api/v1/models/learned")).json()

    figures = events[-1]["result"]["figures"]
    assert events[-1]["status"] == "done", events[-1]
    assert [each["timed_by"] for each in figures] == ["server"] * 3
    assert [each["rounds"] >= 2 for each in figures] == [True] * 3
    assert row["model_id"] == model["full_name"]
    assert row["benchmark"]["prompt_2048"] > 0


async def test_somebody_elses_computer_is_asked_each_thing_once(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=128, rate=1000)
    async with serve(studio) as url, open_store(sqlite_url(tmp_path)) as store:
        config = ProviderConfig(name="cloud", kind="openai", base_url=url, remote=True)
        provider, jobs = OpenAIProvider(config), JobService()
        library = ModelLibrary([], jobs)
        library.add(provider, config)
        learned = Learned(store.speeds, store.load_history)
        model = await library.resolve("qwen/qwen3-4b")
        job = Benchmarks(library, jobs, learned).start(model)
        await job.ended.wait()
        await learned.aclose()
        await library.aclose()
        await provider.aclose()

    assert job.state == "done", job.error
    assert [each["rounds"] for each in job.result["figures"]] == [1, 1, 1]
    asked = studio.requests("/v1/chat/completions")
    # Two small ones first, which tell what words cost.
    assert len(asked) == 5
    prompts = [each.body["messages"][-1]["content"] for each in asked]
    assert len({prompt[:8] for prompt in prompts[:4]}) == 4


async def test_the_first_load_after_a_restart_knows_how_long_it_takes(
    models: Path, tmp_path: Path
) -> None:
    async with start_engine(models) as engine:
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            await desk.post("/api/v1/models/load", json={"model_id": "big"})
            (row,) = await learned(desk, 4096)
            await desk.post("/api/v1/models/unload", json={"model_id": "big"})
        async with run_desk(tmp_path, lmstudio_url=engine.url) as desk:
            load = {"model_id": "big"}
            job = (await desk.post("/api/v1/models/load", params={"wait": False}, json=load)).json()
            usual = None
            while usual is None:
                state = (await desk.get(f"/api/v1/jobs/{job['id']}")).json()
                assert state["state"] == "running", "it was over before anybody could look"
                usual = state["usual_seconds"]

    assert usual == row["load_seconds"]
