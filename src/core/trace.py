"""Traces: what the machine did while an answer was made, from the hardware monitor's samples."""

import time

from core.hardware import HardwareSnapshot
from core.value import Value

MAX_POINTS = 300


class GpuTrace(Value):
    """One GPU; a reading a point, None where it could not be had."""

    index: int
    name: str
    memory_total: int | None
    utilization_percent: tuple[float | None, ...]
    memory_used: tuple[int | None, ...]


class MachineTrace(Value):
    """Readings at moments `at`, seconds from the start; the first may be from just before it."""

    at: tuple[float, ...] = ()
    cpu_count: int | None = None
    memory_total: int | None = None
    cpu_percent: tuple[float, ...] = ()
    memory_used: tuple[int, ...] = ()
    gpus: tuple[GpuTrace, ...] = ()


class Tape:
    """Takes every sample, however long it goes on; keeps no more than `MAX_POINTS` of them."""

    def __init__(self, zero: float) -> None:
        """`zero` is the start on the monotonic clock."""
        self._zero = zero
        self._points: list[tuple[float, HardwareSnapshot]] = []
        self._stride = 1
        self._skipped = 0

    def add(self, sample: HardwareSnapshot) -> None:
        """The newest sample. When there are too many, every other one goes."""
        self._skipped += 1
        if self._points and (sample is self._points[-1][1] or self._skipped < self._stride):
            return
        self._skipped = 0
        # The wall clock may be set meanwhile; how old the sample is now hardly changes by that.
        age = max(0.0, time.time() - sample.at)
        self._points.append((time.monotonic() - age - self._zero, sample))
        if len(self._points) > MAX_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    def trace(self) -> MachineTrace:
        """What there is so far."""
        if not self._points:
            return MachineTrace()
        samples = [sample for _, sample in self._points]
        last = samples[-1]
        return MachineTrace(
            at=tuple(round(at, 3) for at, _ in self._points),
            cpu_count=last.cpu_count,
            memory_total=last.memory_total,
            cpu_percent=tuple(round(sample.cpu_percent, 1) for sample in samples),
            memory_used=tuple(sample.memory_used for sample in samples),
            gpus=_gpus(samples),
        )


def _gpus(samples: list[HardwareSnapshot]) -> tuple[GpuTrace, ...]:
    by_sample = [{gpu.index: gpu for gpu in sample.gpus} for sample in samples]
    known = {index: gpu for gpus in by_sample for index, gpu in gpus.items()}
    rows = {index: [gpus.get(index) for gpus in by_sample] for index in sorted(known)}
    return tuple(
        GpuTrace(
            index=index,
            name=known[index].name,
            memory_total=known[index].memory_total,
            utilization_percent=tuple(gpu.utilization_percent if gpu else None for gpu in row),
            memory_used=tuple(gpu.memory_used if gpu else None for gpu in row),
        )
        for index, row in rows.items()
    )
