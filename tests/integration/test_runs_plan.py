"""The running plan in a run: what a model makes of it, what becomes of odd ones, and what is kept."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.agents import Agent, AgentTool
from core.runs import PlanItem, RunInfo
from tests.agent_upstream import AgentUpstream, Call, Say
from tests.integration.test_mcp_server import client_of
from tests.integration.test_mcp_server import told as told_by
from tests.integration.test_runs_api import desk_with_tools
from tests.run_bench import RunBench, calls, run_bench

pytestmark = pytest.mark.anyio

LOOK = Call("look", {"at": "it"})
PLAN = "update_plan"


def plan(*items: tuple[str, str]) -> Call:
    return Call(PLAN, {"items": [{"text": text, "state": state} for text, state in items]})


def offered(bench: RunBench) -> list[bool]:
    """Of each request, whether it told the model of the tool."""
    return [
        PLAN in [tool["function"]["name"] for tool in body.get("tools", ())]
        for body in bench.upstream.bodies
    ]


def told(bench: RunBench) -> list[str]:
    """What the model got for its calls."""
    return [m["content"] for m in bench.upstream.bodies[-1]["messages"] if m["role"] == "tool"]


def secretary(**known: Any) -> dict[str, Agent]:
    draft = {"id": "a", "name": "A", "tools": [AgentTool(server="box")], **known}
    return {"a": Agent.model_validate(draft)}


async def test_a_plan_is_kept_told_and_no_call_of_a_tool_server(tmp_path: Path) -> None:
    first = plan(("Look", "in_progress"), ("Write", "open"), ("Tell", "open"))
    then = plan(("Look", "done"), ("Write", "in_progress"), ("Tell", "dropped"))
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I plan.", [first, LOOK]), Say("", [then]), Say("It is 42."))
        job = await bench.start(approve="ask", servers=["box"])
        await bench.decide(job, decision="approve")

        info = await bench.ended(job)

        assert info.output == "It is 42."
        assert [(item.text, item.state) for item in info.plan] == [
            ("Look", "done"),
            ("Write", "in_progress"),
            ("Tell", "dropped"),
        ]
        assert [(n.done, n.count) for n in (s.plan for s in info.steps) if n] == [(0, 3), (1, 2)]
        # Nobody was asked about it, and it is no call.
        assert [call.tool for call in calls(info)] == ["look"]
        assert info.usage.tool_calls == 1
        assert [name for name, _ in bench.tools.calls] == ["box.look"]
        assert sorted(told(bench)) == [
            "42",
            "The person sees the plan: 0 of 3 done.",
            "The person sees the plan: 1 of 2 done.",
        ]
        events = [event.data for event in job.log.read(0) if event.type == "plan.updated"]
        assert [(each["step"], each["done"], each["count"]) for each in events] == [
            (1, 0, 3),
            (2, 1, 2),
        ]
        assert events[1]["items"][0] == {"text": "Look", "state": "done"}
        starts = [e.data["tool"] for e in job.log.read(0) if e.type == "tool_call.start"]
        assert starts == ["look"]

    async with run_bench(tmp_path) as again:
        assert (await again.runs.read(info.id)).plan == info.plan
        past = await again.runs.past_events(info.id, after=0)
        assert [event.type for event in past].count("plan.updated") == 2
        assert (await again.runs.page(limit=5, offset=0)).runs[0].plan == info.plan


async def test_a_plan_is_there_while_the_run_goes_on_and_after_a_crash(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(
            Say("", [plan(("Look", "in_progress"))]), Say("Half", hold=asyncio.Event())
        )
        job = await bench.start()
        async with asyncio.timeout(20):
            while not (await bench.store.runs.run(job.id)).plan:
                await asyncio.sleep(0.01)
        wanted = (PlanItem(text="Look", state="in_progress"),)
        assert (await bench.runs.read(job.id)).plan == wanted
        async with run_bench(tmp_path) as again:
            assert (await again.runs.read(job.id)).plan == wanted
        await bench.runs.stop(job.id)


BAD: list[tuple[Any, str]] = [
    ('{"items": [', "Send the plan as"),
    ("nonsense", "Send the plan as"),
    ("[" * 5000, "Send the plan as"),
    ('{"items": "' + "[" * 5000 + '"}', "Send the plan as"),
    ('{"items": [{"text": "Look", "state": ' + "[" * 900 + "]" * 900 + "}]}", "States are: open"),
    ({}, "Send the plan as"),
    ({"items": [{"text": "", "state": "open"}]}, "Item 1 has no text"),
    ({"items": [{"text": "Look", "state": "melting"}]}, "States are: open"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
async def test_a_bad_plan_is_refused_with_a_sentence_and_never_ends_the_run(
    tmp_path: Path, arguments: Any, said: str
) -> None:
    """Also where it comes more often than a bad call of a tool may."""
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bad = Say("", [Call(PLAN, arguments)])
        bench.upstream.plays(bad, bad, bad, bad, bad, Say("", [LOOK]), Say("It is 42."))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.reason, info.output) == ("done", None, "It is 42.")
        assert said in told(bench)[0]
        assert info.plan == ()
        assert [step.plan.problem != "" for step in info.steps if step.plan] == [True] * 5
        assert [call.tool for call in calls(info)] == ["look"]
        assert "plan.refused" in bench.types(job)


async def test_a_huge_plan_is_cut(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        huge = plan(("x" * 10_000, "open"), *[("Look", "open")] * 49)
        bench.upstream.plays(Say("", [huge]), Say("Long."))

        info = await bench.run()

        assert info.output == "Long."
        assert len(info.plan) == 20
        assert max(len(item.text) for item in info.plan) == 200
        assert "Only the first 20 items are kept." in told(bench)[0]


async def test_the_same_plan_over_and_over_stops_nothing_and_is_not_offered_any_more(
    tmp_path: Path,
) -> None:
    same = Say("", [plan(("Look", "open"))])
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(same, same, same, same, same, Say("", [LOOK]), Say("42."))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.output) == ("done", "42.")
        assert "The plan is as it was." in told(bench)[1]
        assert offered(bench) == [True, True, True, True, False, False, True]


async def test_a_model_that_does_nothing_but_plan_ends_at_its_rounds(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I plan.", [plan(("Look", "open"))]))

        info = await bench.run(max_rounds=6)

        assert (info.state, info.reason) == ("done", "limit_rounds")
        assert info.usage.requests == 6


async def test_a_servers_own_tool_of_that_name_keeps_working(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.update_plan", "the server's", read_only=True)
        bench.upstream.plays(
            Say("", [Call("box_update_plan", {"n": 1}), plan(("Look", "open"))]), Say("Both.")
        )

        info = await bench.run()

        assert [(call.server, call.tool, call.preview) for call in calls(info)] == [
            ("box", "update_plan", "the server's")
        ]
        assert len(info.plan) == 1


async def test_without_ours_a_servers_tool_has_its_own_name(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.update_plan", "the server's", read_only=True)
        bench.upstream.plays(Say("", [Call(PLAN, {"n": 1})]), Say("Once."))

        info = await bench.run(plan="off")

        assert [call.preview for call in calls(info)] == ["the server's"]
        assert offered(bench) == [True, True]
        assert info.plan == ()


async def _with(tmp_path: Path, *said: Say, **draft: Any) -> tuple[RunInfo, list[bool]]:
    upstream = AgentUpstream(context=draft.pop("context", 8192))
    agents = secretary(**draft.pop("agent", {}))
    async with run_bench(tmp_path, upstream=upstream, agents=agents) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(*said)
        info = await bench.run(servers=[], agent_id="a", **draft)
        return info, offered(bench)


async def test_it_is_offered_as_the_agent_and_the_run_say(tmp_path: Path) -> None:
    done = Say("Done.")
    assert (await _with(tmp_path / "1", done))[1] == [True]
    assert (await _with(tmp_path / "2", done, agent={"plan": "off"}))[1] == [False]
    assert (await _with(tmp_path / "3", done, context=2048))[1] == [False]
    assert (await _with(tmp_path / "4", done, context=2048, agent={"plan": "on"}))[1] == [True]
    both = {"agent": {"plan": "on"}, "plan": "off"}
    assert (await _with(tmp_path / "5", done, **both))[1] == [False]
    assert (await _with(tmp_path / "6", done, max_rounds=3))[1] == [False]


async def test_a_server_that_takes_no_tools_gets_json_without_a_plan(tmp_path: Path) -> None:
    refused = {"error": {"message": "this model does not support tools"}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)

        def script(body: dict[str, Any]) -> Say:
            if "tools" in body:
                return Say(status=400, error=refused)
            return Say('{"answer": "Done."}')

        bench.upstream.scripts["qwen/qwen3-4b"] = script
        info = await bench.run()
        assert info.output == "Done."
        assert PLAN not in str(bench.upstream.bodies[-1])

        info = await bench.run(plan="on")
        assert info.output == "Done."
        assert PLAN in str(bench.upstream.bodies[-1]["messages"])


async def test_in_json_mode_a_plan_is_written_like_any_call(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        items = '[{"text": "Look", "state": "in_progress"}]'
        bench.upstream.plays(
            Say(f'{{"tool": "update_plan", "arguments": {{"items": {items}}}}}'),
            Say('{"answer": "42."}'),
        )

        info = await bench.run(tools="schema", plan="on")

        assert (info.output, [item.text for item in info.plan]) == ("42.", ["Look"])
        assert calls(info) == []


async def test_whoever_called_over_mcp_gets_the_plan(tmp_path: Path) -> None:
    async with desk_with_tools(tmp_path) as (desk, upstream), client_of(desk) as client:
        hold = asyncio.Event()
        upstream.plays(
            Say("", [plan(("Look", "done"), ("Say it", "in_progress"))]), Say("Half", hold=hold)
        )
        asked = {"mcp_name": "box", "task": "Say it.", "model": "qwen/qwen3-4b", "wait_s": 0}
        run_id = told_by(await client.call_tool("autonomous_with_mcp", asked))["run_id"]
        seen: list[str | None] = []

        async def progress(share: float, total: float | None, message: str | None) -> None:
            seen.append(message)

        async with asyncio.timeout(60):
            while not (look := told_by(await client.call_tool("get_run", {"run_id": run_id}))).get(
                "plan"
            ):
                await asyncio.sleep(0.02)
        assert look["plan"] == [
            {"text": "Look", "state": "done"},
            {"text": "Say it", "state": "in_progress"},
        ]
        hold.set()
        asked = {"run_id": run_id, "wait_s": 30}
        ended = told_by(await client.call_tool("get_run", asked, progress_callback=progress))
        assert (ended["state"], ended["output"]) == ("done", "Half")
        assert any("(Say it)" in (message or "") for message in seen)
