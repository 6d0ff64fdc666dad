"""Runs over a real socket, a real database and the real loop; tools are functions of the test."""

import asyncio
import importlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.agents import Agent
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.providers import ProviderConfig
from core.router import Router
from core.runs import Approval, CallRecord, Decision, RunDraft, RunInfo
from core.runs_service import RunService
from core.tools import ToolBox
from infrastructure.loop import PydanticLoop
from infrastructure.providers.lmstudio import LMStudioProvider
from infrastructure.storage import SqlChatStore, open_store, sqlite_url
from tests.agent_upstream import AgentUpstream
from tests.sockets import serve
from tests.tool_box import FakeToolBox

DEADLINE = 60.0
LOOP = PydanticLoop()


@dataclass
class RunBench:
    """A run service, and the shortest way to give it something to do."""

    upstream: AgentUpstream
    tools: Any
    runs: RunService
    jobs: JobService
    library: ModelLibrary
    store: SqlChatStore

    async def start(self, task: str = "Do it.", **draft: Any) -> Job:
        wanted = {"servers": ["box"], "model": next(iter(self.upstream.models)), **draft}
        return await self.runs.start(RunDraft.model_validate({"task": task, **wanted}))

    async def run(self, task: str = "Do it.", **draft: Any) -> RunInfo:
        """From start to end."""
        return await self.ended(await self.start(task, **draft))

    async def ended(self, job: Job) -> RunInfo:
        async with asyncio.timeout(DEADLINE):
            await job.ended.wait()
        info = await self.runs.read(job.id)
        assert info == await self.store.runs.run(job.id)
        assert info.state == job.state
        return info

    async def asked(self, job: Job, *, count: int = 1) -> tuple[Approval, ...]:
        """What waits for a person, once so many do."""
        async with asyncio.timeout(DEADLINE):
            while True:
                info = await self.runs.read(job.id)
                if len(info.approvals) >= count:
                    return info.approvals
                assert job.state == "running", info
                await asyncio.sleep(0.005)

    async def decide(self, job: Job, **decision: Any) -> Approval:
        """Decide about the one call that waits."""
        approval = (await self.asked(job))[0]
        self.runs.decide(job.id, approval.call_id, Decision.model_validate(decision))
        return approval

    def types(self, job: Job) -> list[str]:
        """The events' names, neighbours of one kind once."""
        return [event.type for event in job.log.read(0)]

    def reads(self, job: Job, event_type: str) -> str:
        """All text of a kind."""
        return "".join(e.data["content"] for e in job.log.read(0) if e.type == event_type)


def calls(info: RunInfo) -> list[CallRecord]:
    """All of them, in order."""
    return [call for step in info.steps for call in step.calls]


@asynccontextmanager
async def run_bench(
    data_dir: Path,
    *keys: str,
    upstream: AgentUpstream | None = None,
    toolbox: ToolBox | None = None,
    agents: dict[str, Agent] | None = None,
    retry_attempts: int = 0,
    url: str | None = None,
    **options: Any,
) -> AsyncGenerator[RunBench]:
    """Everything up, before a scripted server unless there is a `url`. Leaves no connection open, whatever the test did."""
    upstream = upstream or AgentUpstream(*keys)
    tools = toolbox if toolbox is not None else FakeToolBox()
    # Else the first run of this process would spend its minutes on that.
    await asyncio.to_thread(importlib.import_module, "infrastructure.loop.engine")
    jobs = JobService()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(sqlite_url(data_dir)))
        if url is None:
            url = await stack.enter_async_context(serve(upstream))
        provider = LMStudioProvider("lmstudio", url)
        library = ModelLibrary([], jobs)
        library.add(
            provider,
            ProviderConfig(
                name="lmstudio", kind="lmstudio", base_url=url, retry_attempts=retry_attempts
            ),
        )
        stack.push_async_callback(provider.aclose)
        stack.push_async_callback(library.aclose)
        stack.push_async_callback(jobs.aclose)
        runs = RunService(
            chats=store,
            store=store.runs,
            library=library,
            jobs=jobs,
            router=Router(library),
            agents=agents or {},
            toolbox=tools,
            loop=LOOP,
            **options,
        )
        await runs.open()
        yield RunBench(upstream, tools, runs, jobs, library, store)
