"""What a person chose for a tool in the Tools panel counts in every run that uses it."""

from pathlib import Path

import pytest

from tests.agent_upstream import Call, Say
from tests.run_bench import run_bench

pytestmark = pytest.mark.anyio
READ = [Say("I read.", [Call("read", {"text": "a"})]), Say("Done.")]


async def test_a_tool_that_is_always_asked_about_is_asked_about_in_a_run_that_asks_nothing(
    tmp_path: Path,
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.read", "text", read_only=True, open_world=False, approval="ask")
        bench.upstream.plays(*READ)
        job = await bench.start(approve="auto")

        assert [each.tool for each in await bench.asked(job)] == ["read"]
        assert bench.tools.calls == []


async def test_a_tool_that_need_not_be_asked_about_does_not_loosen_what_the_run_says(
    tmp_path: Path,
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.read", "text", read_only=False, open_world=False, approval="auto")
        bench.upstream.plays(*READ)
        job = await bench.start(approve="read-only")

        assert [each.tool for each in await bench.asked(job)] == ["read"]
