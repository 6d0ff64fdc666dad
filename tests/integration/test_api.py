"""The API over real sockets, with a scripted LM Studio behind it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.desk import DeskUnderTest, read_events, run_desk
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, serve, until

pytestmark = pytest.mark.anyio

QWEN = "qwen/qwen3-4b"


@asynccontextmanager
async def desk_on(
    studio: ScriptedLMStudio, folder: Path, **settings: Any
) -> AsyncGenerator[DeskUnderTest]:
    async with serve(studio) as url, run_desk(folder, lmstudio_url=url, **settings) as desk:
        yield desk


async def test_models_are_listed_with_their_state(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        models = (await desk.get("/api/v1/models/")).json()

    assert isinstance(models, list)
    qwen = next(model for model in models if model["id"] == QWEN)
    assert (qwen["loaded"], qwen["provider"], qwen["full_name"]) == (
        False,
        "lmstudio",
        f"lmstudio:{QWEN}",
    )
    assert qwen["name"]


async def test_load_and_unload_say_success_when_the_list_shows_it(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    async with desk_on(studio, tmp_path) as desk:
        loaded = await desk.post("/api/v1/models/load", json={"model_id": QWEN})
        assert loaded.json() == {
            "success": True,
            "message": f"Model {QWEN} loaded successfully",
            "model_id": QWEN,
        }
        assert [m["id"] for m in (await desk.get("/api/v1/models/loaded")).json()] == [QWEN]
        again = await desk.post("/api/v1/models/load", json={"model_id": f"lmstudio:{QWEN}"})
        assert again.json()["success"] is True
        assert len(studio.models[QWEN].instances) == 1

        unloaded = await desk.post("/api/v1/models/unload", json={"model_id": QWEN})
        assert unloaded.json()["success"] is True
        assert (await desk.get("/api/v1/models/loaded")).json() == []


async def test_a_server_that_answers_200_to_everything_is_not_believed(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    studio.lies = True
    async with desk_on(studio, tmp_path) as desk:
        answer = await desk.post("/api/v1/models/load", json={"model_id": QWEN})

    assert answer.status_code == 502
    assert answer.json()["success"] is False
    assert answer.json()["code"] == "load_unproven"


async def test_a_load_as_events_rises_and_ends(tmp_path: Path) -> None:
    headers = {"Accept": "text/event-stream"}
    async with (
        desk_on(ScriptedLMStudio(), tmp_path) as desk,
        desk.stream(
            "POST", "/api/v1/models/load", json={"model_id": QWEN}, headers=headers
        ) as answer,
    ):
        assert answer.headers["x-job-id"]
        events = [event async for event in read_events(answer)]
    progress = [e["progress"] for e in events if e["type"] == "model_load.progress"]

    assert len(progress) >= 3
    assert progress == sorted(progress)
    assert events[-1]["status"] == "done"
    assert events[-1]["result"]["context_length"]


async def test_a_turn_is_answered_and_kept(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=20)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        receipt = await desk.ask(chat, "Count", model_id=QWEN)
        events = await desk.events(receipt["job_id"])
        text = "".join(e["content"] for e in events if e["type"] == "message.delta")
        message = await desk.last_message(chat)
        listed = (await desk.get("/api/v1/chats")).json()["chats"][0]

    assert text == " ".join(str(n) for n in range(20)) + " "
    assert message["content"] == text
    assert message["status"] == "done"
    assert message["model"]["asked"] == f"lmstudio:{QWEN}"
    assert message["stats"]["output_tokens"] == 20
    assert listed["title"] == "Count"
    assert listed["running_job_id"] is None


async def test_resuming_gives_the_rest_and_only_that(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=200, rate=400)
    async with desk_on(studio, tmp_path) as desk:
        receipt = await desk.ask(await desk.chat(), "Count", model_id=QWEN)
        url = f"/api/v1/jobs/{receipt['job_id']}/events"
        first: list[dict[str, Any]] = []
        async with desk.stream("GET", url) as answer:
            async for event in read_events(answer):
                first.append(event)
                if len([e for e in first if e["type"] == "message.delta"]) == 5:
                    break
        headers = {"Last-Event-ID": str(first[-1]["id"])}
        async with desk.stream("GET", url, headers=headers) as answer:
            rest = [event async for event in read_events(answer)]
        merged = await desk.events(receipt["job_id"], merge_ms=50)

    whole = [e for e in first + rest if e["type"] == "message.delta"]
    expected = " ".join(str(n) for n in range(200)) + " "
    assert "".join(e["content"] for e in whole) == expected
    assert "".join(e["content"] for e in merged if e["type"] == "message.delta") == expected


async def test_stopping_reaches_upstream_and_keeps_the_text(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=100_000, rate=200)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        receipt = await desk.ask(chat, "Count", model_id=QWEN)
        await until(lambda: studio.sent_tokens > 10)
        stopped = await desk.post(f"/api/v1/jobs/{receipt['job_id']}/stop")
        await until(lambda: studio.open == 0, seconds=2)
        message = await desk.last_message(chat)

    assert stopped.json()["state"] == "stopped"
    assert studio.aborted == 1
    assert message["status"] == "stopped"
    assert message["content"].startswith("0 1 2 ")


async def test_unloading_while_answering_is_refused_with_the_chat(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=100_000, rate=200)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        receipt = await desk.ask(chat, "Count", model_id=QWEN)
        await until(lambda: studio.sent_tokens > 3)
        refused = await desk.post("/api/v1/models/unload", json={"model_id": QWEN})
        assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
        assert refused.json()["chats"] == [chat]
        assert (await desk.get(f"/api/v1/jobs/{receipt['job_id']}")).json()["state"] == "running"

        forced = await desk.post("/api/v1/models/unload", json={"model_id": QWEN, "force": True})
        message = await desk.last_message(chat)

    assert forced.json()["success"] is True
    assert (message["status"], message["reason"]) == ("interrupted", "model_unloaded")
    assert message["content"].startswith("0 1 2 ")


async def test_leaving_a_turns_stream_does_not_end_it(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=100, rate=200)
    headers = {"Accept": "text/event-stream"}
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        body = {"content": "Count", "model_id": QWEN}
        url = f"/api/v1/chats/{chat}/turns"
        async with desk.stream("POST", url, json=body, headers=headers) as answer:
            job = answer.headers["x-job-id"]
            async for _ in read_events(answer):
                break
        events = await desk.events(job)
        assert events[-1]["status"] == "done"
        assert (await desk.last_message(chat))["status"] == "done"


BAD_CALLS: list[tuple[str, str, dict[str, Any] | None, int, str, str]] = [
    ("POST", "/models/load", {"model_id": "qwen3-4"}, 404, "model_not_found", QWEN),
    ("POST", "/models/load", {"model_id": ""}, 422, "bad_parameter", "model_id"),
    ("POST", "/models/load", {"model": "x"}, 422, "bad_parameter", "model"),
    ("GET", "/models/olama", None, 404, "provider_not_found", "olama"),
    ("GET", "/models/lmstudio/nope", None, 404, "model_not_found", "nope"),
    ("GET", "/chats/nope", None, 404, "chat_not_found", "nope"),
    ("POST", "/chats/nope/turns", {"content": "Hi"}, 404, "chat_not_found", "nope"),
    ("POST", "/chats/CHAT/turns", {"content": " "}, 422, "message_empty", "empty"),
    ("POST", "/chats/CHAT/turns", {"content": "x" * 1_000_000}, 413, "message_too_long", "1,000"),
    (
        "POST",
        "/chats/CHAT/turns",
        {"content": "Hi", "parameters": {"temperature": 9}},
        422,
        "bad_parameter",
        "temperature",
    ),
    (
        "POST",
        "/chats/CHAT/turns",
        {"content": "Hi", "model_id": "nope"},
        404,
        "model_not_found",
        "nope",
    ),
    (
        "POST",
        "/chats/CHAT/turns",
        {"content": "Hi", "model_id": "text-embedding-nomic"},
        422,
        "bad_parameter",
        "embeddings",
    ),
    ("GET", "/jobs/nope", None, 404, "job_not_found", "nope"),
    ("POST", "/jobs/nope/stop", None, 404, "job_not_found", "nope"),
    ("GET", "/agents/nope", None, 404, "agent_not_found", "General"),
    ("GET", "/nowhere", None, 404, "not_found", "/nowhere"),
    ("DELETE", "/agents", None, 405, "method_not_allowed", "DELETE"),
]


async def test_bad_calls_get_a_clear_sentence_and_leave_the_chat_intact(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        chat = await desk.chat()
        for method, path, body, status, code, named in BAD_CALLS:
            url = f"/api/v1{path.replace('CHAT', chat)}"
            answer = await desk.request(method, url, json=body)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (status, code), (path, problem)
            assert answer.headers["content-type"] == "application/problem+json"
            assert named in problem["detail"] + problem["hint"], problem
            assert problem["hint"]
        assert (await desk.get(f"/api/v1/chats/{chat}")).json()["messages"] == []
        receipt = await desk.ask(chat, model_id=QWEN)
        assert (await desk.events(receipt["job_id"]))[-1]["status"] == "done"


async def test_a_body_that_is_no_json_is_named(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        headers = {"Content-Type": "application/json"}
        answer = await desk.post("/api/v1/models/load", content=b"{", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_json")


async def test_without_lm_studio_the_api_says_what_to_do(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with run_desk(tmp_path, lmstudio_url=url) as desk:
        assert (await desk.get("/api/v1/models/")).json() == []
        (health,) = (await desk.get("/api/v1/models/providers/health")).json()
        chat = await desk.chat()
        refused = await desk.post(f"/api/v1/chats/{chat}/turns", json={"content": "Hi"})
        load = await desk.post("/api/v1/models/load", json={"model_id": "lmstudio:any"})

    assert health["state"] == "unreachable"
    assert "LM Studio" in health["hint"]
    assert refused.status_code == 404
    assert load.status_code in (404, 503)


async def test_lm_studio_shows_up_by_itself(tmp_path: Path) -> None:
    port = free_port()
    async with run_desk(tmp_path, lmstudio_url=f"http://127.0.0.1:{port}") as desk:
        before = (await desk.get("/api/v1/pulse")).json()
        assert before["providers"][0]["state"] == "unreachable"
        async with serve(ScriptedLMStudio(), port=port), asyncio.timeout(20):
            while True:
                pulse = (await desk.get("/api/v1/pulse")).json()
                if pulse["models_revision"] > before["models_revision"]:
                    break
                await asyncio.sleep(0.05)
            assert pulse["providers"][0]["state"] == "ready"
            assert len((await desk.get("/api/v1/models/")).json()) == 2


async def test_chats_can_be_renamed_deleted_and_brought_back(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        chat = await desk.chat(title="First")
        renamed = await desk.patch(f"/api/v1/chats/{chat}", json={"title": " Second "})
        assert renamed.json()["title"] == "Second"
        assert (await desk.delete(f"/api/v1/chats/{chat}")).status_code == 204
        assert (await desk.get("/api/v1/chats")).json()["total"] == 0
        assert (await desk.get(f"/api/v1/chats/{chat}")).status_code == 404
        restored = await desk.post(f"/api/v1/chats/{chat}/restore")
        assert restored.json()["title"] == "Second"
        assert (await desk.get("/api/v1/chats", params={"q": "sec"})).json()["total"] == 1


async def test_answering_again_keeps_both_and_the_branch_can_be_chosen(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(tokens=3), tmp_path) as desk:
        chat = await desk.chat()
        first = await desk.ask(chat, "One", model_id=QWEN)
        await desk.events(first["job_id"])
        again = await desk.post(
            f"/api/v1/chats/{chat}/turns", json={"parent_id": first["user_message_id"]}
        )
        await desk.events(again.json()["job_id"])
        shown = await desk.last_message(chat)
        assert shown["id"] == again.json()["message_id"]
        assert shown["siblings"] == [first["message_id"], again.json()["message_id"]]

        await desk.patch(f"/api/v1/chats/{chat}", json={"head_id": first["message_id"]})
        assert (await desk.last_message(chat))["id"] == first["message_id"]


async def test_a_chat_can_be_exported_imported_and_forked(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(tokens=3), tmp_path) as desk:
        chat = await desk.chat()
        for question in ("One elephant", "Two"):
            receipt = await desk.ask(chat, question, model_id=QWEN)
            await desk.events(receipt["job_id"])
        before = (await desk.get(f"/api/v1/chats/{chat}")).json()["messages"]
        file = await desk.get(f"/api/v1/chats/{chat}/export")
        assert "One-elephant.json" in file.headers["content-disposition"]

        copy = (await desk.post("/api/v1/chats/import", json=file.json())).json()
        after = (await desk.get(f"/api/v1/chats/{copy['id']}")).json()["messages"]
        fork = await desk.post(f"/api/v1/chats/{chat}/fork", json={"message_id": before[1]["id"]})
        forked = (await desk.get(f"/api/v1/chats/{fork.json()['id']}")).json()["messages"]
        found = (await desk.get("/api/v1/chats", params={"q": "eleph"})).json()
        refused = await desk.post("/api/v1/chats/import", json={"format": "other"})

    texts = [(m["role"], m["content"]) for m in before]
    assert copy["title"] == "One elephant"
    assert [(m["role"], m["content"]) for m in after] == texts
    assert {m["id"] for m in after}.isdisjoint(m["id"] for m in before)
    assert [(m["role"], m["content"]) for m in forked] == texts[:2]
    assert found["total"] == 3
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


async def test_the_pulse_tells_another_tab_that_something_runs(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=100_000, rate=100)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        quiet = (await desk.get("/api/v1/pulse", params={"chat_id": chat})).json()
        receipt = await desk.ask(chat, model_id=QWEN)
        await until(lambda: studio.sent_tokens > 3)
        busy = (await desk.get("/api/v1/pulse", params={"chat_id": chat})).json()
        await desk.post(f"/api/v1/jobs/{receipt['job_id']}/stop")
        after = (await desk.get("/api/v1/pulse", params={"chat_id": chat})).json()

    assert quiet["chat"]["running_job_id"] is None
    assert busy["chat"]["running_job_id"] == receipt["job_id"]
    assert busy["jobs"][0]["phase"] == "writing"
    assert quiet["chat"]["revision"] < busy["chat"]["revision"] < after["chat"]["revision"]
    assert after["jobs"] == []


async def test_the_rest_of_the_door_answers(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        agents = (await desk.get("/api/v1/agents")).json()
        now = (await desk.get("/api/v1/hardware")).json()
        history = (await desk.get("/api/v1/hardware/history")).json()
        async with desk.stream("GET", "/api/v1/hardware/events") as answer:
            sample = await anext(read_events(answer))
        found = (await desk.get("/api/v1/models/search", params={"q": "qwen 4b"})).json()
        one = (await desk.get(f"/api/v1/models/lmstudio/{QWEN}")).json()
        docs = await desk.get("/docs")
        paths = (await desk.get("/openapi.json")).json()["paths"]

        assert (await desk.get("/livez")).json() == {"status": "ok"}
        assert (await desk.get("/readyz")).json() == {"status": "ok"}
        for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "docs.js"):
            assert (await desk.get(f"/docs-assets/{asset}")).status_code == 200
    assert [agent["name"] for agent in agents] == [
        "General",
        "Coding",
        "Research",
        "Creative",
        "Analysis",
    ]
    assert now["memory_total"] > 0
    assert history["samples"]
    assert sample["cpu_count"] >= 1
    assert found[0]["id"] == one["id"] == QWEN
    assert "http" not in docs.text
    assert "/api/v1/chats/{chat_id}/turns" in paths


async def test_128_answers_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(
        tokens=150, rate=50, models=[ScriptedModel(QWEN, instances={QWEN: 8192})]
    )
    expected = " ".join(str(n) for n in range(150)) + " "
    async with desk_on(studio, tmp_path) as desk:

        async def one() -> str:
            chat = await desk.chat()
            receipt = await desk.ask(chat, "Count", model_id=QWEN)
            events = await desk.events(receipt["job_id"])
            assert events[-1]["status"] == "done", events[-1]["error"]
            numbers = [event["id"] for event in events if event["id"]]
            assert numbers == sorted(set(numbers))
            kept = (await desk.last_message(chat))["content"]
            text = "".join(e["content"] for e in events if e["type"] == "message.delta")
            assert kept == text
            return text

        texts = await asyncio.gather(*(one() for _ in range(128)))

    assert texts == [expected] * 128
    assert studio.most_open > 32
