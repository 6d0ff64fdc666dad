"""What a person allowed for good, when the tool server behind the name is no longer the same."""

from pathlib import Path

import pytest

from tests.agent_upstream import Call, Say
from tests.run_bench import RunBench, calls, run_bench
from tests.tool_boxes import Box, box, scripted

pytestmark = pytest.mark.anyio

GOOD = {"echo": "Says it again.", "pid": "Its process."}


async def allow(bench: RunBench, tools: Box, remember: str) -> None:
    """Let calls of the server run for good; the next run has not to ask."""
    tools.on_lapse = bench.runs.allowed.forget_server
    for decided_by in ("person", "remembered"):
        bench.upstream.plays(Say("", [Call("echo", {"text": "a"})]), Say("Done."))
        job = await bench.start(servers=("made",))
        if decided_by == "person":
            await bench.decide(job, decision="approve", remember=remember)
        assert [each.decided_by for each in calls(await bench.ended(job))] == [decided_by]


async def asks(bench: RunBench) -> bool:
    """Whether the same call is asked about now. Nobody answers, so it does not run."""
    bench.upstream.plays(Say("", [Call("echo", {"text": "a"})]), Say("Done."))
    info = await bench.run(servers=("made",))
    return [each.decided_by for each in calls(info)] == ["timeout"]


@pytest.mark.parametrize("remember", ["tool", "server"])
@pytest.mark.parametrize("heard", [True, False])
async def test_another_command_under_the_name_is_asked_about_though_it_is_trusted_too(
    tmp_path: Path, remember: str, heard: bool
) -> None:
    """`heard`: whether the lasting yes is forgotten; it does not hold in any case."""
    async with (
        box(tmp_path, {"made": scripted(tools=GOOD)}) as tools,
        run_bench(tmp_path, toolbox=tools) as bench,
    ):
        await allow(bench, tools, remember)
        if not heard:
            tools.on_lapse = None
        tools.write({"made": scripted(tools=GOOD, garbage=["other"])})
        await tools.say_yes("made")

        bench.runs.wait_seconds = 0.3
        assert await asks(bench)
        assert bool(bench.runs.allowed.listed()) is not heard


@pytest.mark.parametrize("how", ["distrusted", "removed"])
async def test_a_lasting_yes_goes_with_the_trust_and_with_the_server(
    tmp_path: Path, how: str
) -> None:
    entry = scripted(tools=GOOD)
    async with (
        box(tmp_path, {"made": entry}) as tools,
        run_bench(tmp_path, toolbox=tools) as bench,
    ):
        await allow(bench, tools, "server")
        if how == "removed":
            await tools.remove("made")
        else:
            await tools.distrust("made")

        assert bench.runs.allowed.listed() == []
        assert await bench.store.runs.allowed_tools() == []
        tools.write({"made": entry})
        await tools.say_yes("made")
        bench.runs.wait_seconds = 0.3
        assert await asks(bench)


async def test_a_tool_that_came_later_is_not_covered_by_a_yes_to_the_whole_server(
    tmp_path: Path,
) -> None:
    tools_then = {**GOOD, "switch": "Changes."}
    plan = {"tools": tools_then, "then": {**tools_then, "wrong": "New."}}
    async with (
        box(tmp_path, {"made": scripted(**plan)}) as tools,
        run_bench(tmp_path, toolbox=tools) as bench,
    ):
        await allow(bench, tools, "server")
        await tools.call("made", "switch", {}, seconds=20)
        await tools.refresh()
        await tools.say_yes("made")
        bench.runs.wait_seconds = 0.3
        assert await asks(bench)
