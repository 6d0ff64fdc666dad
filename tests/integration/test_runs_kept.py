"""What is kept of runs, and many of them at once."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from core.agents import Agent, AgentTool
from core.errors import StorageError
from core.jobs import Job
from core.runs import RunDraft, RunInfo
from core.runs_errors import RunNotFound, TooManyRuns
from tests.agent_upstream import AgentUpstream, Call, Say
from tests.run_bench import calls, run_bench
from tests.sockets import until

pytestmark = pytest.mark.anyio


async def test_a_run_is_read_again_with_everything_that_happened(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [Call("look")]), Say(["It ", "is ", "42."]))
        job = await bench.start()
        info = await bench.ended(job)
        live = job.log.read(0)

    async with run_bench(tmp_path) as again:
        assert await again.runs.read(info.id) == info
        past = await again.runs.past_events(info.id, after=0)
        assert [event.type for event in past] == [event.type for event in live]
        assert past[-1] == live[-1]
        assert await again.runs.past_events(info.id, after=past[-2].number) == [past[-1]]
        assert (await again.runs.result(info.id, calls(info)[0].id)).text == "42"
        page = await again.runs.page(limit=5, offset=0)
        assert (page.total, page.runs[0].id, page.runs[0].steps) == (1, info.id, ())

        await again.runs.delete(info.id)

        with pytest.raises(RunNotFound):
            await again.runs.read(info.id)
        with pytest.raises(RunNotFound):
            await again.runs.result(info.id, calls(info)[0].id)


async def test_a_run_that_a_crash_ended_is_shown_as_interrupted(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("I look.", [Call("look")]), Say("Half", hold=asyncio.Event()))
        job = await bench.start()
        async with asyncio.timeout(20):
            while len((await bench.store.runs.run(job.id)).steps) < 2:
                await asyncio.sleep(0.01)
        # What the disk has now is what a killed process would leave.
        async with run_bench(tmp_path) as again:
            info = await again.runs.read(job.id)

            assert (info.state, info.reason) == ("interrupted", "server_stopped")
            assert calls(info)[0].preview == "42"
            assert info.output in ("Half", "I look.")
            last = (await again.runs.past_events(job.id, after=0))[-1]
            assert (last.type, last.data["status"]) == ("job.end", "interrupted")
        await bench.runs.stop(job.id)


async def test_a_desk_that_shuts_down_interrupts_and_keeps(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("Half", hold=asyncio.Event()))
        job = await bench.start()
        await until(lambda: bench.reads(job, "message.delta") == "Half")

        await bench.jobs.aclose()

        info = await bench.ended(job)
        assert (info.state, info.reason, info.output) == ("interrupted", "server_stopped", "Half")


async def test_an_end_that_cannot_be_written_down_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        hold = asyncio.Event()
        bench.upstream.plays(Say("Half", hold=hold))
        job = await bench.start()
        await until(lambda: bench.reads(job, "message.delta") == "Half")

        async def full(*given: Any) -> None:
            raise StorageError("The disk is full.")

        monkeypatch.setattr(bench.store.runs, "write_run", full)
        hold.set()
        async with asyncio.timeout(20):
            await job.ended.wait()

        info = await bench.runs.read(job.id)
        assert (info.state, info.reason) == ("failed", "storage_error")
        assert info.error
        assert info.error.message == "The disk is full."
        assert bench.reads(job, "message.delta") == "Half"


async def test_a_run_inside_a_turn_is_watched_by_the_turns_job(tmp_path: Path) -> None:
    agent = Agent(
        id="a", name="A", description="", instructions="", tools=(AgentTool(server="box"),)
    )
    async with run_bench(tmp_path, agents={"a": agent}) as bench:
        bench.tools.says("box.look", "42")
        hold = asyncio.Event()
        bench.upstream.plays(Say("Half", hold=hold))
        draft = RunDraft(task="Do it.", agent_id="a", model="qwen/qwen3-4b")
        ended: list[RunInfo] = []

        def work(job: Job) -> Awaitable[None]:
            return bench.runs.within(job, draft, agent=agent, on_end=ended.append)

        job = bench.jobs.start(Job("turn"), work)
        await until(lambda: bench.reads(job, "message.delta") == "Half")

        assert bench.runs.job(job.id) is job
        assert (await bench.runs.read(job.id)).state == "running"
        hold.set()
        await bench.ended(job)
        assert [info.output for info in ended] == ["Half"]


async def test_more_runs_than_may_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs_service.MAX_RUNNING", 1)
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42")
        bench.upstream.plays(Say("Half", hold=asyncio.Event()))
        job = await bench.start()

        with pytest.raises(TooManyRuns):
            await bench.start()
        await bench.runs.stop(job.id)


def _echoing(changes: dict[str, asyncio.Event]) -> Callable[[dict[str, Any]], Say]:
    """Each run says its own number in each turn; a marked one waits in its second answer."""

    def script(body: dict[str, Any]) -> Say:
        number = re.search(r"number (\d+)", body["messages"][1]["content"])
        assert number
        mine = number[1]
        if body["messages"][-1]["role"] != "tool":
            return Say(f"I am {mine}.", [Call("look", {"n": mine})])
        return Say(f"Still {mine}: {body['messages'][-1]['content']}", hold=changes.get(mine))

    return script


async def test_ten_runs_on_three_models_with_models_changed_in_the_middle(tmp_path: Path) -> None:
    """Each ends with a stated reason, and none has another's words."""
    keys = ("a/one", "b/two", "c/three")
    upstream = AgentUpstream(*keys)
    # Those of the second and third model wait, so that the change is certain to come in the middle.
    held = {str(n): asyncio.Event() for n in range(10) if n % 3}
    for key in keys:
        upstream.scripts[key] = _echoing(held)
    async with run_bench(tmp_path, upstream=upstream) as bench:

        async def look(arguments: dict[str, Any]) -> str:
            await asyncio.sleep(0)
            return f"seen by {arguments['n']}"

        bench.tools.add("box.look", look, read_only=True)
        jobs = [await bench.start(f"You are number {n}.", model=keys[n % 3]) for n in range(10)]
        await until(
            lambda: all(f"Still {n}" in bench.reads(jobs[n], "message.delta") for n in range(10)),
            seconds=60,
        )

        # The second is taken away by another program, the third is swapped out here.
        upstream.models["b/two"].instances.clear()
        third = await bench.library.resolve("c/three")
        bench.library.start_unload(third, force=True)
        ended = [await bench.ended(job) for job in jobs]

        for n, info in enumerate(ended):
            wanted = [("done", None), *[("interrupted", "model_changed_during_execution")] * 2]
            assert (info.state, info.reason) == wanted[n % 3]
            assert info.output == f"Still {n}: seen by {n}"
            told = bench.reads(jobs[n], "message.delta")
            assert told == f"I am {n}.Still {n}: seen by {n}"
            assert info.model_id == f"lmstudio:{keys[n % 3]}"
            assert [call.preview for call in calls(info)] == [f"seen by {n}"]
        await until(lambda: upstream.open == 0)
        assert bench.tools.open == 0


async def test_the_list_has_the_beginning_of_a_long_task_and_a_run_all_of_it(
    tmp_path: Path,
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("Done."))
        task = "Look at it. " * 20_000

        run = await bench.run(task)
        listed = (await bench.runs.page(limit=50, offset=0)).runs[0]

        assert run.task == task
        assert (listed.id, listed.task) == (run.id, f"{task[:400]}…")
