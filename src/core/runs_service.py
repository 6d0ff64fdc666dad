"""RunService: a task worked on with tools by one model, from the start to what is kept of it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from core.agents import Agent
from core.chain import MOVES_ON, moved_on
from core.chats import Problem, Tried
from core.errors import DeskError, JobNotFound, StorageError
from core.eventlog import Event
from core.jobs import Job, JobService, JobState
from core.leases import Lease
from core.library import ModelLibrary
from core.models import ModelInfo
from core.ports import ChatStore
from core.router import Router
from core.runs import Decision, RunDraft, RunInfo, RunPage
from core.runs_approvals import WAIT_SECONDS, Allowed, Approvals
from core.runs_calls import CALL_SECONDS, Calls
from core.runs_door import ModelDoor, changed
from core.runs_errors import (
    ApprovalClosed,
    LoopFailed,
    ModelChangedDuringExecution,
    RunOver,
    TooManyRuns,
)
from core.runs_host import RunHost
from core.runs_plan import RunPlan, RunPlanner
from core.runs_ports import AgentLoop, RunStore
from core.runs_record import RunRecord, result_of
from core.runs_spec import fresh_run, listed_run, spec_of, why_schema
from core.tools import ToolBox, ToolResult
from core.turns import INTERNAL

log = logging.getLogger(__name__)

# So many at a time; more would only slow each other down.
MAX_RUNNING = 32
# What is lost at most when the process is killed.
KEEP_SECONDS = 0.5
# So long a deleted run can be brought back for certain, also after a restart.
UNDO_SECONDS = 3600.0
# Reasons for which the library ends a job that holds a lease: the model is not what it was.
MODEL_GONE = {
    "model_unloaded": "was taken out of memory",
    "model_changed": "was swapped for another model",
    "provider_removed": "went away with its provider",
}


class _Live:
    """A run under way."""

    def __init__(self, job: Job, plan: RunPlan, record: RunRecord, approvals: Approvals) -> None:
        self.job = job
        self.plan = plan
        self.record = record
        self.approvals = approvals
        self.model = plan.model
        """The one that is asked now."""
        self.has_begun = False
        """Whether there is a word of it: from then on no other model may go on."""
        self.seconds_left = plan.limits.minutes * 60
        self.on_move: Callable[[ModelInfo, Tried], None] | None = None
        self.written = 0
        """Number of the last event that is kept."""
        self.over = asyncio.Event()


class RunService:
    """Starts runs. A run belongs to the API: whoever asked may leave."""

    def __init__(
        self,
        *,
        chats: ChatStore,
        store: RunStore,
        library: ModelLibrary,
        jobs: JobService,
        router: Router,
        agents: Mapping[str, Agent],
        toolbox: ToolBox,
        loop: AgentLoop,
        wait_seconds: float = WAIT_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """`wait_seconds`: how long a call waits for a person; `call_seconds`: for its tool."""
        self._store = store
        self._library = library
        self._jobs = jobs
        self._toolbox = toolbox
        self._loop = loop
        self.wait_seconds = wait_seconds
        """Of runs that begin from now on."""
        self._call_seconds = call_seconds
        self._planner = RunPlanner(chats, library, router, agents, toolbox)
        self._live: dict[str, _Live] = {}
        self.allowed = Allowed(store)
        """What people let run for good."""

    async def open(self) -> None:
        """Read what is kept, and end what a crash left running. Raises StorageError."""
        await self.allowed.open()
        await self._store.interrupt_runs(reason="server_stopped")

    async def start(self, draft: RunDraft) -> Job:
        """Check everything, then start working.

        Raises TaskEmpty, NoTools, MessageTooLong, ChatNotFound, AgentNotFound, ModelNotFound (with
        what is available), ModelAmbiguous, NoModelFits, ToolServerNotFound (with the closest names),
        ToolServerNotTrusted, ToolServerOff, ToolServerFailed, TooManyRuns, StorageError, or what
        keeps the model's provider from answering. Then nothing is kept.
        """
        self._require_room()
        plan = await self._planner.plan(draft)
        self._require_room()  # others may have come while the tool servers started
        job = Job("run", chat_id=draft.chat_id, model_id=plan.model.full_name)
        job.enter("queued")
        record = RunRecord(job, fresh_run(job.id, plan))
        await self._store.add_run(record.info)
        approvals = Approvals(
            job, record, self.allowed, plan.mode_of, wait_seconds=self.wait_seconds
        )
        live = self._live[job.id] = _Live(job, plan, record, approvals)
        return self._jobs.start(job, lambda job: self._work(live))

    async def within(
        self,
        job: Job,
        draft: RunDraft,
        *,
        agent: Agent,
        models: Sequence[ModelInfo] = (),
        on_move: Callable[[ModelInfo, Tried], None] | None = None,
        on_end: Callable[[RunInfo], None],
    ) -> None:
        """Do the same as a part of this job, whose id the run then has; `on_end` gets the run.

        `models` may be asked, in this order; without any they are looked for. `on_move` gets the one
        that is asked now, and what became of the one before.

        Raises what `start` raises, what the run ends with, and CancelledError when the job is ended.
        """
        plan = await self._planner.plan(draft, agent=agent, models=models)
        record = RunRecord(job, fresh_run(job.id, plan))
        await self._store.add_run(record.info)
        approvals = Approvals(
            job, record, self.allowed, plan.mode_of, wait_seconds=self.wait_seconds
        )
        live = self._live[job.id] = _Live(job, plan, record, approvals)
        live.on_move = on_move
        try:
            await self._work(live)
        finally:
            on_end(record.info)

    def decide(self, run_id: str, call_id: str, decision: Decision) -> None:
        """Raises ApprovalClosed for what does not wait, or waits no more."""
        live = self._live.get(run_id)
        if live is None:
            raise ApprovalClosed(
                f"No run {run_id!r} is under way.", hint="It may have ended meanwhile."
            )
        live.approvals.decide(call_id, decision)

    async def read(self, run_id: str) -> RunInfo:
        """As it is now. Raises RunNotFound."""
        if (live := self._live.get(run_id)) is not None:
            return live.record.info
        run = await self._store.run(run_id)
        if run.state == "running" and (job := self.job(run_id)) is not None:
            # Its end could not be written down, as on a full disk.
            ended = {"state": job.state, "reason": job.info.reason, "error": job.error}
            return run.model_copy(update=ended)
        return run

    async def page(self, *, chat_id: str | None = None, limit: int, offset: int) -> RunPage:
        """Newest first, without steps; of long tasks the beginning."""
        page = await self._store.runs(chat_id=chat_id, limit=limit, offset=offset)
        return page.model_copy(update={"runs": tuple(listed_run(run) for run in page.runs)})

    def job(self, run_id: str) -> Job | None:
        """Its job while that is in memory; the turn's own, where an agent works in a chat."""
        with suppress(JobNotFound):
            return self._jobs.get(run_id)
        return None

    async def past_events(self, run_id: str, *, after: int) -> list[Event]:
        """The kept events behind this number; with the last one, as its watchers got it."""
        run = await self._store.run(run_id)
        events = await self._store.run_events(run_id, after=0)
        number = events[-1].number + 1 if events else 1
        end = {
            "type": "job.end",
            "status": run.state,
            "reason": run.reason,
            "error": run.error.model_dump() if run.error else None,
            "result": result_of(run),
        }
        return [e for e in [*events, Event(number, "job.end", end)] if e.number > after]

    async def result(self, run_id: str, call_id: str) -> ToolResult:
        """All that a call gave back. Raises RunNotFound."""
        return await self._store.result(run_id, call_id)

    async def stop(self, run_id: str) -> RunInfo:
        """End it early; returns when it has ended. Raises RunNotFound."""
        if run_id in self._live:
            await self._jobs.stop(run_id)
        return await self.read(run_id)

    async def delete(self, run_id: str) -> None:
        """Stop it and hide it; `restore` brings it back. Raises RunNotFound."""
        await self.stop(run_id)
        await self._store.delete_run(run_id)

    async def restore(self, run_id: str) -> RunInfo:
        """Undo a delete. Raises RunNotFound once it is gone for good."""
        return await self._store.restore_run(run_id)

    async def purge(self, *, keep_seconds: float | None) -> int:
        """Remove for good what nobody can bring back any more, what belongs to no chat any more, and
        what is older than this outside of chats; how many. Raises StorageError."""
        now = time.time()
        before = None if keep_seconds is None else now - keep_seconds
        return await self._store.purge_runs(before=before, deleted_before=now - UNDO_SECONDS)

    # -- inside ----------------------------------------------------------------------------------

    def _require_room(self) -> None:
        if len(self._live) >= MAX_RUNNING:
            raise TooManyRuns(
                f"{len(self._live)} runs are under way, and there may not be more.",
                hint="Wait for one to end, or stop one.",
            )

    async def _work(self, live: _Live) -> None:
        job, record = live.job, live.record
        keeper = asyncio.create_task(self._keep(live), name=f"keeper of run {job.id}")
        state: JobState = "done"
        reason: str | None = None
        problem: Problem | None = None
        output = ""
        try:
            output = await self._down_the_chain(live)
            if record.usage.tokens >= live.plan.limits.tokens:
                state, reason = job.ending = ("done", "limit_tokens")
        except RunOver as over:
            state, reason = over.state, over.reason
            record.note(over.reason, over.message)
            job.ending = (state, reason)
        except asyncio.CancelledError:
            state, reason = job.ending or ("interrupted", "server_stopped")
            if reason not in MODEL_GONE:
                raise
            error = changed(f"{live.model.full_name} {MODEL_GONE[reason]} during the run.")
            reason, problem = error.code, _problem(error)
            raise error from None
        except ModelChangedDuringExecution as error:
            state, reason, problem = "interrupted", error.code, _problem(error)
            job.ending = (state, error.code)
            raise
        except DeskError as error:
            state, reason, problem = "failed", error.code, _problem(error)
            raise
        except Exception:
            state, reason, problem = "failed", "internal", INTERNAL
            raise
        finally:
            job.settle()
            record.end(state, reason, output=output, problem=problem)
            await self._put_away(live, keeper)

    async def _down_the_chain(self, live: _Live) -> str:
        """Ask one model after the other until there is a word of one, which then goes on to the end."""
        others = iter(live.plan.models[1:])
        while True:
            try:
                async with self._library.lease(live.model, live.job) as lease:
                    return await self._in_time(live, lease)
            except MOVES_ON as error:
                following = next(others, None)
                another = isinstance(error, ModelChangedDuringExecution)
                if live.has_begun or following is None or another:
                    raise
                self._move_on(live, following, error)

    def _move_on(self, live: _Live, following: ModelInfo, error: DeskError) -> None:
        tried = moved_on(live.job, live.model, following, error)
        live.model = following
        live.record.start_over(following.full_name, tried)
        if live.on_move is not None:
            live.on_move(following, tried)

    async def _in_time(self, live: _Live, lease: Lease) -> str:
        minutes = live.plan.limits.minutes
        began = time.monotonic()
        clock = asyncio.timeout(live.seconds_left)
        try:
            async with clock:
                return await self._loop_once(live, lease)
        except TimeoutError:
            if not clock.expired():
                raise
            message = f"The run took longer than {minutes:g} minutes, which is the limit."
            raise RunOver("done", "limit_minutes", message) from None
        finally:
            live.seconds_left -= time.monotonic() - began

    async def _loop_once(self, live: _Live, lease: Lease) -> str:
        plan, record = live.plan, live.record
        limits = plan.limits
        spec = spec_of(plan, lease)
        record.change(
            instance_id=lease.instance.id,
            context_length=lease.instance.context_length,
            load_seconds=lease.load_seconds,
            schema_mode=spec.schema_mode,
        )
        if spec.schema_mode and plan.draft.tools == "auto":
            record.note("schema_mode", f"{why_schema(lease.model)}; it writes its calls as JSON.")
        door = ModelDoor(self._library, lease, live.job, record, limits)
        calls = Calls(
            live.job.id,
            self._toolbox,
            self._store,
            record,
            live.approvals,
            result_chars=limits.result_chars,
            call_seconds=self._call_seconds,
        )
        host = RunHost(door, record, calls, plan=spec.plan, plan_in_schema=plan.plan_mode == "on")
        try:
            with self._toolbox.using(plan.servers):
                output = await self._loop.run(spec, host)
        except Exception as error:
            if (over := host.ends_anyway(error)) is not None:
                raise over from error
            if host.failure is not None and host.failure is not error:
                raise host.failure from error
            if isinstance(error, LoopFailed):
                door.check_tokens()  # an answer that was cut short is no failure of the model's
            raise
        else:
            if host.over is not None:
                raise host.over
            return output
        finally:
            live.has_begun = door.heard
            door.close()

    async def _keep(self, live: _Live) -> None:
        """Write what there is so far, whenever something happened."""
        while not live.over.is_set():
            if live.job.log.last > live.written:
                try:
                    await self._write(live)
                except StorageError as error:
                    log.warning("a run under way could not be kept: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(KEEP_SECONDS):
                    await live.over.wait()

    async def _write(self, live: _Live) -> None:
        events = live.job.log.read(live.written)
        await self._store.write_run(live.record.info, events)
        live.written = events[-1].number if events else live.written

    async def _put_away(self, live: _Live, keeper: asyncio.Task[None]) -> None:
        """Keep all of it; only then the job's last event goes out."""
        live.job.result = result_of(live.record.info)
        live.over.set()
        try:
            # Not cancelled: a write that is broken off in the middle may keep the database locked.
            await asyncio.wait([keeper])
            await self._write(live)
        finally:
            del self._live[live.job.id]


def _problem(error: DeskError) -> Problem:
    return Problem(code=error.code, message=error.message, hint=error.hint)
