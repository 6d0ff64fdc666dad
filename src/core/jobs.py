"""Jobs: the one mechanism for everything long.

A job runs in a task of ours, whoever watches or leaves. It ends exactly once, and its last event,
`job.end`, says how.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal

from core.bell import Bell
from core.chats import Problem
from core.errors import DeskError, JobNotFound
from core.eventlog import Event, EventLog
from core.timeline import Phase, Timeline
from core.value import Value

log = logging.getLogger(__name__)

JobKind = Literal[
    "turn",
    "request",
    "load",
    "unload",
    "download",
    "benchmark",
    "run",
    "recipe",
    "comparison",
]
JobState = Literal["running", "done", "failed", "stopped", "interrupted"]

# How the ids of other programs' requests begin: what they stop is not a chat.
REQUEST = "request-"
# A silent stream shows a sign of life this often; also how a proxy and a closed tab are noticed.
TICK_SECONDS = 1.0
# Ended jobs stay readable for late watchers; what they made is in the database.
KEPT_ENDED = 200


class JobInfo(Value):
    """A job as others see it."""

    id: str
    kind: JobKind
    state: JobState
    chat_id: str | None = None
    message_id: str | None = None
    model_id: str | None = None
    phase: Phase | None = None
    progress: float | None = None
    """0 to 1 within the phase; None when unknown."""
    exact: bool | None = None
    """Whether `progress` is the server's own figure."""
    stage: str | None = None
    reason: str | None = None
    error: Problem | None = None
    created_at: float
    phase_at: float
    """When the phase began, Unix seconds."""
    ended_at: float | None = None
    last_event: int = 0
    moved_at: float | None = None
    """When anything happened last, Unix seconds."""
    usual_seconds: float | None = None
    """How long the load it is in took last time; None when that is not known."""


class Job:
    """One job: what the work writes to, and what watchers read from."""

    def __init__(
        self,
        kind: JobKind,
        *,
        chat_id: str | None = None,
        message_id: str | None = None,
        model_id: str | None = None,
    ) -> None:
        self.id = (REQUEST if kind == "request" else "") + uuid.uuid4().hex
        self.kind: JobKind = kind
        self.chat_id = chat_id
        self.message_id = message_id
        self.model_id = model_id
        self.result: dict[str, Any] = {}
        self.log = EventLog()
        self.timeline = Timeline()
        self.ended = asyncio.Event()
        self.ending: tuple[JobState, str] | None = None
        self._state: JobState = "running"
        self._phase: Phase | None = None
        self._progress: float | None = None
        self._exact: bool | None = None
        self._stage: str | None = None
        self._place: tuple[Phase, float | None, str | None] | None = None
        self._reason: str | None = None
        self._error: Problem | None = None
        self._created_at = self._phase_at = self._moved_at = time.time()
        self._ended_at: float | None = None
        self._watchers: set[Bell] = set()
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._settling = False

    @property
    def state(self) -> JobState:
        return self._state

    @property
    def error(self) -> Problem | None:
        return self._error

    @property
    def info(self) -> JobInfo:
        return JobInfo(
            id=self.id,
            kind=self.kind,
            state=self._state,
            chat_id=self.chat_id,
            message_id=self.message_id,
            model_id=self.model_id,
            phase=self._phase,
            progress=self._progress,
            exact=self._exact,
            stage=self._stage,
            reason=self._reason,
            error=self._error,
            created_at=self._created_at,
            phase_at=self._phase_at,
            ended_at=self._ended_at,
            last_event=self.log.last,
            moved_at=self._moved_at,
        )

    def emit(self, event_type: str, **data: Any) -> None:
        """Add an event."""
        self.log.append(event_type, data)
        self._wake()

    def text(self, event_type: str, content: str) -> None:
        """Add a text delta."""
        self.log.append_text(event_type, content)
        self._wake()

    def enter(
        self,
        phase: Phase,
        progress: float | None = None,
        *,
        exact: bool | None = None,
        stage: str | None = None,
    ) -> None:
        """Say where the job is, for lists and late comers."""
        if phase != self._phase:
            self._phase, self._phase_at = phase, time.time()
            self.timeline.enter(phase)
        if (phase, progress, stage) != self._place:
            self._place, self._moved_at = (phase, progress, stage), time.time()
            self.timeline.mark(progress, stage)
        self._progress, self._exact, self._stage = progress, exact, stage

    async def watch(
        self, *, after: int = 0, merge_seconds: float = 0.0, tick: float = TICK_SECONDS
    ) -> AsyncGenerator[list[Event]]:
        """Batches of events behind number `after` until the last one; an empty batch is a tick."""
        bell = Bell(tick)
        self._watchers.add(bell)
        try:
            while True:
                if batch := self.log.read(after):
                    after = batch[-1].number
                    yield batch
                    if batch[-1].type == "job.end":
                        return
                    if merge_seconds:
                        await asyncio.sleep(merge_seconds)
                    continue
                if self._ended_at is not None:  # resumed behind the last event
                    return
                # No await since the look at the log: nothing is missed.
                if not await bell.wait():
                    yield []
        finally:
            self._watchers.discard(bell)
            bell.close()

    def _wake(self) -> None:
        self._moved_at = time.time()
        for bell in self._watchers:
            bell.ring()

    def run(self, work: Callable[["Job"], Awaitable[None]]) -> None:
        """Start the work in a task of its own."""
        self._task = asyncio.create_task(self._run(work), name=f"job {self.kind} {self.id}")

    @contextmanager
    def attended(self) -> Generator[None]:
        """For work that the caller's own task does: while inside, ending the job cancels it.

        Then the caller goes on behind the block, and `ending` says why.
        """
        task = self._task = asyncio.current_task()
        assert task is not None
        self._begun = True
        try:
            yield
        except asyncio.CancelledError:
            # Both at once, ours and the server's own: the server's counts.
            if self.ending is None or task.uncancel():
                raise
        finally:
            self._settling = True
            self._end(*(self.ending or ("done", None)))

    def settle(self) -> None:
        """The work is over and only what came of it is still written down: too late to end it."""
        self._settling = True

    def request_end(self, state: JobState, reason: str) -> None:
        """Ask the work to end; it still gets to keep what it has. Asking twice changes nothing."""
        if self._settling:
            return
        if self.ending is None and self._task is not None and not self._task.done():
            self.ending = (state, reason)
            # A task cancelled before its first step never enters its work, and nothing would tidy up.
            if self._begun:
                self._task.cancel()

    async def _run(self, work: Callable[["Job"], Awaitable[None]]) -> None:
        self._begun = True
        if self.ending is not None and self._task is not None:
            self._task.cancel()  # reaches the work at its first wait
        try:
            await work(self)
            self._end(*(self.ending or ("done", None)))
        except asyncio.CancelledError:
            self._end(*(self.ending or ("interrupted", "server_stopped")))
        except DeskError as error:
            problem = Problem(code=error.code, message=error.message, hint=error.hint)
            state: JobState = self.ending[0] if self.ending else "failed"
            self._end(state, error.code, problem)
        except Exception:
            # The one boundary where anything may arrive: the person gets a sentence, we the trace.
            log.exception("job failed", extra={"job_id": self.id, "kind": self.kind})
            problem = Problem(
                code="internal",
                message="Something went wrong inside LM Desk.",
                hint="The log has the details. Trying again may help.",
            )
            self._end("failed", "internal", problem)

    def _end(self, state: JobState, reason: str | None, problem: Problem | None = None) -> None:
        self._state, self._reason, self._error = state, reason, problem
        self._ended_at = time.time()
        self.emit(
            "job.end",
            status=state,
            reason=reason,
            error=problem.model_dump() if problem else None,
            result=self.result,
        )
        self.ended.set()


