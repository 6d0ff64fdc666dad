"""Loads: what is measured, what is believed of it, and what is learned from several."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from core.hardware import Gpu, GpuProcess, HardwareSnapshot
from core.loads import Loads, learned
from core.models import Instance, Loaded, LoadOptions, LoadRecord, ModelInfo
from core.monitor import HardwareMonitor
from tests.fakes import FakeProbe

pytestmark = pytest.mark.anyio

PID = 4711
MODEL = ModelInfo(id="m", provider="lm", name="M", size_bytes=1000)


class GrowingProbe(FakeProbe):
    """A machine whose memory a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.ram = 5000
        self.vram: tuple[int | None, ...] = ()
        self.own: int | None = None
        """RAM of the model's process."""
        self.own_vram: int | None = 0

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        return {} if self.own is None else dict.fromkeys(pids, self.own)

    def sample(self) -> HardwareSnapshot:
        gpus = tuple(
            Gpu(
                index=at,
                name="GPU",
                memory_used=used,
                memory_total=10_000,
                processes=(GpuProcess(pid=PID, bytes=self.own_vram),),
            )
            for at, used in enumerate(self.vram)
        )
        return super().sample().model_copy(update={"memory_used": self.ram, "gpus": gpus})


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


class Machine:
    """Loads on a machine that is sampled quickly."""

    def __init__(self) -> None:
        self.probe, self.history = GrowingProbe(), FakeHistory()
        self.monitor = HardwareMonitor(self.probe, interval=0.01)
        self.loads = Loads(self.history, self.monitor)

    async def load(
        self,
        *,
        ram: int = 0,
        vram: tuple[int, ...] = (),
        disturb: bool = False,
        pid: int | None = None,
    ) -> None:
        sampling = asyncio.create_task(self.monitor.run())
        try:
            await self.monitor.after(await self.monitor.latest())
            watch = self.loads.begin()
            self.probe.ram += ram
            self.probe.vram = tuple(
                (old or 0) + new for old, new in zip(self.probe.vram, vram, strict=True)
            )
            if disturb:
                self.loads.unloaded(MODEL)
            options = LoadOptions(context_length=2048)
            instance = Instance(id="m", context_length=2048, pid=pid)
            loaded = Loaded(instance=instance, seconds=1.5)
            self.loads.loaded(watch, MODEL, options, loaded)
            await self.loads.settled()
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            await self.loads.aclose()
            self.monitor.close()


async def test_a_load_is_remembered_with_the_ram_it_took() -> None:
    machine = Machine()
    await machine.load(ram=1200)
    (record,) = await machine.history.loads("lm:m")

    assert (record.seconds, record.context_length, record.ram_bytes) == (1.5, 2048, 1200)
    assert record.at == pytest.approx(time.time(), abs=60)
    assert machine.loads.ours == ("lm:m",)
    assert machine.loads.options_of("lm:m") == LoadOptions(context_length=2048)


async def test_a_gpu_that_could_not_be_read_before_is_not_taken_for_empty() -> None:
    machine = Machine()
    machine.probe.vram = (None,)
    await machine.load(vram=(8000,))

    assert not machine.history.records[0].measured


async def test_memory_of_gpus_is_told_apart_by_gpu() -> None:
    machine = Machine()
    machine.probe.vram = (100, 100)
    await machine.load(ram=300, vram=(800, 400))

    assert (machine.history.records[0].gpu_bytes, machine.history.records[0].ram_bytes) == (
        (800, 400),
        None,
    )


async def test_a_mapped_file_that_shows_no_memory_is_not_measured() -> None:
    machine = Machine()
    await machine.load(ram=100)

    assert not machine.history.records[0].measured
    assert machine.history.records[0].seconds == 1.5


async def test_memory_that_moved_meanwhile_is_not_blamed_on_the_load() -> None:
    machine = Machine()
    await machine.load(ram=1200, disturb=True)

    assert not machine.history.records[0].measured


async def test_its_own_process_is_measured_whatever_else_moved() -> None:
    machine = Machine()
    machine.probe.own = 1100
    await machine.load(ram=9000, disturb=True, pid=PID)

    (record,) = machine.history.records
    assert (record.ram_bytes, record.gpu_bytes) == (1100, ())


async def test_a_process_on_a_gpu_is_measured_there() -> None:
    machine = Machine()
    machine.probe.vram, machine.probe.own, machine.probe.own_vram = (100,), 500, 900
    await machine.load(vram=(5000,), disturb=True, pid=PID)

    (record,) = machine.history.records
    assert (record.ram_bytes, record.gpu_bytes) == (None, (900,))


async def test_where_the_driver_does_not_tell_of_processes_the_growth_counts() -> None:
    machine = Machine()
    machine.probe.vram, machine.probe.own, machine.probe.own_vram = (100,), 500, None
    await machine.load(vram=(1000,), pid=PID)

    assert machine.history.records[0].gpu_bytes == (1000,)


async def test_of_a_process_that_has_gone_nothing_is_believed() -> None:
    machine = Machine()
    await machine.load(ram=1200, pid=PID)

    assert not machine.history.records[0].measured


async def test_a_sample_of_before_an_unload_says_nothing_of_the_next_load() -> None:
    machine = Machine()
    sampling = asyncio.create_task(machine.monitor.run())
    await machine.monitor.latest()
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
    assert machine.loads.begin().before is not None
    machine.loads.unloaded(MODEL)

    assert machine.loads.begin().before is None
    machine.monitor.close()


async def test_what_we_unload_is_no_longer_ours() -> None:
    machine = Machine()
    await machine.load()
    machine.loads.unloaded(MODEL)

    assert machine.loads.ours == ()


async def test_what_somebody_else_took_out_or_doubled_is_no_longer_ours_alone() -> None:
    machine = Machine()
    await machine.load()
    mine = MODEL.model_copy(update={"instances": (Instance(id="m"),)})
    doubled = MODEL.model_copy(update={"instances": (Instance(id="m"), Instance(id="m:2"))})

    assert machine.loads.is_ours(mine)
    assert not machine.loads.is_ours(doubled)
    machine.loads.seen([doubled])
    assert machine.loads.is_ours(mine)
    machine.loads.seen([MODEL])
    assert not machine.loads.is_ours(mine)
    assert machine.loads.ours == ()


def record(count: int | None, context: int) -> LoadRecord:
    return LoadRecord(model_id="lm:m", context_length=context, seconds=1, ram_bytes=count, at=1)


def test_the_middle_of_the_loads_with_this_context_counts() -> None:
    past = [record(900, 4096), record(100, 2048), record(110, 2048), record(5000, 2048)]

    found = learned(past, 2048)
    assert found is not None
    assert found.total_bytes == 110
    other = learned(past[:1], 2048)
    assert other is not None
    assert other.total_bytes == 900
    assert learned([record(None, 2048)], 2048) is None
