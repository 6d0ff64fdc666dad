"""Runs over HTTP, with a tool server that is a real process, and what is left when they end."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.agent_upstream import AgentUpstream, Call, Say
from tests.desk import DeskUnderTest, read_events, run_desk
from tests.sockets import serve, until
from tests.tool_boxes import scripted

pytestmark = pytest.mark.anyio

TASK = {"task": "Say it.", "servers": ["box"], "model": "lmstudio:qwen/qwen3-4b"}
ECHO = Call("echo", {"text": "hello"})


@asynccontextmanager
async def desk_with_tools(
    folder: Path, **plan: Any
) -> AsyncGenerator[tuple[DeskUnderTest, AgentUpstream]]:
    """An API before a scripted model, and a tool server that a person has trusted."""
    upstream = AgentUpstream()
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"box": scripted(**plan)}}))
    async with serve(upstream) as url, run_desk(folder, lmstudio_url=url) as desk:
        server = (await desk.get("/api/v1/tool-servers/box")).json()
        trusted = await desk.post("/api/v1/tool-servers/box/trust", json={"hash": server["hash"]})
        assert trusted.status_code == 200, trusted.text
        yield desk, upstream
    assert not [each for each in psutil.Process().children(recursive=True) if each.is_running()]


async def started(desk: DeskUnderTest, **more: Any) -> str:
    answer = await desk.post("/api/v1/runs", json={**TASK, **more})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["run_id"] == body["job_id"]
    assert body["model_id"] == TASK["model"]
    return str(body["run_id"])


async def waiting(desk: DeskUnderTest, run_id: str) -> dict[str, Any]:
    """The call that waits for a person."""
    async with asyncio.timeout(60):
        while True:
            run = (await desk.get(f"/api/v1/runs/{run_id}")).json()
            if run["approvals"]:
                return dict(run["approvals"][0])
            assert run["state"] == "running", run
            await asyncio.sleep(0.02)


async def test_a_run_is_started_watched_approved_and_read_again(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream):
        upstream.plays(Say("I say it.", [ECHO]), Say("Said."))
        run_id = await started(desk)
        approval = await waiting(desk, run_id)
        assert approval["why"] == "The server does not say that it only reads."
        url = f"/api/v1/runs/{run_id}/approvals/{approval['call_id']}"

        yes = {"decision": "approve", "arguments_hash": approval["arguments_hash"]}
        assert (await desk.post(url, json=yes)).status_code == 200
        again = await desk.post(url, json=yes)
        assert (again.status_code, again.json()["code"]) == (409, "approval_closed")

        events = await desk.events(run_id)
        assert events[-1]["result"]["output"] == "Said."
        half = await desk.get(f"/api/v1/runs/{run_id}/events", params={"after": events[3]["id"]})
        assert half.text.count("data: ") == len(events) - 4
        run = (await desk.get(f"/api/v1/runs/{run_id}")).json()
        call = run["steps"][0]["calls"][0]
        assert (run["state"], call["preview"]) == ("done", "hello")
        whole = await desk.get(f"/api/v1/runs/{run_id}/calls/{call['id']}/result")
        assert whole.json()["text"] == "hello"
        listed = (await desk.get("/api/v1/runs")).json()
        assert [each["id"] for each in listed["runs"]] == [run_id]

        assert (await desk.delete(f"/api/v1/runs/{run_id}")).status_code == 204
        gone = await desk.get(f"/api/v1/runs/{run_id}")
        assert (gone.status_code, gone.json()["code"]) == (404, "run_not_found")


async def test_with_an_event_stream_asked_for_the_run_streams_at_once(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream):
        upstream.plays(Say("I say it.", [ECHO]), Say("Said."))
        headers = {"accept": "text/event-stream"}
        body = {**TASK, "approve": "auto"}
        async with desk.stream("POST", "/api/v1/runs", json=body, headers=headers) as answer:
            assert answer.headers["x-run-id"] == answer.headers["x-job-id"]
            events = [event async for event in read_events(answer)]

        assert events[-1]["status"] == "done"
        assert {"tool_call.start", "tool_call.arguments", "tool_call.success"} <= {
            event["type"] for event in events
        }


async def test_what_is_let_run_for_good_is_listed_and_taken_back(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream):
        upstream.plays(Say("", [ECHO]), Say("Said."))
        run_id = await started(desk)
        approval = await waiting(desk, run_id)
        url = f"/api/v1/runs/{run_id}/approvals/{approval['call_id']}"
        await desk.post(url, json={"decision": "approve", "remember": "tool"})
        await desk.events(run_id)

        allowed = (await desk.get("/api/v1/runs/allowed")).json()
        assert [(each["server"], each["tool"]) for each in allowed] == [("box", "echo")]
        gone = await desk.delete("/api/v1/runs/allowed/box", params={"tool": "echo"})
        assert gone.status_code == 204
        assert (await desk.get("/api/v1/runs/allowed")).json() == []


async def test_a_server_that_dies_in_a_call_does_not_take_the_run_with_it(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path, tools={"die": "Dies."}) as (desk, upstream):
        upstream.plays(Say("", [Call("die")]), Say("It died."))

        run_id = await started(desk, approve="auto")

        assert (await desk.events(run_id))[-1]["result"]["output"] == "It died."
        assert upstream.last_result().startswith("The call failed:")


async def test_a_result_of_ten_megabytes_is_cut_for_the_model(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path, tools={"big": "Big."}, big=10_000_000) as (desk, upstream):
        upstream.plays(Say("", [Call("big")]), Say("Big."))

        run_id = await started(desk, approve="auto")

        assert (await desk.events(run_id))[-1]["status"] == "done"
        assert len(upstream.last_result()) < 33_000


async def test_stopped_over_http_nothing_is_left(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream):
        upstream.plays(Say("Half", hold=asyncio.Event()))
        run_id = await started(desk)
        await until(lambda: upstream.open == 1)

        stopped = await desk.post(f"/api/v1/runs/{run_id}/stop")

        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
        await until(lambda: upstream.open == 0)


BAD: tuple[tuple[dict[str, Any], int, str, str], ...] = (
    ({"task": " "}, 422, "task_empty", "The task is empty."),
    ({"task": "x" * 1_000_000}, 413, "message_too_long", "1,000,000 characters"),
    ({"servers": ["bux"]}, 404, "tool_server_not_found", "no tool server 'bux'"),
    ({"servers": []}, 422, "no_tools", "Neither tool servers nor an agent"),
    ({"model": "gpt-99"}, 404, "model_not_found", "gpt-99"),
    ({"agent_id": "nobody"}, 404, "agent_not_found", "nobody"),
    ({"chat_id": "nothing"}, 404, "chat_not_found", "nothing"),
    ({"max_rounds": 0}, 422, "bad_parameter", "max_rounds"),
    ({"max_tokens": -1}, 422, "bad_parameter", "max_tokens"),
    ({"approve": "always"}, 422, "bad_parameter", "approve"),
    ({"tsak": "x"}, 422, "bad_parameter", "tsak"),
    ({}, 409, "tool_server_not_trusted", "box"),
)


async def test_bad_input_is_refused_in_a_sentence_and_nothing_is_started(tmp_path: Path) -> None:
    upstream = AgentUpstream()
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"box": scripted()}}))
    async with serve(upstream) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        for change, status, code, words in BAD:
            answer = await desk.post("/api/v1/runs", json={**TASK, **change})

            body = answer.json()
            assert (answer.status_code, body["code"]) == (status, code), body
            assert words in body["detail"]
            if status == 413:
                assert "Shorten it" in body["hint"]
            if code == "model_not_found":
                assert "lmstudio:qwen/qwen3-4b" in body["hint"]
                assert body["candidates"] == ["lmstudio:qwen/qwen3-4b"]
            if code == "tool_server_not_found":
                assert body["candidates"] == ["box"]
        assert not psutil.Process().children(recursive=True)
        assert (await desk.get("/api/v1/runs")).json()["total"] == 0


async def test_a_deleted_chat_stops_its_runs_and_brings_them_back_with_it(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream):
        upstream.plays(Say("Half", hold=asyncio.Event()))
        chat = (await desk.post("/api/v1/chats", json={})).json()["id"]
        run_id = await started(desk, chat_id=chat)
        await until(lambda: upstream.open == 1)

        assert (await desk.delete(f"/api/v1/chats/{chat}")).status_code == 204

        await until(lambda: upstream.open == 0)
        assert (await desk.get("/api/v1/runs")).json() == {"runs": [], "total": 0}
        assert (await desk.post(f"/api/v1/chats/{chat}/restore")).status_code == 200
        (listed,) = (await desk.get("/api/v1/runs", params={"chat_id": chat})).json()["runs"]
        assert (listed["id"], listed["state"], listed["output"]) == (run_id, "stopped", "Half")
