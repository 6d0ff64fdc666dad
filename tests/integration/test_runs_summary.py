"""A run at its limit: the model is asked once more for a last word, and what becomes of that."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.runs import RunInfo
from tests.agent_upstream import Call, Say
from tests.run_bench import RunBench, calls, run_bench
from tests.sockets import until

pytestmark = pytest.mark.anyio

MODEL = "qwen/qwen3-4b"
QUESTION = "This is the end of the work"


def look(number: int) -> Call:
    return Call("look", {"n": number})


def working(last: Say, *, bench: RunBench) -> None:
    """A model that never comes to an end by itself; `last` is what it says when asked for a word."""

    def script(body: dict[str, Any]) -> Say:
        if QUESTION in str(body["messages"][-1]["content"]):
            return last
        made = sum(message["role"] == "assistant" for message in body["messages"])
        return Say(f"Look {made}.", [look(made)])

    bench.upstream.scripts[MODEL] = script


async def ended_at(tmp_path: Path, last: Say, **draft: Any) -> tuple[RunInfo, RunBench, list[str]]:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        working(last, bench=bench)
        job = await bench.start(**draft)
        info = await bench.ended(job)
        await until(lambda: bench.upstream.open == 0)
        notices = [e.data["code"] for e in job.log.read(0) if e.type == "notice"]
    return info, bench, notices


async def test_out_of_rounds_it_says_what_was_done(tmp_path: Path) -> None:
    last = Say("Two looks, both 42. The rest is missing.", usage=(90, 12))

    info, bench, notices = await ended_at(tmp_path, last, max_rounds=2)

    assert (info.state, info.reason) == ("done", "limit_rounds")
    assert info.output == "Two looks, both 42. The rest is missing."
    assert [step.summary for step in info.steps] == [False, False, True]
    assert (info.steps[2].input_tokens, info.steps[2].output_tokens) == (90, 12)
    assert (info.usage.requests, info.usage.tool_calls) == (3, 2)
    assert info.usage.tokens == 2 * 60 + 102
    asked = bench.upstream.bodies[-1]
    assert "tools" not in asked
    assert asked["max_tokens"] == 1024
    assert [m["content"] for m in asked["messages"] if m["role"] == "tool"] == ["42", "42"]
    assert notices == ["limit_rounds"]


async def test_out_of_tokens_too_and_no_further(tmp_path: Path) -> None:
    info, bench, _ = await ended_at(tmp_path, Say("So far."), max_tokens=100)

    assert (info.state, info.reason, info.output) == ("done", "limit_tokens", "So far.")
    assert [body["max_tokens"] for body in bench.upstream.bodies] == [100, 40, 1024]


async def test_a_call_that_the_tokens_cut_short_ends_with_a_last_word(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)

        def script(body: dict[str, Any]) -> Say:
            if QUESTION in str(body["messages"][-1]["content"]):
                return Say("One look.")
            if body["messages"][-1]["role"] == "tool":
                return Say("", [Call("look", '{"n": ')], finish="length", usage=(50, 50))
            return Say("I look.", [look(1)])

        bench.upstream.scripts[MODEL] = script

        info = await bench.run(max_tokens=120)

        assert (info.state, info.reason, info.output) == ("done", "limit_tokens", "One look.")


async def test_calls_it_still_makes_do_not_run_and_stay_out_of_its_words(tmp_path: Path) -> None:
    text = 'I am not done.<tool_call>{"name": "look", "arguments": {"n": 9}}</tool_call>'

    info, bench, _ = await ended_at(tmp_path, Say(text, [look(8)]), max_rounds=1)

    assert info.output == "I am not done."
    assert [name for name, _ in bench.tools.calls] == ["box.look"]
    assert len(calls(info)) == 1
    assert info.usage.requests == 2


@pytest.mark.parametrize(
    "last",
    [
        Say(status=500),
        Say(status=400, error={"error": {"message": "roles must alternate"}}),
        Say(""),
        Say("  "),
        Say("", [look(7)]),
        Say("", drop=True),
    ],
    ids=["fails", "refuses", "empty", "blank", "calls", "breaks off"],
)
async def test_without_a_last_word_it_ends_as_it_would_have(tmp_path: Path, last: Say) -> None:
    info, _, notices = await ended_at(tmp_path, last, max_rounds=2)

    assert (info.state, info.reason, info.output) == ("done", "limit_rounds", "Look 1.")
    assert info.error is None
    assert notices[-1] == "limit_rounds"


async def test_a_last_word_that_breaks_off_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    info, _, notices = await ended_at(tmp_path, Say("One look, and", drop=True), max_rounds=1)

    assert (info.reason, info.output) == ("limit_rounds", "One look, and")
    assert notices == ["no_summary", "limit_rounds"]


async def test_another_models_last_word_interrupts(tmp_path: Path) -> None:
    info, _, _ = await ended_at(tmp_path, Say("Not me.", model="other/model"), max_rounds=1)

    assert (info.state, info.reason) == ("interrupted", "model_changed_during_execution")
    assert "Not me." not in info.output


async def test_stopped_during_its_last_word(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        working(Say("So far", hold=asyncio.Event()), bench=bench)
        job = await bench.start(max_rounds=1)
        await until(lambda: bench.reads(job, "message.delta").endswith("So far"))

        await bench.runs.stop(job.id)

        info = await bench.ended(job)
        assert (info.state, info.reason, info.output) == ("stopped", "user", "So far")
        await until(lambda: bench.upstream.open == 0)


async def test_out_of_minutes_nothing_more_is_asked(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:

        async def hangs(arguments: dict[str, Any]) -> str:
            await asyncio.Event().wait()
            return ""

        bench.tools.add("box.look", hangs, read_only=True)
        working(Say("Never asked."), bench=bench)

        info = await bench.run(max_minutes=0.02)

        assert (info.state, info.reason) == ("done", "limit_minutes")
        assert len(bench.upstream.bodies) == 1


async def test_in_json_mode_it_is_asked_in_the_same_shape(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)

        def script(body: dict[str, Any]) -> Say:
            if QUESTION in str(body["messages"][-1]["content"]):
                return Say('{"answer": "One look: \\"42\\"."}')
            return Say('{"tool": "look", "arguments": {}}')

        bench.upstream.scripts[MODEL] = script

        info = await bench.run(tools="schema", max_rounds=1)

        assert (info.reason, info.output) == ("limit_rounds", 'One look: "42".')
        schema = bench.upstream.bodies[-1]["response_format"]["json_schema"]["schema"]
        assert list(schema["properties"]) == ["answer"]


async def test_an_answer_at_the_limit_is_the_answer(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [look(1)]), Say("It is 42."))

        info = await bench.run(max_rounds=2)

        assert (info.state, info.reason, info.output) == ("done", None, "It is 42.")
        assert len(bench.upstream.bodies) == 2
