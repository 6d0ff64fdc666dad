"""Brings the starter model when our own engine has nothing to offer."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.standby import LocalEngine


class GuardedEngine(LocalEngine, Protocol):
    """An engine that only we can talk to."""

    @property
    def token(self) -> str: ...


class EngineWithStarter:
    """The engine, and a download job after its start if it has no model at all."""

    def __init__(
        self,
        engine: GuardedEngine,
        jobs: JobService,
        *,
        model_id: str,
        fetch: Callable[[], Iterator[float]],
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._model_id = model_id
        self._fetch = fetch
        self.library: ModelLibrary | None = None
        """Set once there is one: it is built from this."""

    @property
    def running(self) -> bool:
        return self._engine.running

    @property
    def token(self) -> str:
        return self._engine.token

    async def start(self) -> str:
        url = await self._engine.start()
        if not self._jobs.list(state="running", kind="download"):
            job = Job("download", model_id=self._model_id)
            self._jobs.start(job, self._bring)
        return url

    async def stop(self) -> None:
        await self._engine.stop()

    async def _bring(self, job: Job) -> None:
        if self.library is None or await self.library.models_of(self._provider):
            return
        job.enter("downloading", None)
        job.emit("download.start", model_id=self._model_id)
        fractions = self._fetch()
        step: asyncio.Future[float | None] = asyncio.Future()
        step.set_result(0.0)
        try:
            while (fraction := await asyncio.shield(step)) is not None:
                job.enter("downloading", fraction)
                job.emit("download.progress", model_id=self._model_id, progress=fraction)
                # In a thread: pip, hashing and unpacking all block.
                step = asyncio.ensure_future(asyncio.to_thread(next, fractions, None))
        finally:
            # A step that runs in its thread cannot be broken off, only waited for.
            await asyncio.wait([step])
            await asyncio.to_thread(_close, fractions)
        await self.library.models_of(self._provider, max_age=0.0)

    @property
    def _provider(self) -> str:
        return self._model_id.partition(":")[0]


def _close(fractions: Iterator[float]) -> None:
    close = getattr(fractions, "close", None)
    if close is not None:
        close()
