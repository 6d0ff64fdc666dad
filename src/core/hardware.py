"""The machine at one moment. Sizes are bytes, rates bytes per second, percent 0 to 100."""

from typing import Literal

from core.value import Value

GpuState = Literal["ok", "lost", "no_permission", "error"]
DriverState = Literal["ok", "no_driver", "no_library", "no_permission", "mismatch", "error"]


class Gpu(Value):
    """One GPU. Each reading may be missing on its own."""

    index: int
    name: str
    uuid: str | None = None
    state: GpuState = "ok"
    message: str = ""
    utilization_percent: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None


class GpuDriver(Value):
    """Whether GPUs can be read at all; no NVIDIA GPU is an ordinary state."""

    state: DriverState
    message: str
    version: str | None = None


class HardwareSnapshot(Value):
    """One sample."""

    at: float
    """Unix seconds."""
    cpu_percent: float
    cpu_count: int
    memory_used: int
    memory_total: int
    swap_used: int
    swap_total: int
    disk_read: float | None = None
    disk_write: float | None = None
    disk_free: int | None = None
    """Free bytes where LM Desk keeps its data."""
    disk_total: int | None = None
    network_received: float | None = None
    network_sent: float | None = None
    gpus: tuple[Gpu, ...] = ()
    driver: GpuDriver


class HardwareHistory(Value):
    """Samples, oldest first, one each `interval_seconds`."""

    interval_seconds: float
    samples: tuple[HardwareSnapshot, ...]
