"""The models in memory: loads, shares, counts down and unloads them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

from core.errors import BadParameter, LoadFailed, NotEnoughMemory, NotFound
from infrastructure.engine import memory, quirks
from infrastructure.engine.catalogue import Model
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.instance import Instance, Load, LoadWish
from infrastructure.engine.process import ChildProcess

log = structlog.get_logger(__name__)


class Pool:
    """All instances and running loads of an engine."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._budget = memory.budget(config)
        self._instances: dict[str, Instance] = {}
        self._loads: dict[str, Load] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._door = asyncio.Lock()
        self._closed = False

    @property
    def _races(self) -> bool:
        return "jit-race-loads-twice" in self._config.quirks

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that are loaded, oldest first."""
        return tuple(self._instances.values())

    def get(self, instance_id: str) -> Instance | None:
        return self._instances.get(instance_id)

    def of_model(self, key: str) -> list[Instance]:
        return [one for one in self._instances.values() if one.model.key == key]

    def is_loading(self, key: str) -> bool:
        return any(load.model.key == key for load in self._loads.values())

    def free_bytes(self) -> int:
        """What the budget leaves beside what is loaded or on its way; below 0 when overdrawn."""
        taken = sum(
            memory.needed(one.child.settings, one.model) for one in self._instances.values()
        )
        taken += sum(
            memory.needed(load.settings, load.model)
            for load in self._loads.values()
            if load.admitted
        )
        return self._budget - taken

    def begin(self, model: Model, wish: LoadWish) -> Load:
        """Start loading a new instance, or join a load on demand of the same model."""
        if self._closed:
            raise LoadFailed("The engine is shutting down.")
        if wish.on_demand and not self._races:
            for running in self._loads.values():
                if running.model.key == model.key and running.wish.on_demand:
                    return running
        instance_id = wish.identifier or self._free_id(model.key)
        if instance_id in self._instances.keys() | self._loads.keys():
            raise BadParameter(f"A model with the identifier '{instance_id}' is loaded already.")
        settings = memory.settings_for(model, instance_id, self._config, wish)
        load = Load(instance_id, model, wish, settings)
        self._loads[instance_id] = load
        load.run(self._load(load))
        return load

    async def load(self, model: Model, wish: LoadWish) -> Instance:
        """Begin and wait. Cancelling ends the load, unless somebody else waits for it, too."""
        load = self.begin(model, wish)
        async for _ in load.follow():
            continue
        return load.instance

    async def unload(self, instance_id: str) -> None:
        """Return when its memory is back; answers being written end. Raises NotFound."""
        if load := self._loads.get(instance_id):
            await load.cancel()
            return
        instance = self._instances.pop(instance_id, None)
        if instance is None:
            raise NotFound(f"Model with instance identifier '{instance_id}' is not loaded.")
        instance.unloaded = True
        instance.stop_clock()
        await instance.child.stop()
        log.info("model_unloaded", instance=instance_id)

    @contextlib.asynccontextmanager
    async def using(self, instance: Instance) -> AsyncIterator[Instance]:
        """Hold an instance while working with it; its countdown starts anew afterwards."""
        instance.busy += 1
        instance.used = True
        instance.touch()
        instance.stop_clock()
        try:
            yield instance
        finally:
            instance.busy -= 1
            instance.touch()
            self._settle(instance)

    async def close(self) -> None:
        """End everything; no process is left."""
        self._closed = True
        await asyncio.gather(*(load.cancel() for load in list(self._loads.values())))
        for instance_id in list(self._instances):
            with contextlib.suppress(NotFound):
                await self.unload(instance_id)
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def _load(self, load: Load) -> Instance:
        started = time.monotonic()
        child = ChildProcess(load.settings)
        try:
            async with self._door:
                if load.wish.on_demand and self._config.keep_only_last:
                    await self._evict(load)
                self._admit(load)
            await child.start(load.report)
            instance = Instance(
                id=load.instance_id,
                model=load.model,
                child=child,
                ttl_seconds=load.wish.ttl_seconds,
                on_demand=load.wish.on_demand,
                load_seconds=time.monotonic() - started,
            )
            self._instances[instance.id] = instance
        except LoadFailed as error:
            log.warning("model_load_failed", instance=load.instance_id, reason=str(error))
            if load.model.damage:
                # What the file lacks is plainer than what llama.cpp stumbled over.
                words = f"This file is damaged: {load.model.damage}. llama.cpp says: {error}"
                raise LoadFailed(words) from error
            raise
        finally:
            self._loads.pop(load.instance_id, None)
        self._watch(instance)
        self._settle(instance)
        if load.wish.on_demand and self._config.keep_only_last:
            # Others may have come meanwhile.
            self._keep(self._evict(load, instance))
        log.info("model_loaded", instance=instance.id, seconds=round(instance.load_seconds, 3))
        return instance

    def _admit(self, load: Load) -> None:
        """Raise NotEnoughMemory where it would not fit beside what is here or on its way."""
        need, free = memory.needed(load.settings, load.model), self.free_bytes()
        if "guardrail-refuses" in self._config.quirks:
            raise NotEnoughMemory(quirks.GUARDRAIL)
        if need > free:
            raise memory.too_large(need, free)
        load.admitted = True

    async def _evict(self, load: Load, newest: Instance | None = None) -> None:
        """Make room for the newest: what else came on demand goes, as soon as it is idle."""
        at_once = "evict-mid-answer" in self._config.quirks
        for instance in self.instances:
            if not instance.on_demand or instance is newest:
                continue
            if self._races and instance.model.key == load.model.key:
                continue
            if at_once and instance.used:
                load.evicted.append(instance)
                with contextlib.suppress(NotFound):
                    await self.unload(instance.id)
            elif instance.busy or not instance.used:
                # Whom it was loaded for may not have come back to it yet.
                instance.leaving = True
            else:
                load.evicted.append(instance)
                await self._expire(instance)

    def _settle(self, instance: Instance) -> None:
        """An idle instance with a time to live leaves after it, or now if replaced."""
        if instance.busy or instance.unloaded or instance.ttl_seconds is None:
            return
        loop = asyncio.get_running_loop()
        wait = 0.0 if instance.leaving else instance.ttl_seconds
        instance.clock = loop.call_later(wait, lambda: self._keep(self._expire(instance)))

    async def _expire(self, instance: Instance) -> None:
        if not instance.busy and self._instances.get(instance.id) is instance:
            await self.unload(instance.id)

    def _watch(self, instance: Instance) -> None:
        """A process that ends by itself takes its instance off the list."""

        async def watch() -> None:
            await instance.child.exited.wait()
            if self._instances.get(instance.id) is instance:
                del self._instances[instance.id]
                instance.stop_clock()
                await instance.child.stop()
                log.error("model_crashed", instance=instance.id, exit=instance.child.exit_code)

        self._keep(watch())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    def _free_id(self, key: str) -> str:
        taken = self._instances.keys() | self._loads.keys()
        if key not in taken:
            return key
        return next(f"{key}:{n}" for n in range(2, 10_000) if f"{key}:{n}" not in taken)
