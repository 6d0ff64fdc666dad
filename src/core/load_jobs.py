"""LoadJobs: for each model the one job that loads it, and who waits for it."""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from core.errors import DeskError
from core.jobs import Job, JobService
from core.models import Instance, LoadProgress, ModelInfo

Work = Callable[[Job], Awaitable[None]]


class LoadJobs:
    """Starts loads and joins those under way."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._newest: dict[str, Job] = {}
        self._waiting: dict[str, int] = {}
        """How many answers wait, by load, for those loads that only answers asked for."""

    def start(self, model: ModelInfo, work: Work, *, for_answers: bool = False) -> Job:
        """A job that does this work, or the one that already loads the model.

        One `for_answers` ends with the last of the answers that will wait for it.
        """
        job, new = self._start(model, work)
        if for_answers and new:
            self._waiting[job.id] = 0
        elif not for_answers:
            self._waiting.pop(job.id, None)  # now somebody wants it for itself
        return job

    async def wait_within(self, job: Job, model: ModelInfo, work: Work) -> float:
        """Load, or join, on behalf of an answer, whose watchers see it; seconds the load took.

        When the last answer that waits is stopped, and nobody else asked for the load, it ends.
        """
        load = self.start(model, work, for_answers=True)
        if load.id in self._waiting:
            self._waiting[load.id] += 1
        since = time.monotonic()
        try:
            await _mirror(load, job)
        finally:
            job.timeline.adopt(load.timeline, since)
            if load.id in self._waiting:
                self._waiting[load.id] -= 1
                if not self._waiting[load.id]:
                    del self._waiting[load.id]
                    if load.state == "running":
                        load.request_end("stopped", "user")
        if load.state != "done":
            raise _as_error(load, model)
        return float(load.result["load_time_seconds"])

    def _start(self, model: ModelInfo, work: Work) -> tuple[Job, bool]:
        running = self._newest.get(model.full_name)
        # One that is about to end early brings nothing any more.
        if running is not None and running.state == "running" and running.ending is None:
            return running, False
        if running is not None:
            self._waiting.pop(running.id, None)  # no answer came to wait for it
        job = Job("load", model_id=model.full_name)
        job.enter("queued")
        self._newest[model.full_name] = job
        return self._jobs.start(job, work), True


async def _mirror(source: Job, target: Job) -> None:
    """Show the load's way in the answer's, until it has ended."""
    async with aclosing(source.watch()) as batches:
        async for batch in batches:
            for event in batch:
                if event.type.startswith("model_load."):
                    data = {key: value for key, value in event.data.items() if key != "type"}
                    target.emit(event.type, **data)
            info = source.info
            if info.phase is not None:
                target.enter(info.phase, info.progress, exact=info.exact, stage=info.stage)


def _as_error(job: Job, model: ModelInfo) -> DeskError:
    if job.error is None:
        return DeskError(
            f"Loading {model.name} was cancelled.", hint="Send again to load it and answer."
        )
    error = DeskError(job.error.message, hint=job.error.hint)
    # The word a program matches is the load's own.
    error.code = job.error.code  # type: ignore[misc]
    return error


def report_progress(job: Job, model: ModelInfo, event: LoadProgress, highest: float) -> None:
    """Tell the job's watchers how far the load is; `highest` is what was reached so far."""
    job.enter("loading", highest, exact=event.exact, stage=event.stage)
    job.emit(
        "model_load.progress",
        model_id=model.full_name,
        progress=round(highest, 4),
        exact=event.exact,
        stage=event.stage,
    )


def report_loaded(job: Job, model: ModelInfo, instance: Instance, seconds: float) -> None:
    """The load's result, told and kept."""
    job.result = {
        "model_id": model.full_name,
        "instance_id": instance.id,
        "context_length": instance.context_length,
        "load_time_seconds": seconds,
    }
    job.enter("loading", 1.0)
    job.emit("model_load.end", **job.result)
