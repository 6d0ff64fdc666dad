"""One loaded copy of a model, and the load that leads to it."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from core.errors import LoadFailed
from core.value import Value
from infrastructure.engine.catalogue import Model
from infrastructure.engine.process import ChildProcess, ChildSettings


class LoadWish(Value):
    """What a load was asked to be like."""

    on_demand: bool = False
    """Whether a request for an answer caused it: such a model makes room for the next one."""
    identifier: str | None = None
    """What the instance is to be called; None: after its model."""
    ttl_seconds: float | None = None
    """How long it stays unused; None: until unloaded."""
    context_length: int | None = None
    parallel: int | None = None
    batch: int | None = None
    flash_attention: bool | None = None
    k_cache_type: str | None = None
    v_cache_type: str | None = None
    gpu_ratio: float | None = None
    """How much of the layers goes to a GPU, 0 to 1, where there is one."""
    offload_cache: bool | None = None
    mapped: bool | None = None
    """Whether to map the file instead of reading it."""


Phase = Literal["processingPrompt", "generating"]


class Step(NamedTuple):
    """How far a load is."""

    fraction: float
    stage: str


@dataclass(eq=False)
class Instance:
    """A model in a process of its own."""

    id: str
    model: Model
    child: ChildProcess
    ttl_seconds: float | None
    """None: stays until unloaded."""
    load_seconds: float
    on_demand: bool = False
    reference: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    """Names this very copy, also when another one gets its id later."""
    used: bool = False
    last_used: float | None = None
    """Seconds since the epoch."""
    busy: int = 0
    """How many requests work with it."""
    leaving: bool = False
    """Whether it goes as soon as it is idle."""
    unloaded: bool = False
    clock: asyncio.TimerHandle | None = field(default=None, repr=False)
    work: dict[object, Phase] = field(default_factory=dict, repr=False)
    """Answers being made, and how far each is."""

    @property
    def context_length(self) -> int:
        return self.child.settings.context_length

    @property
    def status(self) -> str:
        """`idle`, `processingPrompt`, `generating` or `computingEmbedding`."""
        if self.model.is_embedding:
            return "computingEmbedding" if self.busy else "idle"
        phases = set(self.work.values())
        return next((p for p in ("generating", "processingPrompt") if p in phases), "idle")

    @property
    def queued(self) -> int:
        """How many answers wait for a place."""
        return max(0, len(self.work) - self.child.settings.parallel)

    def touch(self) -> None:
        self.last_used = time.time()

    def stop_clock(self) -> None:
        if self.clock:
            self.clock.cancel()
            self.clock = None


class Load:
    """A load under way. Any number may follow it; when the last one leaves, it ends."""

    def __init__(
        self, instance_id: str, model: Model, wish: LoadWish, settings: ChildSettings
    ) -> None:
        self.instance_id = instance_id
        self.model = model
        self.wish = wish
        self.settings = settings
        self.admitted = False
        self.evicted: list[Instance] = []
        """Which instances had to go for it, so far."""
        self._task: asyncio.Task[Instance] | None = None
        self._steps: list[Step] = []
        self._news = asyncio.Event()
        self._followers = 0

    def run(self, work: Coroutine[Any, Any, Instance]) -> None:
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._ended)

    def report(self, fraction: float, stage: str) -> None:
        self._steps.append(Step(fraction, stage))
        self._wake()

    @property
    def instance(self) -> Instance:
        """What came of it. Only after `follow` has ended well."""
        if self._task is None:
            raise RuntimeError("the load has not begun")
        return self._task.result()

    async def follow(self) -> AsyncGenerator[Step]:
        """Every step from the start; ends when loaded. Raises what the load raised."""
        self._followers += 1
        seen = 0
        try:
            while True:
                news = self._news
                while seen < len(self._steps):
                    seen += 1
                    yield self._steps[seen - 1]
                if self._task is None or self._task.done():
                    break
                await news.wait()
            if self._task and self._task.cancelled():
                raise LoadFailed("The load was cancelled.")
            if self._task:
                self._task.result()
        finally:
            self._followers -= 1
            if not self._followers:
                await self.cancel()

    async def cancel(self) -> None:
        """Return when its process is gone."""
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[Instance]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, also when nobody follows
        self._wake()

    def _wake(self) -> None:
        # A fresh event for the next news; those who wait on the old one all wake.
        news, self._news = self._news, asyncio.Event()
        news.set()
