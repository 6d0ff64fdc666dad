"""Taken: whose figure counts for a loaded model, and who the other programs are."""

from collections.abc import Sequence

import pytest

from core.hardware import LM_STUDIO, Gpu, GpuProcess
from core.memory_map import MemoryBar
from core.models import Instance
from core.taken import on_gpus
from tests.unit.test_memory_map import machine
from tests.unit.test_planner import GB, Room, planning

pytestmark = pytest.mark.anyio

OWN = 4711
NODE = 815


def card(used: float, *processes: GpuProcess, told: bool = True, total: int = 16) -> Gpu:
    return Gpu(
        index=0,
        name="RTX",
        memory_used=int(used * GB),
        memory_total=total * GB,
        processes=processes if told else None,
    )


def process(pid: int, gigabytes: float | None, name: str = "python", **more: bool) -> GpuProcess:
    count = None if gigabytes is None else int(gigabytes * GB)
    return GpuProcess.model_validate({"pid": pid, "bytes": count, "name": name, **more})


async def shown(
    room: Room, name: str, *, pid: int | None = None, ram: float = 0
) -> Sequence[MemoryBar]:
    """The bars with this model in memory, served by this process with so much RAM."""
    if pid is not None:
        room.probe.processes = {pid: int(ram * GB)}
    room.telling.put_in_memory(name, Instance(id=name, context_length=4096, pid=pid))
    await room.library.models(max_age=0)
    return await room.bars()


def parts(bar: MemoryBar) -> list[tuple[float, str]]:
    return [(each.bytes / GB, each.source) for each in bar.slices]


async def test_its_own_process_counts_more_than_what_its_load_took() -> None:
    async with planning() as room:
        room.remember("one", 3)
        (bar,) = await shown(room, "one", pid=OWN, ram=2.5)

        assert (bar.kind, parts(bar)) == ("ram", [(2.5, "process")])
        assert [each.pids for each in bar.slices] == [(OWN,)]
        (resident,) = (await room.plan("new")).residents
        assert (resident.bytes, resident.source) == (int(2.5 * GB), "process")


async def test_a_process_that_is_gone_has_no_figure() -> None:
    async with planning() as room:
        room.remember("one", 3)
        (bar,) = await shown(room, "one", pid=OWN, ram=2.5)
        assert parts(bar) == [(2.5, "process")]
        room.probe.processes = {}
        (bar,) = await room.bars()

    assert parts(bar) == [(3, "load")]


async def test_on_gpus_the_process_counts_as_the_driver_tells() -> None:
    async with planning() as room:
        room.remember("one", 1, gpus=1)
        room.probe.gpus = (card(6, process(OWN, 2), process(9, 3, "chrome")),)
        await room.bars()
        gpu, *rest = await shown(room, "one", pid=OWN, ram=0.1)

    assert (gpu.kind, parts(gpu), gpu.other / GB) == ("gpu", [(2, "process")], 4)
    assert [(each.name, each.bytes / GB) for each in gpu.programs] == [("chrome", 3)]
    assert rest == []


async def test_one_that_lies_in_both_has_a_part_of_both() -> None:
    async with planning() as room:
        room.probe.gpus = (card(6, process(OWN, 1)),)
        await room.bars()
        gpu, ram = await shown(room, "one", pid=OWN, ram=1.5)

    assert (parts(gpu), parts(ram)) == ([(1, "process")], [(1.5, "process")])


async def test_a_process_that_holds_nothing_of_a_gpu_has_its_model_in_ram() -> None:
    async with planning() as room:
        room.probe.gpus = (card(6, process(9, 3)),)
        await room.bars()
        gpu, ram = await shown(room, "one", pid=OWN, ram=2.25)

    assert (parts(gpu), parts(ram)) == ([], [(2.25, "process")])


async def test_a_driver_that_does_not_tell_leaves_it_to_the_load() -> None:
    async with planning() as room:
        room.remember("one", 4, gpus=1)
        for silent in (card(6, told=False), card(6, process(OWN, None))):
            room.probe.gpus = (silent,)
            await room.bars()
            room.telling.models["one"] = room.telling.models["one"].model_copy(
                update={"instances": ()}
            )
            (gpu,) = await shown(room, "one", pid=OWN, ram=0.5)

            assert parts(gpu) == [(4, "load")]


async def test_such_a_driver_does_not_hide_what_lies_in_ram() -> None:
    async with planning() as room:
        room.remember("one", 4)
        room.probe.gpus = (card(6, told=False),)
        await room.bars()
        _, ram = await shown(room, "one", pid=OWN, ram=2.5)

    assert parts(ram) == [(2.5, "process")]


async def test_lm_studios_processes_are_its_only_models() -> None:
    async with planning() as room:
        node, page = process(NODE, 3, LM_STUDIO), process(816, 0.5, LM_STUDIO, compute=False)
        room.probe.gpus = (card(6, node, page, process(9, 1, "chrome")),)
        room.remember("one", 2.5, gpus=1)
        await room.bars()
        (gpu,) = await shown(room, "one")

        assert parts(gpu) == [(3, "process")]
        assert [each.name for each in gpu.programs] == ["chrome"]
        room.remember("two", 1, gpus=1)
        (gpu,) = await shown(room, "two")
        # Which of the two has how much of it nobody can say.
        assert parts(gpu) == [(2.5, "load"), (1, "load")]
        assert [each.name for each in gpu.programs] == ["chrome"]


async def test_of_another_machines_lm_studio_no_process_is_here() -> None:
    async with planning() as room:
        room.probe.gpus = (card(6, process(NODE, 3, LM_STUDIO)),)
        room.telling.url = "http://192.168.1.20:1234"
        await room.watch.look()
        await room.bars()
        (gpu,) = await shown(room, "one")

    assert parts(gpu) == []
    assert [each.name for each in gpu.programs] == [LM_STUDIO]


def test_a_card_that_cannot_be_read_holds_nothing_and_one_that_is_silent_hides_all() -> None:
    dark = Gpu(index=1, name="RTX")
    assert on_gpus(machine(card(6, process(OWN, 2)), dark), {OWN}) == (2 * GB, 0)
    assert on_gpus(machine(card(6, process(OWN, 2)), card(1, told=False)), {OWN}) is None
    assert on_gpus(machine(), {OWN}) == ()
