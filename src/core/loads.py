"""Loads: what this machine learned from the loads it has seen, and which models we loaded ourselves."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

from core.errors import StorageError
from core.hardware import HardwareSnapshot
from core.models import Loaded, LoadOptions, LoadRecord, ModelInfo
from core.monitor import HardwareMonitor
from core.ports import LoadHistory
from core.taken import believed, on_gpus

log = logging.getLogger(__name__)

# How long after a load a sample of the machine may let us wait.
SAMPLE_SECONDS = 5.0


class LoadWatch:
    """One load under way: how the machine was before it, and whether anything else moved since."""

    def __init__(self, before: HardwareSnapshot | None, moves: int) -> None:
        self.before = before
        self.moves = moves


class _Ours(NamedTuple):
    """A model we loaded."""

    options: LoadOptions
    instance_id: str


class Loads:
    """Measures our loads, remembers them, and answers what a model took the last times."""

    def __init__(
        self,
        history: LoadHistory,
        monitor: HardwareMonitor,
        told: Callable[[LoadRecord], None] | None = None,
    ) -> None:
        """`told` hears of every load that went well."""
        self._history = history
        self._told = told
        self._monitor = monitor
        self._moves = 0
        self._moved_at = 0.0
        self._ours: dict[str, _Ours] = {}
        self._writing: set[asyncio.Task[None]] = set()

    # -- told by the library ---------------------------------------------------------------------

    def begin(self) -> LoadWatch:
        """A load begins."""
        self._moves += 1
        newest = self._monitor.newest
        if newest is not None and newest.at < self._moved_at:
            newest = None  # it still shows what has just gone
        return LoadWatch(newest, self._moves)

    def loaded(
        self, watch: LoadWatch, model: ModelInfo, options: LoadOptions, loaded: Loaded
    ) -> None:
        """It ended well: remember it, with its memory once the machine was sampled again."""
        self._ours.pop(model.full_name, None)  # the newest is last
        self._ours[model.full_name] = _Ours(options, loaded.instance.id)
        record = LoadRecord(
            model_id=model.full_name,
            context_length=loaded.instance.context_length,
            seconds=loaded.seconds,
            at=0.0,
        )
        work = self._remember(watch, model, record, loaded.instance.pid)
        task = asyncio.create_task(work, name="load history")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def unloaded(self, model: ModelInfo) -> None:
        """It was taken out of memory by us."""
        self._moves += 1
        self._moved_at = time.time()
        self._ours.pop(model.full_name, None)

    def seen(self, models: Iterable[ModelInfo]) -> None:
        """A provider lists these: what somebody else took out is ours no longer."""
        for model in models:
            ours = self._ours.get(model.full_name)
            if ours is not None and ours.instance_id not in {i.id for i in model.instances}:
                del self._ours[model.full_name]

    # -- asked by the planner --------------------------------------------------------------------

    @property
    def ours(self) -> tuple[str, ...]:
        """Full names of the models this process loaded, the longest ago first."""
        return tuple(self._ours)

    def is_ours(self, model: ModelInfo) -> bool:
        """Whether all that is loaded of it was loaded by us: unloading takes nothing from others."""
        ours = self._ours.get(model.full_name)
        return ours is not None and {i.id for i in model.instances} <= {ours.instance_id}

    def options_of(self, full_name: str) -> LoadOptions | None:
        """What we loaded it with."""
        ours = self._ours.get(full_name)
        return ours.options if ours else None

    async def of(self, full_names: Iterable[str]) -> dict[str, list[LoadRecord]]:
        """Remembered loads by model, the newest first. Without a disk nothing was learned."""
        try:
            return {name: await self._history.loads(name) for name in full_names}
        except StorageError as error:
            log.warning("what loads took could not be read: %s", error.message)
            return {}

    async def newest(self) -> LoadRecord | None:
        """The last load there was, also before a restart. Without a disk nothing was learned."""
        try:
            return await self._history.newest_load()
        except StorageError as error:
            log.warning("what loads took could not be read: %s", error.message)
            return None

    async def settled(self) -> None:
        """Return when every load so far is written down."""
        await asyncio.gather(*self._writing)

    async def aclose(self) -> None:
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------------

    async def _remember(
        self, watch: LoadWatch, model: ModelInfo, record: LoadRecord, pid: int | None
    ) -> None:
        after = await self._next_sample()
        took: dict[str, object] = {}
        if watch.before is not None and watch.moves == self._moves:
            took = _grown(watch.before, after, model)
        if pid is not None:
            took = await self._own(after, pid, model, grown=took)
        found = record.model_copy(update={"at": after.at, **took})
        try:
            await self._history.add_load(found)
        except StorageError as error:
            log.warning("what a load took could not be kept: %s", error.message)
        if self._told is not None:
            self._told(found)

    async def _own(
        self, after: HardwareSnapshot, pid: int, model: ModelInfo, *, grown: dict[str, object]
    ) -> dict[str, object]:
        """What its own process holds, whatever else moved meanwhile."""
        gpus = on_gpus(after, {pid})
        if gpus is None and "gpu_bytes" in grown:
            return grown  # the driver does not tell of processes
        if gpus is not None and sum(gpus) >= believed(model):
            return {"gpu_bytes": gpus}
        ram = (await self._monitor.resident([pid])).get(pid, 0)
        return {"ram_bytes": ram} if ram >= believed(model) else {}

    async def _next_sample(self) -> HardwareSnapshot:
        """A sample begun after now; the newest there is if none comes."""
        newest = await self._monitor.latest()
        try:
            async with asyncio.timeout(SAMPLE_SECONDS):
                return await self._monitor.after(newest)
        except TimeoutError:
            return newest


def _grown(
    before: HardwareSnapshot, after: HardwareSnapshot, model: ModelInfo
) -> dict[str, object]:
    """By how much the memory in use grew, as far as that can be the model."""
    was, now = ([gpu.memory_used for gpu in each.gpus] for each in (before, after))
    if [used is None for used in was] != [used is None for used in now]:
        return {}  # a GPU came, went, or could not be read once
    gpus = tuple(max(0, (new or 0) - (old or 0)) for old, new in zip(was, now, strict=True))
    if sum(gpus) >= believed(model):
        return {"gpu_bytes": gpus}
    ram = after.memory_used - before.memory_used
    return {"ram_bytes": ram} if ram >= believed(model) else {}


def learned(records: list[LoadRecord], context_length: int | None) -> LoadRecord | None:
    """The middle of the measured loads with this context, or of any if none had it."""
    measured = [record for record in records if record.measured]
    same = [each for each in measured if each.context_length == context_length]
    if not (chosen := same or measured):
        return None
    middle = median([each.total_bytes for each in chosen])
    return min(chosen, key=lambda each: abs(each.total_bytes - middle))
