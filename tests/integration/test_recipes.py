"""Recipes: steps by different models in one chat, each fed by the one before."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.recipes_check import filled
from tests.agent_upstream import AgentUpstream, Say
from tests.desk import DeskUnderTest, run_desk
from tests.integration.test_tool_servers_sign_in import signed_desk
from tests.servers import serve
from tests.sockets import until

pytestmark = pytest.mark.anyio

STEPS = [
    {"prompt": "Think about {{input}}.", "agent_id": "research", "model": "thinker"},
    {"prompt": "Write code for this: {{previous}}", "agent_id": "coding", "model": "coder"},
]


@asynccontextmanager
async def desk_with_two(folder: Path) -> AsyncGenerator[tuple[DeskUnderTest, AgentUpstream]]:
    studio = AgentUpstream("thinker", "coder")
    studio.plays(Say("Use a heap."), model="thinker")
    studio.plays(Say("import heapq"), model="coder")
    async with serve(studio) as url, run_desk(folder, lmstudio_url=url) as desk:
        yield desk, studio


async def made(desk: DeskUnderTest, **changed: Any) -> str:
    draft = {"name": "Plan and build", "steps": STEPS} | changed
    answer = await desk.post("/api/v1/recipes", json=draft)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def started(desk: DeskUnderTest, recipe: str, given: str) -> dict[str, Any]:
    answer = await desk.post(f"/api/v1/recipes/{recipe}/run", json={"input": given})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def revision(desk: DeskUnderTest, chat_id: str) -> int:
    """The number a page compares to see whether the chat changed."""
    seen = (await desk.get("/api/v1/pulse", params={"chat_id": chat_id})).json()["chat"]
    return int(seen["revision"])


async def test_each_step_is_answered_by_its_own_model_and_feeds_the_next(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        job = await started(desk, await made(desk), "sorting")
        events = await desk.events(job["id"])
        messages = (await desk.get(f"/api/v1/chats/{job['chat_id']}")).json()["messages"]

        assert events[-1]["status"] == "done"
        assert events[-1]["result"]["output"] == "import heapq"
        assert [m["content"] for m in messages] == [
            "Think about sorting.",
            "Use a heap.",
            "Write code for this: Use a heap.",
            "import heapq",
        ]
        answers = [m for m in messages if m["role"] == "assistant"]
        assert [m["model"]["asked"] for m in answers] == ["lmstudio:thinker", "lmstudio:coder"]
        assert [m["agent_id"] for m in answers] == ["research", "coding"]
        assert [body["model"] for body in studio.bodies] == ["thinker", "coder"]


async def test_a_step_that_fails_ends_it_and_what_was_done_stays(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say(status=400, error={"error": "out of ideas"}), model="coder")
        job = await started(desk, await made(desk), "sorting")
        end = (await desk.events(job["id"]))[-1]

        assert end["status"] == "failed"
        assert "Step 2 of Plan and build" in end["error"]["message"]
        assert "out of ideas" in end["error"]["message"]
        assert end["result"]["steps"] == 2


async def test_a_step_that_cannot_be_asked_any_more_says_so_in_the_chat(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        hold = asyncio.Event()
        studio.plays(Say("Use a heap.", hold=hold), model="thinker")
        agent = (await desk.post("/api/v1/agents", json={"name": "Short-lived"})).json()["id"]
        second = {"prompt": "Code: {{previous}}", "agent_id": agent, "model": "coder"}
        job = await started(desk, await made(desk, steps=[STEPS[0], second]), "sorting")
        await until(lambda: studio.open == 1)
        assert (await desk.delete(f"/api/v1/agents/{agent}")).status_code == 204
        seen = await revision(desk, job["chat_id"])
        hold.set()
        end = (await desk.events(job["id"]))[-1]

        assert (end["status"], end["error"]["code"]) == ("failed", "agent_not_found")
        words = "Step 2 of Plan and build could not be asked: There is no agent"
        assert end["error"]["message"].startswith(words)
        assert end["result"] == {"chat_id": job["chat_id"], "steps": 1, "output": "Use a heap."}
        *_, question, answer = (await desk.get(f"/api/v1/chats/{job['chat_id']}")).json()[
            "messages"
        ]
        assert question["content"] == "Code: Use a heap."
        assert (answer["parent_id"], answer["status"]) == (question["id"], "failed")
        assert (answer["problem"], answer["agent_id"]) == (end["error"], agent)
        # What shows the chat looks at it again, and can go on from there.
        assert await revision(desk, job["chat_id"]) > seen
        again = {"content": None, "parent_id": question["id"], "agent_id": "coding"}
        turn = await desk.ask(job["chat_id"], **again, model_id="coder")
        assert (await desk.events(turn["job_id"]))[-1]["status"] == "done"


async def test_a_step_that_would_ask_nothing_says_which_and_why(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("", reasoning="Hm."), model="thinker")
        steps = [STEPS[0], STEPS[1] | {"prompt": "{{previous}}"}]
        job = await started(desk, await made(desk, steps=steps), "sorting")
        end = (await desk.events(job["id"]))[-1]

        assert (end["status"], end["error"]["code"]) == ("failed", "message_empty")
        assert end["error"]["message"].startswith("Step 2 of Plan and build could not be asked: ")
        assert "answers before it" in end["error"]["hint"]
        messages = (await desk.get(f"/api/v1/chats/{job['chat_id']}")).json()["messages"]
        assert [m["content"] for m in messages[2:]] == ["{{previous}}", ""]
        assert messages[-1]["problem"] == end["error"]


async def test_stopping_it_stops_the_step_under_way(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, studio):
        studio.plays(Say("Well", hold=asyncio.Event()), model="thinker")
        job = await started(desk, await made(desk), "sorting")
        await until(lambda: studio.open == 1)
        stopped = (await desk.post(f"/api/v1/jobs/{job['id']}/stop")).json()

        assert stopped["state"] == "stopped"
        await until(lambda: studio.open == 0)
        message = await desk.last_message(job["chat_id"])
        assert message["status"] == "stopped"


async def test_recipes_are_kept_changed_and_removed(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, _):
        recipe = await made(desk)
        change = {"name": "Plan", "steps": STEPS[:1], "version": 1}
        changed = (await desk.put(f"/api/v1/recipes/{recipe}", json=change)).json()
        assert (changed["version"], changed["name"]) == (2, "Plan")
        late = await desk.put(f"/api/v1/recipes/{recipe}", json=change)
        assert (late.status_code, late.json()["code"]) == (409, "recipe_changed")
    async with desk_with_two(tmp_path) as (desk, _):
        assert [r["name"] for r in (await desk.get("/api/v1/recipes")).json()] == ["Plan"]
        assert (await desk.delete(f"/api/v1/recipes/{recipe}")).status_code == 204
        gone = await desk.get(f"/api/v1/recipes/{recipe}")
        assert (gone.status_code, gone.json()["code"]) == (404, "recipe_not_found")


async def test_what_cannot_start_leaves_no_chat_behind(tmp_path: Path) -> None:
    async with desk_with_two(tmp_path) as (desk, _):
        recipe = await made(desk)
        empty = await desk.post(f"/api/v1/recipes/{recipe}/run", json={})
        assert (empty.status_code, empty.json()["code"]) == (400, "recipe_input_missing")
        lost = await made(desk, steps=[{"prompt": "Hi", "model": "nobody"}])
        unknown = await desk.post(f"/api/v1/recipes/{lost}/run", json={})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
        assert (await desk.get("/api/v1/chats")).json()["total"] == 0
        for bad in ({"steps": []}, {"steps": [{"prompt": ""}]}, {"name": ""}):
            refused = await desk.post("/api/v1/recipes", json={"name": "x", "steps": STEPS} | bad)
            assert refused.status_code == 422


def test_places_are_filled_and_those_of_later_steps_stay() -> None:
    prompt = "{{input}} {{ previous }} {{step 1}} {{step 3}} {{other}}"

    assert filled(prompt, "a", ["b", "c"]) == "a c b {{step 3}} {{other}}"


@pytest.mark.parametrize(
    ("changed", "status", "code", "names"),
    [
        ({"agent_id": "nobody"}, 404, "agent_not_found", ["nobody", "General"]),
        ({"model": "zzz"}, 404, "model_not_found", ["zzz", "lmstudio:thinker", "lmstudio:coder"]),
        ({"agent_id": "clerk"}, 409, "tool_server_not_trusted", ["words"]),
        ({"agent_id": "lost"}, 404, "tool_server_not_found", ["gone", "Lost"]),
    ],
)
async def test_all_steps_are_checked_before_the_first_is_asked(
    tmp_path: Path, changed: dict[str, Any], status: int, code: str, names: list[str]
) -> None:
    servers = {"mcpServers": {"words": {"command": "true"}}}
    tmp_path.joinpath("mcp.json").write_text(json.dumps(servers))
    async with desk_with_two(tmp_path) as (desk, studio):
        for name, server in (("Clerk", "words"), ("Lost", "gone")):
            await desk.post("/api/v1/agents", json={"name": name, "tools": [{"server": server}]})
        recipe = await made(desk, steps=[STEPS[0], STEPS[1] | changed])
        refused = await desk.post(f"/api/v1/recipes/{recipe}/run", json={"input": "sorting"})
        told = refused.json()

        assert (refused.status_code, told["code"]) == (status, code)
        assert told["detail"].startswith("Step 2: ")
        for name in names:
            assert name in told["detail"] + told["hint"]
        assert studio.bodies == []
        assert (await desk.get("/api/v1/chats")).json()["total"] == 0


async def test_a_tool_server_that_wants_a_sign_in_is_found_before_the_first_step(
    tmp_path: Path,
) -> None:
    studio = AgentUpstream("thinker")
    async with (
        serve(studio) as url,
        signed_desk(tmp_path, lmstudio_url=url) as (desk, _),
    ):
        await desk.post("/api/v1/tool-servers/far/restart")
        await desk.post("/api/v1/agents", json={"name": "Far", "tools": [{"server": "far"}]})
        steps = [
            {"prompt": "Think.", "model": "thinker"},
            {"prompt": "Look.", "agent_id": "far", "model": "thinker"},
        ]
        recipe = await made(desk, steps=steps)
        refused = await desk.post(f"/api/v1/recipes/{recipe}/run", json={})

        told = refused.json()
        assert (refused.status_code, told["code"]) == (502, "tool_server_needs_sign_in")
        assert told["detail"] == "Step 2: far wants you to sign in first: see Tools."
        assert studio.bodies == []
        assert (await desk.get("/api/v1/chats")).json()["total"] == 0


@pytest.mark.parametrize(
    ("prompts", "place"),
    [
        (["{{step 9}}"], "Step 1 asks for {{step 9}}"),
        (["{{previous}}"], "Step 1 asks for {{previous}}"),
        (["{{input}}", "{{ Step 2 }}"], "Step 2 asks for {{ Step 2 }}"),
        (["{{input}}", "{{step 0}}"], "Step 2 asks for {{step 0}}"),
        (["{{step " + "9" * 5000 + "}}"], "Step 1 asks for"),
    ],
)
async def test_a_place_that_no_answer_fills_is_refused_when_it_is_saved(
    tmp_path: Path, prompts: list[str], place: str
) -> None:
    async with desk_with_two(tmp_path) as (desk, _):
        draft = {"name": "x", "steps": [{"prompt": prompt} for prompt in prompts]}
        refused = await desk.post("/api/v1/recipes", json=draft)
        assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
        assert refused.json()["detail"].startswith(place)
        recipe = await made(desk)
        refused = await desk.put(f"/api/v1/recipes/{recipe}", json=draft | {"version": 1})
        assert refused.status_code == 422
