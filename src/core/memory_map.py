"""MemoryMap: one bar per GPU, or RAM, made of the models in it, other things, and what is free."""

from collections.abc import Mapping, Sequence
from typing import Literal

from core.hardware import Gpu, HardwareSnapshot
from core.taken import MemorySource
from core.value import Value

# Programs named beside the models; the rest is a sum.
NAMED = 4


class Slice(Value):
    """A model's part. Sizes are bytes."""

    model_id: str
    """Full name."""
    name: str
    bytes: int
    source: MemorySource
    """How that is known."""
    chats: int = 0
    """Answers being written with it now."""
    gpu_bytes: tuple[int, ...] = ()
    """How it lies on the GPUs, where that was measured."""
    on_gpus: bool = False
    pids: tuple[int, ...] = ()
    """The processes that serve it, perhaps with others, where they are known."""


class Program(Value):
    """One of the other programs, all its processes together."""

    name: str
    bytes: int


class MemoryBar(Value):
    """One GPU, or the RAM. `total` is all slices, `other` and `free`."""

    kind: Literal["gpu", "ram"]
    index: int
    name: str
    total: int
    other: int
    free: int
    slices: tuple[Slice, ...]
    programs: tuple[Program, ...] = ()
    """The largest of `other`, where the driver names them."""


class MemoryMap(Value):
    """All bars, GPUs first. RAM is among them where no GPU is, or a model lies in it."""

    bars: tuple[MemoryBar, ...]


def memory_map(sample: HardwareSnapshot, slices: Sequence[Slice]) -> MemoryMap:
    """The bars of one sample. What the slices claim never exceeds what there is."""
    # By place in the sample, as loads were measured; one that cannot be read has no bar.
    gpus = {at: gpu for at, gpu in enumerate(sample.gpus) if gpu.memory_total}
    bars = [
        _with_programs(
            gpu,
            _bar(
                "gpu",
                gpu.index,
                gpu.name,
                total=gpu.memory_total or 0,
                used=gpu.memory_used or 0,
                slices=[part for each in slices if (part := _on_gpu(each, at, gpus))],
            ),
        )
        for at, gpu in gpus.items()
    ]
    in_ram = [each for each in slices if not (gpus and each.on_gpus)]
    if in_ram or not gpus:
        bars.append(
            _bar(
                "ram",
                0,
                "RAM",
                total=sample.memory_total,
                used=sample.memory_used,
                slices=in_ram,
            )
        )
    return MemoryMap(bars=tuple(bars))


def _on_gpu(each: Slice, at: int, gpus: Mapping[int, Gpu]) -> Slice | None:
    """The part of it on the GPU at this place; shared out by size where it was not measured."""
    if not each.on_gpus:
        return None
    if each.gpu_bytes:
        measured = sum(each.gpu_bytes) or 1
        share = each.gpu_bytes[at] / measured if at < len(each.gpu_bytes) else 0.0
    else:
        share = (gpus[at].memory_total or 0) / sum(gpu.memory_total or 0 for gpu in gpus.values())
    part = int(each.bytes * share)
    return each.model_copy(update={"bytes": part}) if part else None


def _with_programs(gpu: Gpu, bar: MemoryBar) -> MemoryBar:
    """With the names of the others; together they never claim more than the others have."""
    ours = {pid for each in bar.slices for pid in each.pids}
    sizes: dict[str, int] = {}
    for each in gpu.processes or ():
        if each.pid not in ours and each.name and each.bytes:
            sizes[each.name] = sizes.get(each.name, 0) + each.bytes
    named: list[Program] = []
    left = bar.other
    for name, count in sorted(sizes.items(), key=lambda item: item[1], reverse=True):
        if count <= left and len(named) < NAMED:
            named.append(Program(name=name, bytes=count))
            left -= count
    return bar.model_copy(update={"programs": tuple(named)})


def _bar(
    kind: Literal["gpu", "ram"],
    index: int,
    name: str,
    *,
    total: int,
    used: int,
    slices: Sequence[Slice],
) -> MemoryBar:
    claimed = sum(each.bytes for each in slices)
    # Pages of a mapped file count as free, so models may claim more than is used, never than is there.
    if claimed > total:
        slices = [
            each.model_copy(update={"bytes": each.bytes * total // claimed}) for each in slices
        ]
        claimed = sum(each.bytes for each in slices)
    other = min(max(0, used - claimed), total - claimed)
    return MemoryBar(
        kind=kind,
        index=index,
        name=name,
        total=total,
        other=other,
        free=total - claimed - other,
        slices=tuple(slices),
    )
