"""Taken: what a loaded model takes of this machine, from the best source there is."""

from collections.abc import Container, Mapping
from typing import Literal, NamedTuple

from core.hardware import LM_STUDIO, HardwareSnapshot
from core.models import LoadRecord, ModelInfo

MemorySource = Literal[
    "process",  # its own process holds so much now
    "load",  # memory in use grew by so much when it was loaded
    "estimate",  # reckoned from the size of its file
]

# A model of which only this share shows as used memory was mapped from its file, or lies elsewhere:
# the difference says nothing.
BELIEVED_SHARE = 0.25


class Taken(NamedTuple):
    """Bytes, of all instances together."""

    source: MemorySource
    gpu_bytes: int = 0
    by_gpu: tuple[int, ...] = ()
    """How `gpu_bytes` lie on the GPUs, by place in the sample; empty where that is not known."""
    ram_bytes: int = 0
    known: bool = True
    """Whether there is a figure at all."""

    def within(self, pool: Literal["vram", "ram"]) -> int:
        return self.gpu_bytes if pool == "vram" else self.ram_bytes


def believed(model: ModelInfo) -> int:
    """So many bytes can be the model; fewer are something else."""
    return int((model.size_bytes or 1) * BELIEVED_SHARE)


def on_gpus(sample: HardwareSnapshot, pids: Container[int]) -> tuple[int, ...] | None:
    """Bytes these processes hold of each GPU, by place in the sample.

    None where a driver does not say; nothing is held of a GPU that cannot be read at all.
    """
    held = []
    for gpu in sample.gpus:
        if gpu.memory_total is None:
            held.append(0)
            continue
        if gpu.processes is None:
            return None
        mine = [each.bytes for each in gpu.processes if each.pid in pids]
        if None in mine:
            return None
        held.append(sum(count or 0 for count in mine))
    return tuple(held)


def lm_studio_pids(sample: HardwareSnapshot, *, computing: bool = False) -> frozenset[int]:
    """LM Studio's processes on GPUs: all, or those that hold models."""
    processes = [each for gpu in sample.gpus for each in gpu.processes or ()]
    return frozenset(
        each.pid for each in processes if each.name == LM_STUDIO and (each.compute or not computing)
    )


def by_process(
    model: ModelInfo, sample: HardwareSnapshot, resident: Mapping[int, int], *, in_ram: bool
) -> Taken | None:
    """What the processes that serve it alone hold; None where that is not known.

    `in_ram`: it is known otherwise to lie in RAM, for where the driver does not tell of processes.
    """
    pids = [each.pid for each in model.instances if each.pid in resident and each.pid is not None]
    if not pids or len(pids) < len(model.instances):
        return None
    ram = sum(resident[pid] for pid in pids)
    gpus = on_gpus(sample, set(pids))
    if gpus is not None and sum(gpus) >= believed(model):
        # What its program needs beside the model is none of its weights.
        beside = ram if ram >= believed(model) else 0
        return Taken("process", sum(gpus), gpus, beside)
    if gpus is None and not in_ram:
        return None
    return Taken("process", ram_bytes=ram)


def by_group(model: ModelInfo, sample: HardwareSnapshot, pids: frozenset[int]) -> Taken | None:
    """What processes hold that serve this model and no other; None where that cannot be it."""
    gpus = on_gpus(sample, pids) if pids else None
    if gpus is None or sum(gpus) < believed(model):
        return None
    return Taken("process", sum(gpus), gpus)


def by_load(model: ModelInfo, record: LoadRecord) -> Taken:
    """What each of its instances took when it was loaded."""
    count = len(model.instances)
    if record.gpu_bytes:
        return Taken("load", count * sum(record.gpu_bytes), record.gpu_bytes)
    return Taken("load", ram_bytes=count * (record.ram_bytes or 0))
