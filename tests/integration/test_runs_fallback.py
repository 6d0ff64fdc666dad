"""A run of an agent with several models: who works on it when one fails, and who never does."""

from pathlib import Path
from typing import Any

import pytest

from core.agents import Agent, AgentTool
from tests.agent_upstream import AgentUpstream, Call, Say
from tests.run_bench import run_bench

pytestmark = pytest.mark.anyio

BOOM = Say(status=500)
GONE = Say(status=404, error={"error": {"message": "model not found"}})
TWO = Agent(
    id="two",
    name="Two",
    description="",
    instructions="",
    models=("first", "second"),
    tools=(AgentTool(server="box"),),
)
OURS = {"servers": [], "agent_id": "two", "model": "first"}


def upstream(*first: Say, second: Say | None = None) -> AgentUpstream:
    made = AgentUpstream("first", "second")
    made.plays(*first, model="first")
    made.plays(second or Say("I am the second."), model="second")
    return made


@pytest.mark.parametrize("first", [BOOM, GONE, Say(drop=True)], ids=["500", "404", "silence"])
async def test_the_next_model_works_on_it_where_the_first_fails_before_a_word(
    tmp_path: Path, first: Say
) -> None:
    # What failed costs no round: the one that answers has all of them.
    async with run_bench(tmp_path, upstream=upstream(first), agents={"two": TWO}) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        job = await bench.start(**OURS, max_rounds=1)
        info = await bench.ended(job)

        assert (info.state, info.reason, info.output) == ("done", None, "I am the second.")
        assert (info.model_id, job.model_id) == ("lmstudio:second", "lmstudio:second")
        assert [each.model_id for each in info.tried] == ["lmstudio:first"]
        assert ([step.number for step in info.steps], info.usage.requests) == ([1], 1)
        notices = [e.data for e in job.log.read(0) if e.type == "notice"]
        assert [each["code"] for each in notices] == ["fallback"]
        assert notices[0]["message"] == f"{info.tried[0].message} SECOND is asked instead."


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ((Say("Half", drop=True),), "Half"),
        ((Say(reasoning="Hm", drop=True),), ""),
        ((Say("I look.", [Call("look")]), BOOM), "I look."),
        ((Say("", [Call("look")]), BOOM), ""),
    ],
    ids=["word", "thought", "words and a call", "call"],
)
async def test_nobody_goes_on_behind_a_word_or_a_call(
    tmp_path: Path, said: tuple[Say, ...], output: str
) -> None:
    async with run_bench(tmp_path, upstream=upstream(*said), agents={"two": TWO}) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        info = await bench.run(**OURS)

        assert (info.state, info.output, info.model_id) == ("failed", output, "lmstudio:first")
        assert info.tried == ()
        assert {body["model"] for body in bench.upstream.bodies} == {"first"}


async def test_another_model_under_the_name_of_the_first_is_no_reason_to_go_on(
    tmp_path: Path,
) -> None:
    somebody = upstream(Say("I am somebody.", model="meta/large"))
    async with run_bench(tmp_path, upstream=somebody, agents={"two": TWO}) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        info = await bench.run(**OURS)

        assert (info.state, info.reason) == ("interrupted", "model_changed_during_execution")
        assert (info.tried, info.output) == ((), "")


async def test_where_all_fail_the_last_one_says_why_and_a_run_without_others_fails_at_once(
    tmp_path: Path,
) -> None:
    alone: dict[str, Any] = {"model": "first"}
    both = upstream(BOOM, second=GONE)
    async with run_bench(tmp_path, upstream=both, agents={"two": TWO}) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        info = await bench.run(**OURS)
        single = await bench.run(**alone)

        assert (info.state, info.reason) == ("failed", "model_not_found")
        assert (info.model_id, len(info.tried)) == ("lmstudio:second", 1)
        assert (single.state, single.model_id, single.tried) == ("failed", "lmstudio:first", ())
