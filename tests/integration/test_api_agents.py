"""Agents over the API: made, changed, copied, brought back, checked; the built-in ones stay."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.desk import DeskUnderTest, run_desk
from tests.servers import ScriptedLMStudio, ScriptedModel, serve
from tests.tool_boxes import SCRIPTED

pytestmark = pytest.mark.anyio

DRAFT = {
    "name": "Chef",
    "description": "Cooks with what is there.",
    "instructions": "You are a chef called {{agent}}. Today is {{weekday}}.",
    "picture": "🍲",
    "models": ["lmstudio:qwen*"],
    "starters": ["What can I cook with eggs?"],
    "parameters": {"temperature": 0.3},
}


@asynccontextmanager
async def desk_with_studio(folder: Path) -> AsyncGenerator[tuple[DeskUnderTest, ScriptedLMStudio]]:
    key = "qwen/qwen3-4b"
    studio = ScriptedLMStudio(models=[ScriptedModel(key, instances={key: 1024})], tokens=3)
    async with serve(studio) as url, run_desk(folder, lmstudio_url=url) as desk:
        yield desk, studio


async def made(desk: DeskUnderTest, **changed: Any) -> dict[str, Any]:
    answer = await desk.post("/api/v1/agents", json=DRAFT | changed)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_an_agent_is_made_used_changed_and_outlives_a_restart(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio):
        agent = await made(desk)
        assert (agent["id"], agent["version"], agent["builtin"]) == ("chef", 1, False)
        chat = await desk.chat(agent_id="chef", model_id="qwen/qwen3-4b")
        receipt = await desk.ask(chat, "Hungry")
        await desk.events(receipt["job_id"])
        body = studio.requests("/v1/chat/completions")[-1].body
        assert body["temperature"] == 0.3
        system = body["messages"][0]["content"]
        assert system.startswith("You are a chef called Chef. Today is ")
        assert "{{" not in system

        change = DRAFT | {"instructions": "Be brief.", "version": 1}
        changed = (await desk.put("/api/v1/agents/chef", json=change)).json()
        assert (changed["version"], changed["instructions"]) == (2, "Be brief.")
        late = await desk.put("/api/v1/agents/chef", json=change)
        assert (late.status_code, late.json()["code"]) == (409, "agent_changed")
    async with run_desk(tmp_path, lmstudio_url="http://127.0.0.1:9") as desk:
        listed = (await desk.get("/api/v1/agents")).json()
        assert [each["id"] for each in listed][-1] == "chef"
        assert listed[-1]["version"] == 2


async def test_a_draft_answers_before_it_is_saved(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, studio):
        agent = await made(desk)
        chat = await desk.chat(agent_id=agent["id"], model_id="qwen/qwen3-4b")
        draft = DRAFT | {"name": "Cook", "instructions": "You are {{agent}}."}
        receipt = await desk.ask(chat, "Hungry", agent=draft | {"parameters": {"top_k": 7}})
        await desk.events(receipt["job_id"])
        body = studio.requests("/v1/chat/completions")[-1].body
        assert body["messages"][0]["content"] == "You are Cook."
        assert body["top_k"] == 7
        assert "temperature" not in body

        assert (await desk.get("/api/v1/agents/chef")).json() == agent
        receipt = await desk.ask(chat, "Still hungry")
        await desk.events(receipt["job_id"])
        assert studio.requests("/v1/chat/completions")[-1].body["temperature"] == 0.3
        refused = await desk.post(
            f"/api/v1/chats/{chat}/turns", json={"content": "Hi", "agent": {"name": ""}}
        )
        assert (refused.status_code, refused.json()["parameter"]) == (422, "agent.name")


async def test_old_versions_and_deleted_agents_come_back(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        await made(desk)
        change = DRAFT | {"instructions": "Be brief.", "version": 1}
        await desk.put("/api/v1/agents/chef", json=change)
        versions = (await desk.get("/api/v1/agents/chef/versions")).json()
        assert [each["version"] for each in versions] == [2, 1]

        restored = (await desk.post("/api/v1/agents/chef/restore", json={"version": 1})).json()
        assert (restored["version"], restored["instructions"]) == (3, DRAFT["instructions"])

        assert (await desk.delete("/api/v1/agents/chef")).status_code == 204
        assert (await desk.get("/api/v1/agents/chef")).json()["code"] == "agent_not_found"
        back = (await desk.post("/api/v1/agents/chef/restore", json={"version": 3})).json()
        assert back["version"] == 4
        assert (await desk.get("/api/v1/agents/chef")).status_code == 200


async def test_the_name_of_a_deleted_one_is_free_and_both_can_be_had(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        await made(desk)
        await desk.delete("/api/v1/agents/chef")
        another = await made(desk, description="Fries.")
        assert (another["name"], another["id"]) == ("Chef", "chef-2")
        back = await desk.post("/api/v1/agents/chef/restore", json={"version": 1})
        assert back.json()["description"] == DRAFT["description"]
        assert (await desk.get("/api/v1/agents/chef-2")).json() == another


async def test_several_at_once_neither_fail_nor_lose_anything(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        four = await asyncio.gather(*(made(desk) for _ in range(4)))
        assert {each["id"] for each in four} == {"chef", "chef-2", "chef-3", "chef-4"}
        change = DRAFT | {"instructions": "Be brief.", "version": 1}
        puts = await asyncio.gather(
            *(desk.put("/api/v1/agents/chef", json=change) for _ in range(3))
        )
        assert sorted(each.status_code for each in puts) == [200, 409, 409]
        path = "/api/v1/agents/chef"
        again = {"version": 1}
        restores = await asyncio.gather(
            *(desk.post(f"{path}/restore", json=again) for _ in range(3))
        )
        assert sorted(each.json()["version"] for each in restores) == [3, 4, 5]
        deletes = await asyncio.gather(*(desk.delete(path) for _ in range(3)))
        assert sorted(each.status_code for each in deletes) == [204, 404, 404]


async def test_the_built_in_ones_can_be_copied_and_not_broken(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        for call in (
            desk.put("/api/v1/agents/coding", json=DRAFT | {"version": 1}),
            desk.delete("/api/v1/agents/coding"),
            desk.post("/api/v1/agents/coding/restore", json={"version": 1}),
        ):
            refused = await call
            assert (refused.status_code, refused.json()["code"]) == (409, "agent_builtin")
            assert "copy" in refused.json()["hint"]

        copies = [(await desk.post("/api/v1/agents/coding/copy")).json() for _ in range(2)]
        assert [each["name"] for each in copies] == ["Coding copy", "Coding copy 2"]
        assert len({each["id"] for each in copies}) == 2


async def test_an_exported_agent_is_taken_in_elsewhere(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        tools = [{"server": "files", "tool": None, "approval": a} for a in ("auto", "ask")]
        await made(desk, tools=tools)
        exported = await desk.get("/api/v1/agents/chef/export")
        assert 'filename="chef.agent.json"' in exported.headers["content-disposition"]
        taken = await desk.post("/api/v1/agents/import", json=exported.json())

        assert taken.status_code == 201
        assert (taken.json()["name"], taken.json()["picture"]) == ("Chef 2", "🍲")
        assert [each["approval"] for each in taken.json()["tools"]] == ["read-only", "ask"]
        for broken in (
            {"format": "lmdesk.agent"},
            {"agent": {"name": ""}},
            {"agent": {"name": "\x00\u202e"}},
            exported.json() | {"version": 99},
            exported.json() | {"format": "lmdesk.chat"},
        ):
            refused = await desk.post("/api/v1/agents/import", json=broken)
            assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


async def test_a_name_holds_no_signs_that_nobody_writes(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        agent = await made(
            desk, name="Ch\x00e\x1bf\n\u202e of \u2069the \U0001f469\u200d\U0001f373"
        )
        assert agent["name"] == "Chef of the \U0001f469\u200d\U0001f373"


async def test_problems_are_named_while_one_types(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        draft = DRAFT | {
            "models": ["gone-7b", "qwen*"],
            "needs": ["vision"],
            "instructions": "Use {{colour}}. " + "word " * 900,
        }
        check = (await desk.post("/api/v1/agents/check", json=draft)).json()

        assert check["model_id"] == "lmstudio:qwen/qwen3-4b"
        assert check["window"] == 1024
        assert check["tokens"] > 512
        found = {(each["field"], each["code"]) for each in check["problems"]}
        assert found == {
            ("models", "model_not_found"),
            ("needs", "ability_missing"),
            ("instructions", "unknown_variable"),
            ("instructions", "instructions_too_long"),
        }
        fine = (await desk.post("/api/v1/agents/check", json=DRAFT)).json()
        assert fine["problems"] == []


async def test_tools_that_are_not_to_be_had_are_named_while_one_types(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    server = {"command": sys.executable, "args": [str(SCRIPTED), '{"tools": {"echo": "Again."}}']}
    data.joinpath("mcp.json").write_text(json.dumps({"mcpServers": {"words": server}}))
    tools = [{"server": "words"}, {"server": "words", "tool": "shout"}, {"server": "gone"}]
    async with run_desk(data, lmstudio_url="http://127.0.0.1:9") as desk:

        async def codes() -> list[str]:
            check = await desk.post("/api/v1/agents/check", json=DRAFT | {"tools": tools})
            problems = check.json()["problems"]
            return [each["code"] for each in problems if each["field"] == "tools"]

        assert await codes() == ["tool_server_not_trusted", "tool_server_not_found"]
        seen = (await desk.get("/api/v1/tool-servers/words")).json()
        await desk.post("/api/v1/tool-servers/words/trust", json={"hash": seen["hash"]})
        await desk.post("/api/v1/tool-servers/words/restart")
        assert await codes() == ["tool_server_not_found", "tool_not_found"]
        await desk.post("/api/v1/tool-servers/words/disable")
        assert "tool_server_off" in await codes()


async def test_bad_drafts_are_refused_by_name(tmp_path: Path) -> None:
    async with desk_with_studio(tmp_path) as (desk, _):
        for changed, parameter in (
            ({"name": ""}, "name"),
            ({"limits": {"rounds": 0}}, "limits.rounds"),
            ({"tools": [{"server": "files", "approval": "always"}]}, "tools.0.approval"),
            ({"colour": "red"}, "colour"),
        ):
            refused = await desk.post("/api/v1/agents", json=DRAFT | changed)
            assert refused.status_code == 422
            assert refused.json()["parameter"] == parameter