class JobService:
    """All jobs, running and lately ended."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self.usual_load: Callable[[str], float | None] | None = None
        """Knows how long loads of a model (full name) took before these jobs."""

    def start(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> Job:
        """Take the job in and run it."""
        self._forget_old()
        self._jobs[job.id] = job
        job.run(work)
        return job

    @contextmanager
    def attend(self, job: Job) -> Generator[None]:
        """Count what the caller's own task does as a job, until it leaves; nothing is kept of it."""
        self._jobs[job.id] = job
        try:
            with job.attended():
                yield
        finally:
            del self._jobs[job.id]

    def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound(
                f"There is no job {job_id!r}.",
                hint="It may have ended a while ago. An answer it made is in its chat.",
            ) from None

    def list(self, *, state: JobState | None = None, kind: JobKind | None = None) -> list[Job]:
        """Newest first."""
        found = [
            job
            for job in self._jobs.values()
            if (state is None or job.state == state) and (kind is None or job.kind == kind)
        ]
        return found[::-1]

    def info(self, job: Job) -> JobInfo:
        """The job as others see it, with what is known from earlier ones like it."""
        info = job.info
        if info.phase != "loading" or info.model_id is None:
            return info
        usual = self._last_load_seconds(info.model_id)
        if usual is None and self.usual_load is not None:
            usual = self.usual_load(info.model_id)
        return info.model_copy(update={"usual_seconds": usual})

    def _last_load_seconds(self, model_id: str) -> float | None:
        loads = (job for job in self.list(state="done", kind="load") if job.model_id == model_id)
        took = (job.result.get("load_time_seconds") for job in loads)
        return next((float(seconds) for seconds in took if seconds), None)

    async def stop(self, job_id: str, *, state: JobState = "stopped", reason: str = "user") -> Job:
        """End a job early and wait until it has ended."""
        job = self.get(job_id)
        job.request_end(state, reason)
        await job.ended.wait()
        return job

    async def aclose(self) -> None:
        """Interrupt everything that runs; each job keeps what it has."""
        running = self.list(state="running")
        for job in running:
            job.request_end("interrupted", "server_stopped")
        for job in running:
            await job.ended.wait()

    def _forget_old(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.state != "running"]
        for job_id in ended[: max(0, len(ended) - KEPT_ENDED)]:
            del self._jobs[job_id]
