"""Upkeep: what is unloaded and loaded without being asked, and what never is."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from core.hardware import HardwareSnapshot
from core.jobs import Job, JobService
from core.library import ModelLibrary
from core.loads import Loads
from core.models import LoadOptions, LoadRecord, ModelInfo
from core.monitor import HardwareMonitor
from core.planner import Planner
from core.upkeep import Upkeep, UpkeepRules
from core.watch import ProviderWatch
from tests.fakes import FakeProbe, FakeProvider, FakeStore

pytestmark = pytest.mark.anyio

GB = 2**30


class FakeHistory:
    """Loads in a list."""

    def __init__(self) -> None:
        self.records: list[LoadRecord] = []

    async def add_load(self, record: LoadRecord) -> None:
        self.records.append(record)

    async def loads(self, model_id: str) -> list[LoadRecord]:
        return [each for each in self.records[::-1] if each.model_id == model_id]

    async def newest_load(self) -> LoadRecord | None:
        return self.records[-1] if self.records else None


class RoomyProbe(FakeProbe):
    """A machine with 16 GB of memory, 2 of them used."""

    def sample(self) -> HardwareSnapshot:
        given = {"memory_used": 2 * GB, "memory_total": 16 * GB}
        return super().sample().model_copy(update=given)


class House:
    """Three models of 1 GB on a machine of 16 GB."""

    def __init__(self, **rules: object) -> None:
        self.provider = FakeProvider("a", "b", "c")
        for name, model in self.provider.models.items():
            self.provider.models[name] = model.model_copy(update={"size_bytes": GB})
        self.jobs, self.history = JobService(), FakeHistory()
        self.monitor = HardwareMonitor(RoomyProbe(), interval=0.01)
        self.loads = Loads(self.history, self.monitor)
        self.library = ModelLibrary([self.provider], self.jobs, self.loads)
        watch = ProviderWatch(self.library, standby=None, mode="off")
        self.planner = Planner(self.library, self.loads, self.monitor, watch, FakeStore())
        self.upkeep = Upkeep(
            self.library, self.loads, self.planner, UpkeepRules.model_validate(rules)
        )

    async def load(self, *names: str) -> None:
        for name in names:
            job = self.library.start_load(await self.library.resolve(name))
            await job.ended.wait()
            assert job.state == "done"
            # Upkeep counts from when it saw the model first.
            await self.upkeep.look()

    async def answer(self, name: str) -> None:
        model = await self.library.resolve(name)
        async with self.library.lease(model, Job("turn", chat_id="chat1")):
            pass

    async def loaded(self) -> set[str]:
        return {m.id for m in await self.library.models(max_age=0.0) if m.loaded}


@asynccontextmanager
async def house(**rules: object) -> AsyncGenerator[House]:
    built = House(**rules)
    sampling = asyncio.create_task(built.monitor.run())
    try:
        yield built
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await built.loads.aclose()
        await built.library.aclose()
        await built.jobs.aclose()
        built.monitor.close()


async def test_rules_that_come_later_count_at_once_and_before_nothing_happens() -> None:
    async with house() as built:
        await built.load("a", "b", "c")
        running = asyncio.create_task(built.upkeep.run())
        for _ in range(20):
            await asyncio.sleep(0)
        assert await built.loaded() == {"a", "b", "c"}

        built.upkeep.follow(UpkeepRules(idle_seconds=0.0, pinned=("b",)))
        async with asyncio.timeout(30):
            while await built.loaded() != {"b"}:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_nobody_uses_is_unloaded_after_its_time() -> None:
    async with house(idle_seconds=3600.0) as patient, house(idle_seconds=0.0) as strict:
        for built in (patient, strict):
            built.provider.put_in_memory("c")
            job = built.library.start_load(await built.library.resolve("a"))
            await job.ended.wait()
            await built.upkeep.look()

        assert await patient.loaded() == {"a", "c"}
        assert await strict.loaded() == {"c"}, "only what we loaded ourselves is unloaded"


async def test_a_pinned_model_and_a_busy_one_stay() -> None:
    async with house(idle_seconds=0.0, pinned=("A",)) as built:
        a, b = await built.library.resolve("a"), await built.library.resolve("b")
        await built.library.start_load(a).ended.wait()
        async with built.library.lease(b, Job("turn", chat_id="chat1")):
            await built.upkeep.look()
            assert await built.loaded() == {"a", "b"}
        await built.upkeep.look()

        assert await built.loaded() == {"a"}


async def test_beyond_the_limit_the_longest_unused_goes() -> None:
    async with house(keep_bytes=int(2.9 * GB)) as built:
        await built.load("a", "b")
        await built.answer("a")
        await built.load("c")

        assert await built.loaded() == {"a", "c"}


async def test_the_last_model_is_loaded_again_with_its_context() -> None:
    async with house(on_start="last") as built:
        record = LoadRecord(model_id="fake:b", context_length=2048, seconds=1.0, at=0.0)
        built.history.records = [record.model_copy(update={"model_id": "fake:a"}), record]

        assert await built.upkeep.load_last()
        (job,) = built.jobs.list(kind="load")
        await job.ended.wait()

        assert await built.loaded() == {"b"}
        (instance,) = built.provider.models["b"].instances
        assert instance.context_length == 2048


async def test_the_last_model_waits_for_its_provider() -> None:
    async with house(on_start="last") as built:
        built.history.records = [
            LoadRecord(model_id="later:x", context_length=None, seconds=1.0, at=0.0)
        ]

        assert not await built.upkeep.load_last()


@pytest.mark.parametrize("why", ["nothing was", "one is loaded", "it would not fit"])
async def test_the_last_model_is_left_alone(why: str) -> None:
    async with house(on_start="last") as built:
        name = "fake:b"
        if why != "nothing was":
            built.history.records = [
                LoadRecord(model_id=name, context_length=None, seconds=1.0, at=0.0)
            ]
        if why == "one is loaded":
            built.provider.put_in_memory("a")
        if why == "it would not fit":
            huge = built.provider.models["b"].model_copy(update={"size_bytes": 1000 * GB})
            built.provider.models["b"] = ModelInfo.model_validate(huge.model_dump())
            plan = await built.planner.plan(await built.library.resolve("b"), LoadOptions())
            assert plan.fits is False

        assert await built.upkeep.load_last()
        assert built.jobs.list(kind="load") == []
