"""One sample of the machine, whatever of it can be read."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from infrastructure.hardware.cgroup import container_memory
from infrastructure.hardware.nvml import NvidiaGpus
from infrastructure.hardware.patience import Patient
from infrastructure.hardware.processes import resident
from infrastructure.hardware.rates import CpuShare, Rate

T = TypeVar("T")

# A healthy driver answers within milliseconds, one that wakes a sleeping card within a second.
PATIENCE_SECONDS = 2.0


class MachineProbe:
    """Reads this machine. `data_dir` tells which disk's free space matters.

    Any thread may call it. A driver that hangs costs a sample its GPU readings, nothing else.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = PATIENCE_SECONDS,
        host_numbers: bool | None = None,
    ) -> None:
        """`host_numbers`: whether the driver counts processes as we do; None finds it out."""
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._gpus = NvidiaGpus(clock=clock, host_numbers=host_numbers)
        self._read_gpus = Patient(self._gpus.read, seconds=patience_seconds)
        self._seen: tuple[Gpu, ...] = ()
        self._cpu = CpuShare()
        self._disk_read, self._disk_write = Rate(clock), Rate(clock)
        self._received, self._sent = Rate(clock), Rate(clock)
        # Rates and shares are differences; with these the first sample has something to differ from.
        self._cpu.percent()
        self._disk_rates()
        self._network_rates()

    def sample(self) -> HardwareSnapshot:
        """The machine now. Takes milliseconds; longer only while the GPU driver is slow."""
        with self._lock:
            driver, gpus = self._gpu_readings()
            memory_used, memory_total = _memory()
            swap = _readable(psutil.swap_memory)
            space = _readable(lambda: psutil.disk_usage(str(_existing(self._data_dir))))
            disk_read, disk_write = self._disk_rates()
            received, sent = self._network_rates()
            return HardwareSnapshot(
                at=time.time(),
                cpu_percent=self._cpu.percent(),
                cpu_count=psutil.cpu_count() or 1,
                memory_used=memory_used,
                memory_total=memory_total,
                swap_used=swap.used if swap else 0,
                swap_total=swap.total if swap else 0,
                disk_read=disk_read,
                disk_write=disk_write,
                disk_free=space.free if space else None,
                disk_total=space.total if space else None,
                network_received=received,
                network_sent=sent,
                gpus=gpus,
                driver=driver,
            )

    def resident(self, pids: Sequence[int]) -> dict[int, int]:
        """Bytes of RAM of each of these processes that is still there."""
        return resident(pids)

    def close(self) -> None:
        """Let go of the driver, unless it hangs; a later sample takes it up again."""
        if not self._read_gpus.busy:
            self._gpus.close()

    def _gpu_readings(self) -> tuple[GpuDriver, tuple[Gpu, ...]]:
        reading = self._read_gpus()
        if reading is not None:
            driver, self._seen = reading
            return driver, self._seen
        silence = "The NVIDIA driver is too slow to answer."
        # Older figures would look like current ones.
        silent = tuple(
            Gpu(index=gpu.index, name=gpu.name, uuid=gpu.uuid, state="error", message=silence)
            for gpu in self._seen
        )
        return GpuDriver(state="error", message=silence), silent

    def _disk_rates(self) -> tuple[float | None, float | None]:
        counters = _readable(psutil.disk_io_counters)
        return (
            self._disk_read.of(counters.read_bytes if counters else None),
            self._disk_write.of(counters.write_bytes if counters else None),
        )

    def _network_rates(self) -> tuple[float | None, float | None]:
        cards = _readable(lambda: psutil.net_io_counters(pernic=True)) or {}
        # Talk between programs on this machine, such as ours with LM Studio, is no network traffic.
        outside = [card for name, card in cards.items() if not name.lower().startswith("lo")]
        return (
            self._received.of(sum(card.bytes_recv for card in outside) if outside else None),
            self._sent.of(sum(card.bytes_sent for card in outside) if outside else None),
        )


def _memory() -> tuple[int, int]:
    """Bytes used and in all, of the container where one is smaller than the machine."""
    host = _readable(psutil.virtual_memory)
    if host is None:
        return 0, 0
    container = container_memory()
    if container is not None and container.total < host.total:
        return container.used, container.total
    # What programs cannot have: caches are given back when asked for.
    return host.total - host.available, host.total


def _readable(read: Callable[[], T]) -> T | None:
    """What this part of the system says; None where it cannot be read."""
    try:
        return read()
    except (OSError, psutil.Error, RuntimeError, ValueError, NotImplementedError):
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there yet."""
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)
