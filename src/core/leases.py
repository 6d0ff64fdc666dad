"""Leases: which answers hold which instance, and noticing when one is taken away from under them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from core.jobs import Job, JobService
from core.models import Instance, ModelInfo
from core.shelf import Shelf

# While answers are being written: how often to look whether their models are still in memory.
# Someone else may unload one at any time, and LM Studio tells nobody.
GUARD_SECONDS = 0.6


@dataclass(frozen=True, slots=True)
class Lease:
    """A turn's hold on one instance: it is not taken out of memory under the turn."""

    model: ModelInfo
    instance: Instance
    load_seconds: float | None
    """Set when the model had to be loaded for this turn."""


@dataclass(frozen=True, slots=True)
class _Hold:
    """Who holds an instance."""

    chat_id: str
    instance_id: str
    yields: bool = False
    """Work behind the person's back: it never keeps a model in memory."""


class Leases:
    """All leases, by the full name of the model."""

    def __init__(self, shelves: Mapping[str, Shelf], jobs: JobService) -> None:
        self._shelves = shelves
        self._jobs = jobs
        self._holds: dict[str, dict[str, _Hold]] = {}
        self._used_at: dict[str, float] = {}
        self._guard: asyncio.Task[None] | None = None

    def take(
        self,
        model: ModelInfo,
        instance: Instance,
        job: Job,
        *,
        load_seconds: float | None,
        yields: bool = False,
    ) -> Lease:
        """Hold the instance for a job until `give_back`; one that yields is ended by an unload."""
        hold = _Hold(job.chat_id or job.id, instance.id, yields)
        self._holds.setdefault(model.full_name, {})[job.id] = hold
        if model.loadable and (self._guard is None or self._guard.done()):
            self._guard = asyncio.create_task(self._look(), name="leases")
        return Lease(model, instance, load_seconds)

    def give_back(self, model: ModelInfo, job: Job) -> None:
        holds = self._holds.get(model.full_name, {})
        hold = holds.pop(job.id, None)
        if hold is None or not hold.yields:
            self._used_at[model.full_name] = time.monotonic()
        if not holds:
            self._holds.pop(model.full_name, None)

    def used_at(self, model: ModelInfo) -> float | None:
        """When a lease on it ended last, monotonic seconds."""
        return self._used_at.get(model.full_name)

    def chats(self, model: ModelInfo) -> list[str]:
        """Chats that are being answered with this model."""
        holds = self._holds.get(model.full_name, {})
        return [hold.chat_id for hold in holds.values() if not hold.yields]

    def jobs(self, model: ModelInfo) -> list[str]:
        """The jobs that hold it."""
        return list(self._holds.get(model.full_name, {}))

    def yielding(self, model: ModelInfo) -> list[str]:
        """Those of them that an unload ends."""
        holds = self._holds.get(model.full_name, {})
        return [job_id for job_id, hold in holds.items() if hold.yields]

    def jobs_of(self, provider: str) -> list[str]:
        """The jobs that hold any model of a provider."""
        mine = [holds for name, holds in self._holds.items() if name.startswith(f"{provider}:")]
        return [job_id for holds in mine for job_id in holds]

    async def aclose(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)

    async def _look(self) -> None:
        """While there are leases: end those whose instance somebody took out of memory."""
        while self._holds:
            await asyncio.sleep(GUARD_SECONDS)
            providers = {name.partition(":")[0] for name in self._holds}
            for shelf in [s for name in providers if (s := self._shelves.get(name)) is not None]:
                await shelf.fresh(max_age=GUARD_SECONDS / 2)
                # A list that could not be had proves nothing; the stream itself will tell.
                if shelf.error is None:
                    self.end_lost(shelf)

    def end_lost(self, shelf: Shelf) -> list[Job]:
        """End the answers whose instances this list no longer shows; their jobs."""
        lost = []
        there = {(m.full_name, i.id) for m in shelf.models for i in m.instances}
        loadable = {model.full_name for model in shelf.models if model.loadable}
        for name in loadable & self._holds.keys():
            for job_id, hold in self._holds[name].items():
                if (name, hold.instance_id) not in there:
                    job = self._jobs.get(job_id)
                    job.request_end("interrupted", "model_unloaded")
                    lost.append(job)
        return lost
