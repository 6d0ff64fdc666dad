"""A chat whose agent has tools, and runs started by MCP clients: real tool servers, a scripted model."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.agent_upstream import AgentUpstream, Call, Say
from tests.desk import DeskUnderTest, run_desk
from tests.servers import serve
from tests.sockets import until
from tests.tool_boxes import SCRIPTED

pytestmark = pytest.mark.anyio

ECHO = Call("echo", {"text": "It is ten o'clock."})


@asynccontextmanager
async def desk_with_tools(
    folder: Path, *keys: str
) -> AsyncGenerator[tuple[DeskUnderTest, AgentUpstream]]:
    """A desk with one trusted tool server, `words`, and an agent who may use it."""
    data = folder / "data"
    data.mkdir()
    plan = {"tools": {"echo": "Says it again."}}
    server = {"command": sys.executable, "args": [str(SCRIPTED), json.dumps(plan)]}
    data.joinpath("mcp.json").write_text(json.dumps({"mcpServers": {"words": server}}))
    studio = AgentUpstream(*keys)
    async with serve(studio) as url, run_desk(data, lmstudio_url=url) as desk:
        seen = (await desk.get("/api/v1/tool-servers/words")).json()
        trusted = await desk.post("/api/v1/tool-servers/words/trust", json={"hash": seen["hash"]})
        assert trusted.status_code == 200, trusted.text
        agent = {"name": "Clerk", "tools": [{"server": "words", "approval": "auto"}]}
        made = await desk.post("/api/v1/agents", json=agent)
        assert made.status_code == 201, made.text
        yield desk, studio


async def test_a_question_to_an_agent_with_tools_is_a_run_with_the_id_of_its_job(
    tmp_path: Path,
) -> None:
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.models["qwen/qwen3-4b"].instances.clear()
        await desk.get("/api/v1/models/?refresh=true")
        studio.plays(Say("I look.", calls=[ECHO]), Say("Ten o'clock."))
        chat = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        receipt = await desk.ask(chat, "What time is it?")
        *events, end = await desk.events(receipt["job_id"])
        types = {event["type"] for event in events}
        message = await desk.last_message(chat)
        run = (await desk.get(f"/api/v1/runs/{receipt['job_id']}")).json()

        assert (message["status"], message["content"]) == ("done", "Ten o'clock.")
        assert message["stats"]["tool_calls"] == 1
        assert message["stats"]["load_time_seconds"] == run["load_seconds"] > 0
        assert message["model"]["asked"] == "lmstudio:qwen/qwen3-4b"
        assert message["model"]["got_context"] == 8192
        assert {"tool_call.start", "tool_call.arguments", "tool_call.success"} <= types
        (call,) = run["steps"][0]["calls"]
        assert (call["server"], call["tool"], call["state"]) == ("words", "echo", "success")
        assert call["preview"] == "It is ten o'clock."
        assert (run["state"], run["output"]) == ("done", "Ten o'clock.")
        assert end["result"]["message"]["id"] == message["id"]
        for promised in ("output", "steps", "usage"):
            assert end["result"][promised] == run[promised]
        flight = (await desk.get(f"/api/v1/messages/{message['id']}/flight")).json()
        assert "tools" in {phase["phase"] for phase in flight["phases"]}


async def test_the_conversation_before_is_known_to_it(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("Blue."))
        chat = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        for question in ("My colour is blue.", "Which is it?"):
            receipt = await desk.ask(chat, question)
            await desk.events(receipt["job_id"])

        asked = studio.bodies[-1]["messages"][-1]["content"]
        assert "Person: My colour is blue." in asked
        assert asked.endswith("Which is it?")


async def test_a_call_that_needs_a_yes_waits_in_the_chat_until_it_gets_one(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say(calls=[ECHO]), Say("Done."))
        agent = {"name": "Careful", "tools": [{"server": "words", "approval": "ask"}]}
        await desk.post("/api/v1/agents", json=agent)
        chat = await desk.chat(agent_id="careful", model_id="qwen/qwen3-4b")
        run_id = (await desk.ask(chat, "Go on"))["job_id"]

        async def waiting() -> list[dict[str, Any]]:
            return list((await desk.get(f"/api/v1/runs/{run_id}")).json().get("approvals", []))

        while not (pending := await waiting()):
            await asyncio.sleep(0.02)
        assert pending[0]["arguments"] == ECHO.arguments
        changed = {"decision": "approve", "arguments": {"text": "Eleven."}}
        decided = await desk.post(
            f"/api/v1/runs/{run_id}/approvals/{pending[0]['call_id']}", json=changed
        )
        assert decided.status_code == 200, decided.text
        await desk.events(run_id)
        run = (await desk.get(f"/api/v1/runs/{run_id}")).json()

        assert run["steps"][0]["calls"][0]["arguments"] == {"text": "Eleven."}
        assert (await desk.last_message(chat))["content"] == "Done."


async def test_stop_ends_the_run_with_what_it_wrote(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("Let me see", hold=asyncio.Event()))
        chat = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        receipt = await desk.ask(chat, "Go on")
        await until(lambda: studio.open == 1)
        await desk.post(f"/api/v1/jobs/{receipt['job_id']}/stop")
        message = await desk.last_message(chat)

        assert message["status"] == "stopped"
        await until(lambda: studio.open == 0)
        run = (await desk.get(f"/api/v1/runs/{receipt['job_id']}")).json()
        assert run["state"] == "stopped"


@pytest.mark.parametrize("agent", ["clerk", "general"])
async def test_an_answer_that_breaks_off_keeps_its_text_with_tools_as_without(
    tmp_path: Path, agent: str
) -> None:
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("The first half of it", drop=True))
        chat = await desk.chat(agent_id=agent, model_id="qwen/qwen3-4b")
        await desk.events((await desk.ask(chat))["job_id"])
        message = await desk.last_message(chat)

    assert (message["status"], message["content"]) == ("failed", "The first half of it")
    assert message["problem"]["code"] == message["reason"]


@pytest.mark.parametrize("tools", [[], [{"server": "words"}]], ids=["plain", "tools"])
async def test_the_next_model_of_an_agent_answers_where_the_first_fails_before_a_word(
    tmp_path: Path, tools: list[dict[str, str]]
) -> None:
    gone = Say(status=404, error={"error": {"message": "model not found"}})
    async with desk_with_tools(tmp_path, "first", "second") as (desk, studio):
        studio.plays(gone, model="first")
        studio.plays(Say("I am the second."), model="second")
        agent = {"name": "Two", "tools": tools, "models": ["first", "second"]}
        await desk.post("/api/v1/agents", json=agent)
        chat = await desk.chat(agent_id="two", model_id="first")
        receipt = await desk.ask(chat)
        events = await desk.events(receipt["job_id"])
        message = await desk.last_message(chat)

    assert (message["status"], message["content"]) == ("done", "I am the second.")
    truth = message["model"]
    assert truth["asked"] == "lmstudio:second"
    ((tried),) = truth["route"]["tried"]
    assert (tried["model_id"], tried["code"]) == ("lmstudio:first", "model_not_found")
    ((notice),) = [event for event in events if event.get("code") == "fallback"]
    assert notice["message"].endswith("SECOND is asked instead.")
    assert message["stats"]["tool_calls"] == (0 if tools else None)


async def test_what_was_written_with_tools_is_in_the_chat_wherever_the_process_was_killed(
    tmp_path: Path,
) -> None:
    """One answer is half written; of another the run has ended, and its message has not yet."""
    left = tmp_path / "left"
    left.mkdir()
    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("I look.", calls=[ECHO]), Say("Ten o'clock."))
        whole = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        await desk.events((await desk.ask(whole))["job_id"])
        studio.plays(Say("I look.", calls=[ECHO]), Say("HALFWAY", hold=asyncio.Event()))
        half = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        halves = (await desk.ask(half))["job_id"]
        with closing(sqlite3.connect(tmp_path / "data" / "lmdesk.db")) as database:
            kept = "SELECT 1 FROM runs WHERE id = ? AND record LIKE '%HALFWAY%'"
            await until(lambda: database.execute(kept, (halves,)).fetchone() is not None)
            with closing(sqlite3.connect(left / "lmdesk.db")) as copy:
                database.backup(copy)
                unfinished = "content = '', status = 'writing', reason = NULL, stats = NULL"
                copy.execute(
                    f"UPDATE messages SET {unfinished} WHERE chat_id = ? AND job_id > ''", (whole,)
                )
                copy.commit()
        await desk.post(f"/api/v1/jobs/{halves}/stop")

    async with run_desk(left) as again:
        first, second = [await again.last_message(chat) for chat in (whole, half)]
        run = (await again.get(f"/api/v1/runs/{halves}")).json()

    assert (first["status"], first["reason"], first["content"]) == ("done", "stop", "Ten o'clock.")
    assert (second["status"], second["reason"]) == ("interrupted", "server_stopped")
    assert second["content"] == run["output"] == "HALFWAY"
    assert [each["stats"]["tool_calls"] for each in (first, second)] == [1, 1]
    assert second["model"]["got_context"] == 8192


async def test_a_server_nobody_trusts_is_said_in_the_chat(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, _):
        await desk.post("/api/v1/tool-servers/words/distrust")
        chat = await desk.chat(agent_id="clerk", model_id="qwen/qwen3-4b")
        receipt = await desk.ask(chat, "Go on")
        await desk.events(receipt["job_id"])
        message = await desk.last_message(chat)

    assert message["status"] == "failed"
    assert message["problem"]["code"] == "tool_server_not_trusted"
    assert message["problem"]["hint"]


async def test_an_mcp_client_has_a_task_worked_on_and_looks_again(tmp_path: Path) -> None:
    from mcp import Client

    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("I look.", calls=[ECHO]), Say("Ten o'clock."))
        async with Client(f"{desk.base_url}/mcp") as client:

            async def called(tool: str, **asked: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, asked)
                assert not result.is_error, result.content
                told = result.structured_content
                return dict(told.get("result", told))

            asked = {"mcp_name": "words", "task": "What time is it?", "wait_s": 0.0}
            run = await called("autonomous_with_mcp", **asked)
            # `echo` says nothing of being read-only, and nobody beside the client can say yes.
            while "waits_for_approval" not in run:
                assert run["state"] == "running", run
                run = await called("get_run", run_id=run["run_id"])
            assert run["waits_for_approval"] == ["words.echo"]
            (pending,) = (await desk.get(f"/api/v1/runs/{run['run_id']}")).json()["approvals"]
            await desk.post(
                f"/api/v1/runs/{run['run_id']}/approvals/{pending['call_id']}",
                json={"decision": "approve"},
            )
            run = await called("get_run", run_id=run["run_id"], wait_s=60.0)
            wrong = await client.call_tool(
                "autonomous_with_mcp", {"mcp_name": "word", "task": "Hi"}
            )

        assert (run["state"], run["output"]) == ("done", "Ten o'clock.")
        assert run["steps"][0]["calls"][0]["preview"] == "It is ten o'clock."
        assert wrong.is_error
        assert "words" in wrong.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_run_that_an_mcp_client_gives_up_is_stopped_and_one_it_left_running_is_not(
    tmp_path: Path, mode: Literal["auto", "legacy"]
) -> None:
    from mcp import Client

    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("I think.", hold=asyncio.Event()))
        async with Client(f"{desk.base_url}/mcp", mode=mode) as client:
            asked = {"mcp_name": "words", "task": "What time is it?"}
            left = await client.call_tool("autonomous_with_mcp", {**asked, "wait_s": 0.0})
            assert left.structured_content["state"] == "running"
            await until(lambda: studio.open == 1)

            call = asyncio.create_task(client.call_tool("autonomous_with_mcp", asked))
            await until(lambda: studio.open == 2)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

            await until(lambda: studio.open == 1)
            runs = (await desk.get("/api/v1/runs")).json()["runs"]
            (given_up,) = {run["id"] for run in runs} - {left.structured_content["run_id"]}
            await desk.events(given_up)  # its end comes a moment after its connection's
            runs = (await desk.get("/api/v1/runs")).json()["runs"]
            states = {run["id"]: run["state"] for run in runs}
            assert states.pop(left.structured_content["run_id"]) == "running"
            assert list(states.values()) == ["stopped"]


async def test_all_trusted_servers_are_used_but_those_that_cannot_start(tmp_path: Path) -> None:
    from mcp import Client

    async with desk_with_tools(tmp_path) as (desk, studio):
        studio.plays(Say("Ten o'clock."))
        file = tmp_path / "data" / "mcp.json"
        servers = json.loads(file.read_text())["mcpServers"]
        servers |= {"broken": {"command": "/nowhere/at-all"}, "stranger": {"command": "cat"}}
        file.write_text(json.dumps({"mcpServers": servers}))
        url = "/api/v1/tool-servers/broken"
        seen = (await desk.get(url)).json()
        await desk.post(f"{url}/trust", json={"hash": seen["hash"]})
        async with Client(f"{desk.base_url}/mcp") as client:
            asked = {"task": "What time is it?"}
            run = await client.call_tool("autonomous_discover_and_execute", asked)
            await desk.post("/api/v1/tool-servers/words/disable")
            none = await client.call_tool("autonomous_discover_and_execute", asked)
            await desk.post(f"{url}/disable")
            nobody = await client.call_tool("autonomous_discover_and_execute", asked)

    assert not run.is_error, run.content
    told = run.structured_content
    assert (told["state"], told["output"]) == ("done", "Ten o'clock.")
    ((left_out),) = told["left_out"]
    assert left_out["server"] == "broken"
    assert "/nowhere/at-all" in left_out["why"]
    assert none.is_error
    assert "None of the trusted tool servers" in none.content[0].text
    assert "/nowhere/at-all" in none.content[0].text
    assert nobody.is_error
    assert "no trusted tool server" in nobody.content[0].text
