"""The machine at one moment. Sizes are bytes, rates bytes per second, percent 0 to 100."""

from typing import Literal

from core.value import Value

GpuState = Literal["ok", "lost", "no_permission", "error"]
DriverState = Literal["ok", "no_driver", "no_library", "no_permission", "mismatch", "error"]


# The name of every process of LM Studio, whatever the system calls it.
LM_STUDIO = "LM Studio"


class GpuProcess(Value):
    """A program that holds memory of a GPU."""

    pid: int
    bytes: int | None = None
    """None where the driver does not tell, as on most Windows machines."""
    name: str | None = None
    """None where it cannot be looked up, as for a process that has just ended."""
    compute: bool = True
    """Whether it reckons on the GPU; otherwise it only draws."""


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
    processes: tuple[GpuProcess, ...] | None = None
    """Who holds its memory, the largest first; None where the driver does not say."""


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
