"""Planner: where its figures come from, whose models it would take, and the map of what is there."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from core.errors import ProviderTimeout
from core.hardware import Gpu, HardwareSnapshot
from core.library import ModelLibrary
from core.loads import Loads
from core.memory_map import MemoryBar
from core.models import Instance, LoadOptions, LoadRecord, MemoryEstimate, ProviderHealth
from core.monitor import HardwareMonitor
from core.plan import SwapPlan
from core.planner import Planner, reckoned
from core.turns import TurnService
from core.watch import ProviderWatch
from tests.fakes import FakeProbe, FakeProvider
from tests.unit.test_loads import FakeHistory
from tests.unit.test_turns import AGENTS, Bench

pytestmark = pytest.mark.anyio

GB = 2**30
USUAL = LoadOptions()


class TellingProvider(FakeProvider):
    """Estimates as a test says, and can be on another machine."""

    def __init__(self) -> None:
        super().__init__("one", "two", "new", "vast")
        self.told: MemoryEstimate | None = None
        self.fails = False
        self.url = "http://127.0.0.1:1234"
        for key, gigabytes in {"one": 2, "two": 1, "new": 4, "vast": 90}.items():
            changes = {"size_bytes": gigabytes * GB, "context_length": 32_768}
            self.models[key] = self.models[key].model_copy(update=changes)

    async def estimate_memory(self, model_id: str, options: LoadOptions) -> MemoryEstimate | None:
        if self.fails:
            raise ProviderTimeout("No answer.")
        return self.told

    async def health(self) -> ProviderHealth:
        return (await super().health()).model_copy(update={"url": self.url})


class SetProbe(FakeProbe):
    """A machine with 16 GB of RAM and the GPUs a test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 4 * GB
        self.gpus: tuple[Gpu, ...] = ()
        self.processes: dict[int, int] = {}

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        return {pid: self.processes[pid] for pid in pids if pid in self.processes}

    def sample(self) -> HardwareSnapshot:
        changes = {"memory_used": self.used, "memory_total": 16 * GB, "gpus": self.gpus}
        return super().sample().model_copy(update=changes)


