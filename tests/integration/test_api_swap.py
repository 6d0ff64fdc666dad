"""Plans, swaps and the memory map through the API, with a scripted LM Studio behind it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.desk import read_events
from tests.integration.test_api import desk_on
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import Send, Watch, until

pytestmark = pytest.mark.anyio

OLD, NEW = "qwen/qwen3-4b", "google/gemma-3-1b"


def studio_of_two(**more: Any) -> ScriptedLMStudio:
    models = [ScriptedModel(OLD, instances={OLD: 16_384}), ScriptedModel(NEW)]
    return ScriptedLMStudio(models=models, **more)


async def test_a_plan_says_what_is_needed_free_and_in_memory(tmp_path: Path) -> None:
    async with desk_on(studio_of_two(), tmp_path) as desk:
        plan = (await desk.get("/api/v1/models/plan", params={"model_id": NEW})).json()

    assert (plan["model_id"], plan["loaded"]) == (f"lmstudio:{NEW}", False)
    assert (plan["need_source"], plan["need_bytes"] > 500_000_000) == ("estimated", True)
    assert plan["free_bytes"] < plan["total_bytes"]
    (resident,) = plan["residents"]
    assert (resident["model_id"], resident["ours"]) == (f"lmstudio:{OLD}", False)
    assert resident["context_length"] == 16_384
    assert plan["unload"] == []
    assert plan["sentences"]


async def test_a_plan_takes_the_options_of_a_load(tmp_path: Path) -> None:
    async with desk_on(studio_of_two(), tmp_path) as desk:
        needs = []
        for context in (2048, 32_768):
            asked = {"model_id": NEW, "context_length": context, "flash_attention": "true"}
            answer = await desk.get("/api/v1/models/plan", params=asked)
            needs.append(answer.json()["need_bytes"])

    assert needs[0] < needs[1]


async def test_a_second_plan_knows_how_long_the_load_took(tmp_path: Path) -> None:
    async with desk_on(studio_of_two(), tmp_path) as desk:
        await desk.post("/api/v1/models/load", json={"model_id": NEW})
        await desk.post("/api/v1/models/unload", json={"model_id": NEW})

        seconds = None
        async with asyncio.timeout(20):
            while seconds is None:  # written down once the machine was sampled again
                plan = await desk.get("/api/v1/models/plan", params={"model_id": NEW})
                seconds = plan.json()["last_load_seconds"]

    assert 0 < seconds < 20


async def test_a_swap_ends_with_one_out_and_one_in(tmp_path: Path) -> None:
    studio = studio_of_two()
    async with desk_on(studio, tmp_path) as desk:
        body = {"model_id": NEW, "unload": [OLD], "context_length": 4096}
        answer = await desk.post("/api/v1/models/swap", json=body)
        job = answer.json()
        events = await desk.events(job["id"])
        loaded = (await desk.get("/api/v1/models/loaded")).json()

    assert (answer.status_code, job["kind"], job["model_id"]) == (202, "load", f"lmstudio:{NEW}")
    assert events[-1]["status"] == "done"
    assert events[-1]["result"]["context_length"] == 4096
    assert [model["id"] for model in loaded] == [NEW]
    assert (studio.models[OLD].instances, studio.models[NEW].instances) == ({}, {NEW: 4096})


async def test_a_swap_as_events_shows_the_load(tmp_path: Path) -> None:
    headers = {"Accept": "text/event-stream"}
    async with (
        desk_on(studio_of_two(), tmp_path) as desk,
        desk.stream(
            "POST",
            "/api/v1/models/swap",
            json={"model_id": NEW, "unload": [OLD]},
            headers=headers,
        ) as answer,
    ):
        assert answer.headers["x-job-id"]
        events = [event async for event in read_events(answer)]

    assert events[-1]["status"] == "done"
    assert "model_load.progress" in {event["type"] for event in events}


async def test_a_swap_waits_for_the_answer_unless_told_now(tmp_path: Path) -> None:
    studio = studio_of_two(tokens=100_000, rate=200)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat(title="Lisbon")
        await desk.ask(chat, "Count", model_id=OLD)
        await until(lambda: studio.sent_tokens > 5)
        plan = (await desk.get("/api/v1/models/plan", params={"model_id": NEW})).json()
        assert plan["residents"][0]["chats"] == [{"id": chat, "title": "Lisbon"}]
        body = {"model_id": NEW, "unload": [OLD]}
        idle = (await desk.post("/api/v1/models/swap", json=body)).json()
        waiting = idle
        async with asyncio.timeout(20):
            while waiting["stage"] is None:
                waiting = (await desk.get(f"/api/v1/jobs/{idle['id']}")).json()
        assert (waiting["phase"], waiting["state"]) == ("queued", "running")
        assert waiting["stage"] == "waiting for the answer in “Lisbon” to end"
        assert (await desk.post(f"/api/v1/jobs/{idle['id']}/stop")).json()["state"] == "stopped"
        assert studio.models[OLD].instances

        now = await desk.post("/api/v1/models/swap", json={**body, "when": "now"})
        assert (await desk.events(now.json()["id"]))[-1]["status"] == "done"
        message = await desk.last_message(chat)

    assert (message["status"], message["reason"]) == ("interrupted", "model_changed")
    assert message["content"].startswith("0 1 2 ")
    assert message["model"]["asked"] == f"lmstudio:{OLD}"
    assert studio.models[OLD].instances == {}


class PickyStudio(ScriptedLMStudio):
    """Refuses to load the new model, and only that."""

    async def _native_chat(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        words = "Model loading was stopped due to insufficient system resources."
        error = {"error": {"type": "model_load_failed", "message": words}}
        self.load_error = (500, error) if body["model"] == NEW else None
        await super()._native_chat(body, watch, send)


async def test_a_swap_that_fails_says_why_and_that_the_old_one_is_back(tmp_path: Path) -> None:
    studio = PickyStudio(models=[ScriptedModel(OLD), ScriptedModel(NEW)])
    async with desk_on(studio, tmp_path) as desk:
        await desk.post("/api/v1/models/load", json={"model_id": OLD, "context_length": 8000})
        plan = (await desk.get("/api/v1/models/plan", params={"model_id": NEW})).json()
        assert [each["ours"] for each in plan["residents"]] == [True]
        started = await desk.post("/api/v1/models/swap", json={"model_id": NEW, "unload": [OLD]})
        end = (await desk.events(started.json()["id"]))[-1]

    assert (end["status"], end["error"]["code"]) == ("failed", "not_enough_memory")
    assert "insufficient system resources" in end["error"]["message"]
    assert end["error"]["hint"].endswith("QWEN3-4B is loaded again.")
    assert (studio.models[OLD].instances, studio.models[NEW].instances) == ({OLD: 8000}, {})


BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("GET", {"model_id": "qwen3-4"}, 404, "model_not_found", OLD),
    ("GET", {"model_id": ""}, 422, "bad_parameter", "model_id"),
    ("GET", {}, 422, "bad_parameter", "model_id"),
    ("GET", {"model_id": NEW, "context_length": "7"}, 422, "bad_parameter", "context_length"),
    ("POST", {"model_id": "gemma-3"}, 404, "model_not_found", NEW),
    ("POST", {"model_id": NEW, "unload": ["qwen3-4"]}, 404, "model_not_found", OLD),
    ("POST", {"model_id": NEW, "when": "later"}, 422, "bad_parameter", "when"),
    ("POST", {"model_id": NEW, "unload": [OLD] * 101}, 422, "bad_parameter", "unload"),
    ("POST", {"model_id": NEW, "gpu_offload": 1.5}, 422, "bad_parameter", "gpu_offload"),
    ("POST", {"model_id": NEW, "kv_cache_type": "q2"}, 422, "bad_parameter", "kv_cache_type"),
    ("POST", {"unload": [OLD]}, 422, "bad_parameter", "model_id"),
]


async def test_bad_calls_are_refused_by_name_and_touch_nothing(tmp_path: Path) -> None:
    studio = studio_of_two()
    async with desk_on(studio, tmp_path) as desk:
        for method, given, status, code, named in BAD:
            if method == "GET":
                answer = await desk.get("/api/v1/models/plan", params=given)
            else:
                answer = await desk.post("/api/v1/models/swap", json=given)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (status, code), (given, problem)
            assert named in problem["detail"] + problem["hint"], problem
            assert problem["hint"]
        assert (await desk.get("/api/v1/jobs", params={"state": "running"})).json() == []

    assert studio.models[OLD].instances == {OLD: 16_384}


async def test_the_memory_map_adds_up_and_shows_the_loaded_model(tmp_path: Path) -> None:
    async with desk_on(studio_of_two(), tmp_path) as desk:
        bars = (await desk.get("/api/v1/models/memory")).json()["bars"]

    assert bars
    for bar in bars:
        parts = bar["other"] + bar["free"] + sum(each["bytes"] for each in bar["slices"])
        assert parts == bar["total"]
    slices = [each for bar in bars for each in bar["slices"]]
    assert {each["model_id"] for each in slices} == {f"lmstudio:{OLD}"}
    assert {each["source"] for each in slices} == {"estimate"}
