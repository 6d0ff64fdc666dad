"""NVIDIA GPUs through the driver's own library, where every single reading may be missing."""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from core.hardware import DriverState, Gpu, GpuDriver
from infrastructure.hardware.gpu import GpuGone, read_gpu
from infrastructure.hardware.processes import Names, sees_host_numbers

RETRY_SECONDS = 30.0

Reading = tuple[GpuDriver, tuple[Gpu, ...]]


class NvidiaGpus:
    """All GPUs of this machine.

    Where there is no driver, it is looked for again every 30 seconds: one may be installed, or a
    card plugged in, while LM Desk runs. A GPU once seen stays listed, as `lost` when it is gone.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, host_numbers: bool | None = None
    ) -> None:
        """`host_numbers`: whether the driver's process numbers are ours; None finds it out."""
        self._clock = clock
        self._host_numbers = sees_host_numbers() if host_numbers is None else host_numbers
        self._names = Names()
        self._nvml: ModuleType | None = None
        self._driver = GpuDriver(state="no_driver", message="GPUs have not been read yet.")
        self._next_try = clock()
        self._known: tuple[Gpu, ...] = ()

    def read(self) -> Reading:
        """The driver's state and the GPUs, by index. Never raises."""
        # After a reset or a resume the library must be opened anew to see a card again.
        wanting = any(gpu.state in ("lost", "error") for gpu in self._known)
        if (self._nvml is None or wanting) and self._clock() >= self._next_try:
            self._next_try = self._clock() + RETRY_SECONDS
            self._shut()
            self._open()
        if self._nvml is None:
            return self._driver, _gone(self._known, self._driver.message)
        gpus = self._read_all(self._nvml)
        return self._driver, self._named(gpus)

    def _named(self, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """With the names of who uses them; in a container nobody can say who that is."""
        if not self._host_numbers:
            return tuple(gpu.model_copy(update={"processes": None}) for gpu in gpus)
        held = [gpu.processes or () for gpu in gpus]
        self._names.keep({each.pid for processes in held for each in processes})
        return tuple(
            gpu.model_copy(update={"processes": self._names.name(processes)}) if processes else gpu
            for gpu, processes in zip(gpus, held, strict=True)
        )

    def close(self) -> None:
        """Let go of the library; the next reading opens it again."""
        self._shut()
        self._next_try = self._clock()

    def _shut(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                return  # the driver went first

    def _open(self) -> None:
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._driver = _refusal(pynvml, error)
            return
        self._nvml = pynvml
        try:
            version: str | None = pynvml.nvmlSystemGetDriverVersion()
        except (pynvml.NVMLError, UnicodeDecodeError):
            version = None
        self._driver = GpuDriver(state="ok", message="", version=version)

    def _read_all(self, nvml: ModuleType) -> tuple[Gpu, ...]:
        try:
            count: int = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self._driver = _refusal(nvml, error)
            self._shut()
            return _gone(self._known, self._driver.message)
        before = {gpu.index: gpu for gpu in self._known}
        present = [self._one(nvml, index, before.get(index)) for index in range(count)]
        gpus = (*present, *_fallen_off(self._known, present))
        self._known = gpus
        if self._driver.state == "ok":
            message = "" if gpus else "The NVIDIA driver finds no GPU."
            self._driver = self._driver.model_copy(update={"message": message})
        return gpus

    def _one(self, nvml: ModuleType, index: int, before: Gpu | None) -> Gpu:
        try:
            return read_gpu(nvml, index)
        except GpuGone as gone:
            name, uuid = (before.name, before.uuid) if before else (f"GPU {index}", None)
            return Gpu(index=index, name=name, uuid=uuid, state=gone.state, message=gone.message)


def _fallen_off(known: tuple[Gpu, ...], present: list[Gpu]) -> list[Gpu]:
    """GPUs seen before that are no longer counted; each with an index nobody else has."""
    uuids = {gpu.uuid for gpu in present if gpu.uuid}
    taken = {gpu.index for gpu in present}
    fallen = []
    for gpu in known:
        here = gpu.uuid in uuids if gpu.uuid else gpu.index in taken
        if not here:
            index = gpu.index if gpu.index not in taken else max(taken) + 1
            taken.add(index)
            fallen.append(_lost(gpu, "The GPU has gone; it may have lost power.", index=index))
    return fallen


def _gone(known: tuple[Gpu, ...], message: str) -> tuple[Gpu, ...]:
    return tuple(_lost(gpu, message, index=gpu.index) for gpu in known)


def _lost(gpu: Gpu, message: str, *, index: int) -> Gpu:
    return Gpu(index=index, name=gpu.name, uuid=gpu.uuid, state="lost", message=message)


def _refusal(nvml: ModuleType, error: Any) -> GpuDriver:
    """What a failed call into the library says about the driver."""
    states: dict[int, tuple[DriverState, str]] = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no_library",
            "No NVIDIA driver is installed, so only processor and memory are shown.",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "no_driver",
            "The NVIDIA driver is not running, so only processor and memory are shown.",
        ),
        nvml.NVML_ERROR_UNINITIALIZED: ("no_driver", "The NVIDIA driver was stopped."),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "no_permission",
            "You may not read the NVIDIA driver; ask for access to /dev/nvidiactl.",
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "mismatch",
            "The NVIDIA driver was updated while it ran; restart the computer.",
        ),
    }
    unknown: tuple[DriverState, str] = (
        "error",
        f"The NVIDIA driver failed: {str(error).rstrip('.')}.",
    )
    state, message = states.get(error.value, unknown)
    return GpuDriver(state=state, message=message)
