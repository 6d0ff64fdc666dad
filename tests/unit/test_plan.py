"""SwapPlan and MemoryMap: what has to go, in which order, and bars that add up."""

from typing import Any

import pytest

from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.memory_map import Slice, memory_map
from core.plan import ChatName, Need, Resident, SwapPlan, joined, plan, size

GB = 2**30
LISBON = ChatName(id="c1", title="Trip plan: Lisbon")


def resident(name: str, gigabytes: float | None, **more: Any) -> Resident:
    count = None if gigabytes is None else int(gigabytes * GB)
    return Resident(model_id=f"lm:{name}", name=name, bytes=count, **{"ours": True, **more})


def planned(
    *residents: Resident, need: float | Need | None = 4, free: float | None = 2, **more: Any
) -> SwapPlan:
    known = {
        "model_id": "lm:new",
        "name": "New",
        "loaded": False,
        "pool": "vram",
        "need": need
        if isinstance(need, Need)
        else Need(bytes=None if need is None else int(need * GB), source="learned"),
        "free": None if free is None else int(free * GB),
        "total": 12 * GB,
        "last_load_seconds": None,
    }
    return plan(**{**known, **more}, residents=residents)


def test_what_fits_puts_nothing_out() -> None:
    found = planned(resident("a", 4), free=4)

    assert (found.fits, found.unload, found.fits_after) == (True, (), True)


def test_idle_models_go_before_busy_ones_and_only_as_many_as_needed() -> None:
    busy = resident("busy", 6, chats=(LISBON,))
    found = planned(busy, resident("one", 1), resident("two", 1.5), resident("three", 3))

    assert found.unload == ("lm:one", "lm:two")
    assert (found.fits, found.fits_after) == (False, True)


def test_a_small_one_stays_when_a_later_big_one_makes_room_alone() -> None:
    assert planned(resident("small", 1), resident("big", 5)).unload == ("lm:big",)


def test_a_busy_one_goes_when_nothing_else_is_enough_and_its_chat_is_named() -> None:
    found = planned(resident("busy", 3, chats=(LISBON,)), resident("idle", 0.5))

    assert found.unload == ("lm:busy",)
    assert "busy is writing an answer in “Trip plan: Lisbon”." in found.sentences


def test_models_of_others_are_never_chosen() -> None:
    found = planned(resident("theirs", 8, ours=False), resident("mine", 1))

    assert found.unload == ("lm:mine",)
    assert found.fits_after is False
    assert found.residents[0].model_id == "lm:theirs"


def test_nothing_goes_for_a_model_that_can_never_fit() -> None:
    found = planned(resident("mine", 4), need=20)

    assert (found.unload, found.fits_after) == ((), False)
    assert any("could make room" in each for each in found.sentences)


@pytest.mark.parametrize("unknown", [{"need": None}, {"free": None}])
def test_what_cannot_be_known_is_not_claimed(unknown: dict[str, Any]) -> None:
    found = planned(resident("mine", 4), **unknown)

    assert (found.fits, found.unload, found.fits_after) == (None, (), None)


def test_a_server_that_would_refuse_is_believed_although_memory_seems_free() -> None:
    refusing = Need(bytes=GB, source="server", refused=True)
    found = planned(resident("mine", 1), need=refusing)

    assert (found.fits, found.unload, found.fits_after) == (False, ("lm:mine",), None)
    assert any("not known before" in each for each in found.sentences)


def test_one_of_unknown_size_may_make_room_and_nobody_says_that_it_does() -> None:
    found = planned(resident("mine", None), resident("small", 0.5))

    assert (set(found.unload), found.fits_after) == ({"lm:mine", "lm:small"}, None)
    assert any("mine" in each and "not known before" in each for each in found.sentences)


def test_it_is_said_whether_what_goes_is_enough() -> None:
    assert "Unloading a makes room for it." in planned(resident("a", 4)).sentences
    assert "Unloading a is not enough." in planned(resident("a", 1)).sentences


def test_the_last_load_and_the_figures_are_said() -> None:
    said = " ".join(planned(resident("a", 4), last_load_seconds=6.24).sentences)

    assert "New needs 4.0 GB of graphics memory (measured here before)." in said
    assert "2.0 GB is free." in said
    assert "6.2 s" in said


def test_names_and_sizes_read_well() -> None:
    assert [joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [size(0), size(300 * 2**20), size(3 * GB)] == ["1 MB", "300 MB", "3.0 GB"]


# The map


def machine(*gpus: Gpu, used: int = 6 * GB) -> HardwareSnapshot:
    return HardwareSnapshot(
        at=1.0,
        cpu_percent=0.0,
        cpu_count=2,
        memory_used=used,
        memory_total=16 * GB,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=GpuDriver(state="ok" if gpus else "no_library", message=""),
    )


def gpu(index: int, used: int, total: int) -> Gpu:
    return Gpu(index=index, name=f"GPU {index}", memory_used=used * GB, memory_total=total * GB)


def piece(count: int, **more: Any) -> Slice:
    return Slice(model_id="lm:m", name="m", bytes=count * GB, source="load", **more)


def test_without_a_gpu_there_is_one_bar_of_ram_that_adds_up() -> None:
    (bar,) = memory_map(machine(), [piece(2), piece(1)]).bars

    assert (bar.kind, bar.other, bar.free) == ("ram", 3 * GB, 10 * GB)
    assert sum(each.bytes for each in bar.slices) + bar.other + bar.free == bar.total


def test_a_model_lies_on_the_gpus_as_it_was_measured() -> None:
    parts = [piece(6, on_gpus=True, gpu_bytes=(4 * GB, 2 * GB))]
    one, two = memory_map(machine(gpu(0, 5, 8), gpu(1, 2, 8)), parts).bars

    assert [(b.slices[0].bytes, b.other, b.free) for b in (one, two)] == [
        (4 * GB, GB, 3 * GB),
        (2 * GB, 0, 6 * GB),
    ]


def test_a_model_in_ram_beside_gpus_has_a_bar_of_its_own() -> None:
    bars = memory_map(machine(gpu(0, 1, 8)), [piece(2)]).bars

    assert [(bar.kind, len(bar.slices)) for bar in bars] == [("gpu", 0), ("ram", 1)]


def test_claims_beyond_what_there_is_are_cut_down() -> None:
    (bar,) = memory_map(machine(), [piece(30), piece(10)]).bars

    assert [each.bytes // GB for each in bar.slices] == [12, 4]
    assert (bar.other, bar.free) == (0, 0)
