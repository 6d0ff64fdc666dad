"""MemoryMap: whatever is claimed, every bar adds up to what there is."""

from hypothesis import given
from hypothesis import strategies as st

from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.memory_map import Slice, memory_map

GB = 2**30


def machine(*gpus: Gpu, used: int = 6 * GB, total: int = 16 * GB) -> HardwareSnapshot:
    return HardwareSnapshot(
        at=1.0,
        cpu_percent=0.0,
        cpu_count=2,
        memory_used=used,
        memory_total=total,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=GpuDriver(state="ok" if gpus else "no_library", message=""),
    )


def gpu(index: int, used: int | None, total: int | None) -> Gpu:
    return Gpu(index=index, name=f"GPU {index}", memory_used=used, memory_total=total)


def piece(count: int, **more: object) -> Slice:
    return Slice.model_validate(
        {"model_id": "lm:m", "name": "m", "bytes": count, "source": "load", **more}
    )


sizes = st.integers(0, 40 * GB)
pieces = st.builds(
    lambda count, parts, on_gpus: piece(count, gpu_bytes=parts, on_gpus=on_gpus),
    sizes,
    st.lists(sizes, max_size=3).map(tuple),
    st.booleans(),
)
cards = st.lists(st.tuples(st.integers(0, 30 * GB), st.integers(1, 24 * GB)), max_size=3)


@given(cards=cards, used=sizes, total=st.integers(1, 32 * GB), slices=st.lists(pieces, max_size=5))
def test_every_bar_adds_up_and_no_part_is_negative(
    cards: list[tuple[int, int]], used: int, total: int, slices: list[Slice]
) -> None:
    gpus = [gpu(at, *card) for at, card in enumerate(cards)]
    bars = memory_map(machine(*gpus, used=used, total=total), slices).bars

    assert bars
    for bar in bars:
        parts = [bar.other, bar.free, *(each.bytes for each in bar.slices)]
        assert sum(parts) == bar.total
        assert min(parts) >= 0
    assert sum(bar.kind == "gpu" for bar in bars) == len(cards)


def test_an_unmeasured_model_is_shared_out_by_the_size_of_the_gpus() -> None:
    small, large = memory_map(
        machine(gpu(0, 0, 4 * GB), gpu(1, 0, 12 * GB)), [piece(8 * GB, on_gpus=True)]
    ).bars

    assert [bar.slices[0].bytes for bar in (small, large)] == [2 * GB, 6 * GB]


def test_a_gpu_that_is_not_used_by_a_model_has_no_slice_of_it() -> None:
    slices = [piece(4 * GB, on_gpus=True, gpu_bytes=(4 * GB, 0))]
    one, two = memory_map(machine(gpu(0, 5 * GB, 8 * GB), gpu(1, GB, 8 * GB)), slices).bars

    assert len(one.slices) == 1
    assert (two.slices, two.other) == ((), GB)


def test_a_gpu_whose_memory_cannot_be_read_is_left_out_not_invented() -> None:
    (bar,) = memory_map(machine(gpu(0, None, None)), [piece(GB, on_gpus=True)]).bars

    assert (bar.kind, len(bar.slices)) == ("ram", 1)


def test_a_gpu_left_out_does_not_shift_what_was_measured_on_the_next() -> None:
    slices = [piece(3 * GB, on_gpus=True, gpu_bytes=(0, 3 * GB))]
    (bar,) = memory_map(machine(gpu(0, None, None), gpu(1, 4 * GB, 8 * GB)), slices).bars

    assert (bar.index, bar.slices[0].bytes, bar.other) == (1, 3 * GB, GB)
