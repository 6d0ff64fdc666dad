"""Runs: a model on a real socket works on a task with tools, and every way that can go."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.agents import Agent, AgentTool
from core.errors import ModelNotFound, ToolServerNotFound
from core.runs_errors import NoTools, RunNotFound, TaskEmpty
from core.tools import ToolImage, ToolResult
from tests.agent_upstream import Call, Say
from tests.run_bench import calls, run_bench
from tests.sockets import until

pytestmark = pytest.mark.anyio

LOOK = Call("look", {"at": "it"})


# -- what a run does -------------------------------------------------------------------------------


async def test_an_answer_without_calls_is_the_output(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say(["It is ", "done."]))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.reason, info.output) == ("done", None, "It is done.")
        assert info.model_id == "lmstudio:qwen/qwen3-4b"
        assert bench.reads(job, "message.delta") == "It is done."
        assert job.result["output"] == "It is done."


async def test_a_call_runs_and_its_result_goes_back_to_the_model(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True, description="Looks.", arguments=schema)
        bench.upstream.plays(Say("I look.", [LOOK], reasoning="Hm."), Say("It is 42."))
        job = await bench.start()

        info = await bench.ended(job)

        first, second = info.steps
        assert (first.why, first.reasoning) == ("I look.", "Hm.")
        call = first.calls[0]
        assert (call.server, call.tool, call.arguments) == ("box", "look", {"at": "it"})
        assert (call.state, call.preview, call.size, call.decided_by) == (
            "success",
            "42",
            2,
            "mode",
        )
        assert call.seconds is not None
        assert (first.input_tokens, first.output_tokens) == (50, 10)
        assert second.why == info.output == "It is 42."
        assert (info.usage.requests, info.usage.tool_calls, info.usage.tokens) == (2, 1, 120)
        assert bench.upstream.last_result() == "42"
        function = bench.upstream.bodies[0]["tools"][0]["function"]
        assert function == {"name": "look", "description": "Looks.", "parameters": schema}
        assert bench.upstream.bodies[0]["tool_choice"] == "auto"
        names = bench.types(job)
        assert names[0] == "step.start"
        assert [n for n in names if n.startswith("tool_call.")] == [
            "tool_call.start",
            "tool_call.arguments",
            "tool_call.progress",
            "tool_call.success",
        ]
        assert names[-1] == "job.end"
        assert bench.upstream.open == 0


async def test_calls_of_one_turn_run_side_by_side(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        all_in = asyncio.Event()

        async def waits(arguments: dict[str, Any]) -> str:
            if bench.tools.open == 3:
                all_in.set()
            await all_in.wait()
            return str(arguments["n"])

        bench.tools.add("box.wait", waits, read_only=True)
        bench.upstream.plays(Say("", [Call("wait", {"n": n}) for n in range(3)]), Say("Done."))

        info = await bench.run()

        assert bench.tools.most_open == 3
        assert [call.preview for call in calls(info)] == ["0", "1", "2"]
        assert info.output == "Done."


async def test_a_long_result_is_cut_for_the_model_and_whole_for_the_person(tmp_path: Path) -> None:
    agent = Agent.model_validate(
        {
            "id": "a",
            "name": "A",
            "description": "",
            "instructions": "You are {{agent}}.",
            "tools": [AgentTool(server="box")],
            "limits": {"result_chars": 1000},
        }
    )
    text = "x" * 10_000_000
    async with run_bench(tmp_path, agents={"a": agent}) as bench:
        bench.tools.says("box.dump", text, read_only=True)
        bench.upstream.plays(Say("", [Call("dump")]), Say("Long."))

        info = await bench.run(servers=[], agent_id="a")

        call = calls(info)[0]
        assert (call.size, call.cut, len(call.preview)) == (10_000_000, True, 1000)
        told = bench.upstream.last_result()
        assert told.startswith("x" * 1000)
        assert "first 1,000 of 10,000,000 characters" in told
        assert len(told) < 1200
        assert (await bench.runs.result(info.id, call.id)).text == text
        assert "You are A." in bench.upstream.bodies[0]["messages"][0]["content"]


async def test_a_picture_is_for_the_person_where_the_model_sees_none(tmp_path: Path) -> None:
    picture = ToolImage(media_type="image/png", data="iVBORw0KGgo=")
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.photo", ToolResult("Here.", images=(picture,)), read_only=True)
        bench.upstream.plays(Say("", [Call("photo")]), Say("Nice."))

        info = await bench.run()

        assert bench.upstream.last_result() == (
            "Here.\n[A picture, image/png: the person sees it, you cannot.]"
        )
        call = calls(info)[0]
        assert call.images == 1
        assert (await bench.runs.result(info.id, call.id)).images == (picture,)


async def test_halves_of_characters_do_no_harm(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "half \ud83d of it", read_only=True)
        bench.upstream.plays(Say("", [LOOK]), Say("Odd."))

        info = await bench.run("A task \ud83d with half a character.")

        assert info.output == "Odd."
        assert bench.upstream.last_result() == "half \ufffd of it"


# -- what the model gets wrong ---------------------------------------------------------------------


async def test_an_unknown_tool_is_told_to_the_model(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("", [Call("nose", {"up": 1})]), Say("", [LOOK]), Say("42."))

        info = await bench.run()

        assert info.output == "42."
        assert calls(info)[0].arguments == {"up": 1}
        assert [(call.tool, call.state) for call in calls(info)] == [
            ("nose", "invalid"),
            ("look", "success"),
        ]
        assert "nose" in calls(info)[0].preview
        assert [name for name, _ in bench.tools.calls] == ["box.look"]


async def test_arguments_that_are_no_json_are_told_to_the_model(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        deep = Call("look", '{"at": ' + "[" * 5000)
        bench.upstream.plays(Say("", [Call("look", '{"at": ')]), Say("", [deep, LOOK]), Say("42."))

        info = await bench.run()

        assert info.output == "42."
        assert [call.state for call in calls(info)] == ["invalid", "invalid", "success"]
        assert calls(info)[0].arguments == {"": '{"at": '}
        assert "JSON" in bench.upstream.bodies[1]["messages"][-1]["content"]


async def test_only_bad_calls_end_the_run_with_a_reason(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("", [Call("look", '{"at": ')]))

        info = await bench.run()

        assert (info.state, info.reason) == ("failed", "run_failed")
        assert info.error
        assert "could not go on" in info.error.message
        assert len(info.steps) == 4


async def test_the_same_call_for_the_third_time_stops_the_run(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("Again.", [LOOK]))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.reason) == ("stopped", "repeated_call")
        assert len(bench.tools.calls) == 2
        notice = next(e.data for e in job.log.read(0) if e.type == "notice")
        assert "box.look" in notice["message"]
        assert info.output == "Again."
        assert bench.upstream.open == 0


async def test_a_failing_tool_is_told_to_the_model_and_the_run_goes_on(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", ToolResult("No light.", is_error=True), read_only=True)
        bench.upstream.plays(Say("", [LOOK]), Say("Too dark."))

        info = await bench.run()

        assert info.output == "Too dark."
        assert calls(info)[0].state == "failure"
        assert bench.upstream.last_result() == "The tool reports an error: No light."


async def test_a_call_that_takes_too_long_is_broken_off(tmp_path: Path) -> None:
    async with run_bench(tmp_path, call_seconds=0.05) as bench:

        async def hangs(arguments: dict[str, Any]) -> str:
            await asyncio.Event().wait()
            return ""

        bench.tools.add("box.look", hangs, read_only=True)
        bench.upstream.plays(Say("", [LOOK]), Say("Too slow."))

        info = await bench.run()

        assert info.output == "Too slow."
        assert "did not answer within" in bench.upstream.last_result()
        assert bench.tools.open == 0


# -- limits ----------------------------------------------------------------------------------------


async def test_the_limit_of_rounds_ends_it_with_what_was_done(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("One.", [Call("look", {"n": 1})]), Say("Two.", [Call("look")]))

        info = await bench.run(max_rounds=2)

        assert (info.state, info.reason, info.output) == ("done", "limit_rounds", "Two.")
        assert [step.summary for step in info.steps] == [False, False, True]
        assert [call.state for call in calls(info)] == ["success", "success"]


async def test_the_limit_of_tokens_ends_it(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("One.", [LOOK], usage=(90, 30)), Say("Two."))

        info = await bench.run(max_tokens=100)

        assert (info.state, info.reason, info.output) == ("done", "limit_tokens", "Two.")
        assert bench.upstream.bodies[0]["max_tokens"] == 100


async def test_the_limit_of_minutes_ends_it(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("Thinking about", hold=asyncio.Event()))

        info = await bench.run(max_minutes=0.02)

        assert (info.state, info.reason) == ("done", "limit_minutes")
        assert info.output == "Thinking about"
        await until(lambda: bench.upstream.open == 0)


# -- stopping --------------------------------------------------------------------------------------


async def test_stopped_while_the_model_writes(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("Half an", hold=asyncio.Event()))
        job = await bench.start()
        await until(lambda: "Half" in bench.reads(job, "message.delta"))

        await bench.runs.stop(job.id)

        info = await bench.ended(job)
        assert (info.state, info.reason, info.output) == ("stopped", "user", "Half an")
        await until(lambda: bench.upstream.open == 0)
        assert not bench.library.leased_by(await bench.library.resolve("qwen/qwen3-4b"))


async def test_stopped_before_the_first_word(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say(hold=asyncio.Event()))
        job = await bench.start()
        await until(lambda: bench.upstream.open == 1)

        await bench.runs.stop(job.id)

        assert (await bench.ended(job)).state == "stopped"
        await until(lambda: bench.upstream.open == 0)


async def test_stopped_while_a_tool_runs(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:

        async def hangs(arguments: dict[str, Any]) -> str:
            await asyncio.Event().wait()
            return ""

        bench.tools.add("box.look", hangs, read_only=True)
        bench.upstream.plays(Say("I look.", [LOOK, Call("look", {"n": 2})]), Say("No."))
        job = await bench.start()
        await until(lambda: bench.tools.open == 2)

        await bench.runs.stop(job.id)

        info = await bench.ended(job)
        assert info.state == "stopped"
        assert [call.state for call in calls(info)] == ["stopped", "stopped"]
        assert (bench.tools.open, bench.tools.cancelled, bench.upstream.open) == (0, 2, 0)


async def test_stopped_at_any_moment_nothing_is_left(tmp_path: Path) -> None:
    """After each of its events in turn: no connection, no call, no lease stays open."""
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(
            Say(["I ", "look."], [LOOK, Call("look", {"n": 2})], reasoning="Hm."),
            Say("More.", [Call("look", {"n": 3})]),
            Say(["It ", "is ", "42."]),
        )
        model = await bench.library.resolve("qwen/qwen3-4b")
        ends = set()
        for moment in range(0, 40, 2):
            job = await bench.start()
            await until(lambda job=job, moment=moment: job.log.last >= moment or job.ended.is_set())
            await bench.runs.stop(job.id)

            info = await bench.ended(job)
            ends.add((info.state, info.reason))
            assert not [call for call in calls(info) if call.state in ("waiting", "running")]
            await until(lambda: bench.upstream.open == 0)
            assert bench.tools.open == 0
            assert not bench.library.leased_by(model)
            assert bench.library.gate("lmstudio").line.inside == 0

        assert ends == {("stopped", "user"), ("done", None)}


async def test_stopped_while_the_model_loads(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.models["qwen/qwen3-4b"].instances.clear()
        bench.upstream.load_may_go.clear()
        job = await bench.start()
        await until(lambda: job.info.phase == "loading")

        await bench.runs.stop(job.id)

        assert (await bench.ended(job)).state == "stopped"
        assert bench.upstream.bodies == []


# -- the way to the model --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        (404, "failed", "model_not_found"),
        (500, "failed", "provider_failed"),
        (429, "failed", "provider_busy"),
        (400, "failed", "provider_rejected"),
    ],
)
async def test_a_refused_first_request_fails_the_run(
    tmp_path: Path, status: int, state: str, code: str
) -> None:
    error = {"error": {"message": "model not found" if status == 404 else "no"}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say(status=status, error=error))

        info = await bench.run()

        assert (info.state, info.reason) == (state, code)
        assert bench.upstream.open == 0


async def test_a_failure_before_the_first_word_is_tried_again(tmp_path: Path) -> None:
    async with run_bench(tmp_path, retry_attempts=2) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        answers = [Say("I look.", [LOOK]), Say(status=500), Say(status=500), Say("42.")]
        bench.upstream.scripts["qwen/qwen3-4b"] = lambda body: answers.pop(0)

        info = await bench.run()

        assert (info.state, info.output) == ("done", "42.")
        assert info.usage.requests == 2
        assert answers == []


async def test_a_model_that_is_gone_in_the_middle_interrupts(tmp_path: Path) -> None:
    error = {"error": {"message": "model not found", "code": "model_not_found"}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [LOOK]), Say(status=404, error=error))

        info = await bench.run()

        assert (info.state, info.reason) == ("interrupted", "model_changed_during_execution")
        assert calls(info)[0].preview == "42"
        assert info.output == "I look."


async def test_a_connection_that_breaks_fails_the_run_and_keeps_the_text(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [LOOK]), Say("It is", drop=True))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.reason) == ("failed", "provider_unreachable")
        assert info.steps[1].why == "It is"
        assert calls(info)[0].preview == "42"


async def test_a_stream_without_an_end_fails_the_run(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("It is", unfinished=True))

        info = await bench.run()

        assert (info.state, info.reason) == ("failed", "provider_protocol")
        assert info.steps[0].why == "It is"


async def test_an_error_in_the_stream_fails_the_run(tmp_path: Path) -> None:
    error = {"error": {"message": "The context length is exceeded."}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("It", error=error))

        info = await bench.run()

        assert (info.state, info.reason) == ("failed", "context_too_long")


async def test_another_model_that_answers_ends_the_run_interrupted(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [LOOK]), Say("Me too!", model="other/model"))
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.state, info.reason) == ("interrupted", "model_changed_during_execution")
        assert info.error
        assert "other/model answered" in info.error.message
        assert "Me too!" not in bench.reads(job, "message.delta")
        assert calls(info)[0].preview == "42"
        assert bench.upstream.open == 0


async def test_a_model_that_is_unloaded_by_somebody_ends_the_run_interrupted(
    tmp_path: Path,
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("Half an", hold=asyncio.Event()))
        job = await bench.start()
        await until(lambda: "Half" in bench.reads(job, "message.delta"))

        bench.upstream.models["qwen/qwen3-4b"].instances.clear()

        info = await bench.ended(job)
        assert (info.state, info.reason) == ("interrupted", "model_changed_during_execution")
        assert info.error
        assert "taken out of memory" in info.error.message
        assert info.output == "Half an"
        await until(lambda: bench.upstream.open == 0)


async def test_a_whole_answer_is_as_good_as_a_stream(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [LOOK], whole=True), Say("42.", whole=True))

        info = await bench.run()

        assert info.output == "42."
        assert calls(info)[0].state == "success"


# -- what is refused at once -----------------------------------------------------------------------


async def test_bad_input_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")

        with pytest.raises(TaskEmpty):
            await bench.start("  ")
        with pytest.raises(NoTools):
            await bench.start(servers=[])
        with pytest.raises(ToolServerNotFound) as server:
            await bench.start(servers=["bux"])
        with pytest.raises(ModelNotFound) as model:
            await bench.start(model="gpt-99")

        assert server.value.candidates == ("box",)
        assert "Available: lmstudio:qwen/qwen3-4b." in model.value.hint
        assert model.value.candidates == ("lmstudio:qwen/qwen3-4b",)
        assert (await bench.runs.page(limit=10, offset=0)).total == 0
        with pytest.raises(RunNotFound):
            await bench.runs.read("nothing")