class Room(Bench):
    """A planner over fakes."""

    def __init__(self) -> None:
        self.telling = TellingProvider()
        super().__init__(provider=self.telling)
        self.probe, self.history = SetProbe(), FakeHistory()
        self.monitor = HardwareMonitor(self.probe, interval=0.005)
        self.loads = Loads(self.history, self.monitor)
        self.library = ModelLibrary([self.telling], self.jobs, self.loads)
        self.turns = TurnService(self.store, self.library, self.jobs, AGENTS, self.revisions)
        self.watch = ProviderWatch(self.library, standby=None, mode="off")
        self.planner = Planner(self.library, self.loads, self.monitor, self.watch, self.store)

    async def load(self, name: str) -> None:
        job = self.library.start_load(await self.library.resolve(name))
        await job.ended.wait()
        assert job.state == "done"

    def remember(self, name: str, gigabytes: float, *, context: int = 4096, gpus: int = 0) -> None:
        """A load of earlier days."""
        count = int(gigabytes * GB)
        self.history.records.append(
            LoadRecord(
                model_id=f"fake:{name}",
                context_length=context,
                seconds=7.5,
                gpu_bytes=(count // gpus,) * gpus if gpus else (),
                ram_bytes=None if gpus else count,
                at=time.time(),
            )
        )

    async def plan(self, name: str = "new", options: LoadOptions = USUAL) -> SwapPlan:
        return await self.planner.plan(await self.library.resolve(name), options)

    async def bars(self) -> tuple[MemoryBar, ...]:
        await self.monitor.after(await self.monitor.latest())
        bars = (await self.planner.memory_map()).bars
        for bar in bars:
            assert sum(each.bytes for each in bar.slices) + bar.other + bar.free == bar.total
            assert min(bar.other, bar.free, *(each.bytes for each in bar.slices), 0) == 0
        return bars


@asynccontextmanager
async def planning() -> AsyncGenerator[Room]:
    room = Room()
    sampling = asyncio.create_task(room.monitor.run())
    try:
        await room.watch.look()
        yield room
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await room.loads.aclose()
        await room.library.aclose()
        room.monitor.close()


def gpu(index: int, used: float, total: float) -> Gpu:
    return Gpu(
        index=index, name=f"GPU {index}", memory_used=int(used * GB), memory_total=int(total * GB)
    )


def told(
    gigabytes: float, *, vram: float | None = None, fits: bool | None = None
) -> MemoryEstimate:
    return MemoryEstimate(
        total_bytes=int(gigabytes * GB),
        vram_bytes=None if vram is None else int(vram * GB),
        confident=True,
        fits=fits,
    )


# -- where the need comes from -----------------------------------------------------------------------


async def test_without_any_knowledge_the_need_is_reckoned_from_the_file() -> None:
    async with planning() as room:
        found = await room.plan()

    assert (found.need_source, found.pool) == ("estimated", "ram")
    assert found.need_bytes is not None
    assert 4 * GB < found.need_bytes < 6 * GB
    assert (found.free_bytes, found.total_bytes) == (12 * GB, 16 * GB)
    assert (found.fits, found.last_load_seconds) == (True, None)


async def test_the_server_knows_better_than_the_size_of_a_file() -> None:
    async with planning() as room:
        room.telling.told = told(5)
        found = await room.plan()

    assert (found.need_source, found.need_bytes) == ("server", 5 * GB)


async def test_what_this_very_load_took_here_counts_more_than_any_estimate() -> None:
    async with planning() as room:
        room.telling.told = told(9)
        room.remember("new", 5)
        found = await room.plan()

    assert (found.need_source, found.need_bytes) == ("learned", 5 * GB)
    assert found.last_load_seconds == 7.5


@pytest.mark.parametrize(
    "options", [LoadOptions(context_length=32_768), LoadOptions(kv_cache_type="q8_0")]
)
async def test_another_context_or_cache_is_another_load_which_the_server_knows_best(
    options: LoadOptions,
) -> None:
    async with planning() as room:
        room.telling.told = told(9)
        room.remember("new", 5)
        found = await room.plan(options=options)

    assert (found.need_source, found.need_bytes) == ("server", 9 * GB)


async def test_another_context_is_better_than_a_guess_where_no_server_tells() -> None:
    async with planning() as room:
        room.remember("new", 5)
        found = await room.plan(options=LoadOptions(context_length=32_768))

    assert (found.need_source, found.need_bytes) == ("learned", 5 * GB)


async def test_a_server_that_fails_to_estimate_keeps_nobody_from_planning() -> None:
    async with planning() as room:
        room.telling.fails = True
        assert (await room.plan()).need_source == "estimated"


async def test_a_load_on_gpus_is_weighed_against_their_memory() -> None:
    async with planning() as room:
        room.probe.gpus = (gpu(0, 6, 8), gpu(1, 1, 4))
        room.remember("new", 6, gpus=2)
        await room.monitor.after(await room.monitor.latest())
        found = await room.plan()

    assert (found.pool, found.free_bytes, found.total_bytes) == ("vram", 5 * GB, 12 * GB)
    assert (found.need_bytes, found.fits) == (6 * GB, False)


async def test_of_another_machines_memory_nothing_is_claimed() -> None:
    async with planning() as room:
        room.telling.url = "http://192.168.1.20:1234"
        await room.watch.look()
        found = await room.plan()

        assert (found.free_bytes, found.total_bytes, found.fits) == (None, None, None)
        await room.load("one")
        assert [each.slices for each in await room.bars()] == [()]


# -- who would go ------------------------------------------------------------------------------------


async def test_ours_come_first_and_the_longest_loaded_of_them_first() -> None:
    async with planning() as room:
        room.telling.put_in_memory("vast", Instance(id="vast", context_length=4096))
        await room.load("two")
        await room.load("one")
        found = await room.plan()

    names = [(each.model_id, each.ours) for each in found.residents]
    assert names == [("fake:two", True), ("fake:one", True), ("fake:vast", False)]


async def test_an_idle_one_of_ours_goes_before_a_busy_one() -> None:
    async with planning() as room:
        room.probe.used = 14 * GB
        room.remember("new", 4)
        for name in ("one", "two"):
            room.remember(name, 3)
            await room.load(name)
        room.provider.gate.clear()
        chat = await room.store.create_chat(title="Lisbon")
        turn = await room.turns.start(chat.id, room.draft(model_id="one"))
        await room.until("Hel")
        await room.monitor.after(await room.monitor.latest())
        found = await room.plan()
        await room.jobs.stop(turn.job.id)

    assert (found.fits, found.unload, found.fits_after) == (False, ("fake:two",), True)
    busy = next(each for each in found.residents if each.model_id == "fake:one")
    assert [chat.title for chat in busy.chats] == ["Lisbon"]


async def test_models_of_others_are_never_chosen_even_if_that_means_it_does_not_fit() -> None:
    async with planning() as room:
        room.probe.used = 15 * GB
        room.telling.put_in_memory("one", Instance(id="one", context_length=4096))
        await room.library.refresh(max_age=0)
        await room.monitor.after(await room.monitor.latest())
        found = await room.plan()

    assert (found.unload, found.fits, found.fits_after) == ((), False, False)
    assert [each.ours for each in found.residents] == [False]


async def test_a_model_of_ours_of_which_somebody_loaded_a_copy_is_not_chosen() -> None:
    async with planning() as room:
        room.probe.used = 15 * GB
        await room.load("one")
        room.telling.put_in_memory("one", Instance(id="one:2", context_length=4096))
        await room.library.refresh(max_age=0)
        await room.monitor.after(await room.monitor.latest())
        found = await room.plan()

    assert (found.unload, found.residents[0].ours) == ((), False)


async def test_a_model_of_ours_that_somebody_took_out_and_loaded_anew_is_theirs() -> None:
    async with planning() as room:
        await room.load("one")
        await room.telling.unload_instance("one")
        await room.library.models(max_age=0)
        room.telling.put_in_memory("one")
        await room.library.models(max_age=0)
        found = await room.plan()

    assert [each.ours for each in found.residents] == [False]


async def test_for_what_can_never_fit_nothing_is_unloaded() -> None:
    async with planning() as room:
        await room.load("one")
        found = await room.plan("vast")

    assert (found.unload, found.fits, found.fits_after) == ((), False, False)


async def test_a_loaded_model_needs_no_plan() -> None:
    async with planning() as room:
        room.probe.used = 16 * GB
        await room.load("one")
        await room.load("new")
        await room.monitor.after(await room.monitor.latest())
        found = await room.plan("new")

    assert (found.loaded, found.unload) == (True, ())


# -- the map -----------------------------------------------------------------------------------------


async def test_a_machine_without_gpus_has_a_bar_of_ram() -> None:
    async with planning() as room:
        room.remember("one", 3)
        await room.load("one")
        (bar,) = await room.bars()

    assert (bar.kind, bar.total, bar.other) == ("ram", 16 * GB, GB)
    assert [(each.name, each.bytes, each.source) for each in bar.slices] == [
        ("One", 3 * GB, "load")
    ]


async def test_a_model_on_two_gpus_has_a_slice_on_each_as_it_was_measured() -> None:
    async with planning() as room:
        room.probe.gpus = (gpu(0, 6, 8), gpu(1, 3, 4))
        room.remember("one", 4, gpus=2)
        await room.load("one")
        first, second = await room.bars()

    assert [(b.kind, b.slices[0].bytes, b.other, b.free) for b in (first, second)] == [
        ("gpu", 2 * GB, 4 * GB, 2 * GB),
        ("gpu", 2 * GB, GB, GB),
    ]


async def test_an_unmeasured_model_is_reckoned_and_says_so() -> None:
    async with planning() as room:
        await room.load("two")
        (bar,) = await room.bars()
        model = await room.library.resolve("two")

    assert [(each.bytes, each.source) for each in bar.slices] == [
        (reckoned(model, 4096), "estimate")
    ]


async def test_a_slice_says_how_many_answers_its_model_is_writing() -> None:
    async with planning() as room:
        await room.load("one")
        room.provider.gate.clear()
        turn = await room.turns.start(await room.chat(), room.draft(model_id="one"))
        await room.until("Hel")
        (bar,) = await room.bars()
        await room.jobs.stop(turn.job.id)

    assert [each.chats for each in bar.slices] == [1]
