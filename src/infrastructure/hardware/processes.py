"""Which programs hold a GPU's memory, and how much RAM a process has."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from core.hardware import LM_STUDIO, GpuProcess

# More than a machine with a full screen has; what is left out holds the least.
MOST = 64
NAME_LENGTH = 40
# The process numbers of the machine itself; a container has numbers of its own.
HOST_NUMBERS = 0xEFFFFFFC


def sees_host_numbers() -> bool:
    """Whether our process numbers are those of the driver, which counts on the machine itself."""
    if sys.platform != "linux":
        return True
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == HOST_NUMBERS
    except OSError:
        return False


class Names:
    """What processes are called. Each is looked up once while it stays."""

    def __init__(self) -> None:
        self._known: dict[int, str | None] = {}

    def name(self, processes: Sequence[GpuProcess]) -> tuple[GpuProcess, ...]:
        """These with their names."""
        return tuple(each.model_copy(update={"name": self._of(each.pid)}) for each in processes)

    def keep(self, pids: set[int]) -> None:
        """Forget all others: their numbers may come again for something else."""
        self._known = {pid: name for pid, name in self._known.items() if pid in pids}

    def _of(self, pid: int) -> str | None:
        if pid not in self._known:
            self._known[pid] = _look_up(pid)
        return self._known[pid]


def processes_of(
    nvml: ModuleType, handle: Any, read: Callable[..., Any]
) -> tuple[GpuProcess, ...] | None:
    """Who holds memory of this GPU, without names; None where the driver does not say.

    `read` calls the library and answers None where that fails.
    """
    computing = read(_listed, nvml, handle, "Compute")
    drawing = read(_listed, nvml, handle, "Graphics")
    if computing is None and drawing is None:
        return None
    found = {pid: GpuProcess(pid=pid, bytes=count, compute=False) for pid, count in drawing or ()}
    for pid, count in computing or ():
        # One that does both is in both lists, with the same figure.
        also = found[pid].bytes if pid in found else None
        known = [each for each in (count, also) if each is not None]
        found[pid] = GpuProcess(pid=pid, bytes=max(known, default=None))
    largest = sorted(found.values(), key=lambda each: each.bytes or 0, reverse=True)
    return tuple(largest[:MOST])


def resident(pids: Sequence[int]) -> dict[int, int]:
    """Bytes of RAM of each of these processes that is still there."""
    found = {}
    for pid in pids:
        try:
            found[pid] = int(psutil.Process(pid).memory_info().rss)
        except (psutil.Error, OSError, ValueError):
            continue
    return found


def _listed(nvml: ModuleType, handle: Any, kind: str) -> list[tuple[int, int | None]]:
    """Process numbers with bytes, from the newest call this driver has."""
    ask = f"nvmlDeviceGet{kind}RunningProcesses"
    try:
        listed = getattr(nvml, f"{ask}_v3")(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        listed = getattr(nvml, f"{ask}_v2")(handle)
    return [(each.pid, each.usedGpuMemory) for each in listed]


def _look_up(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        name = process.name()
    except (psutil.Error, OSError, ValueError):
        return None
    try:
        path = process.exe()
    except (psutil.Error, OSError):
        path = ""  # another user's
    if _is_lm_studio(name) or _is_lm_studio(path):
        return LM_STUDIO
    return name[:NAME_LENGTH] or None


def _is_lm_studio(path: str) -> bool:
    """By its own name, or its folder: there, what loads the models is called `node`."""
    *folders, name = path.lower().replace("\\", "/").split("/")
    return ".lmstudio" in folders or name.startswith(("lm studio", "lm-studio", "llmster"))
