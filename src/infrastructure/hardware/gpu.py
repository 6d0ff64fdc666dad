"""The readings of one NVIDIA GPU; what it does not have is None."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from core.hardware import Gpu, GpuState
from infrastructure.hardware.processes import processes_of

# What the library writes where a card has no figure.
_NOT_AVAILABLE = 0xFFFFFFFF


class GpuGone(Exception):
    """The GPU as a whole cannot be read."""

    def __init__(self, state: GpuState, message: str) -> None:
        super().__init__(message)
        self.state = state
        self.message = message


def read_gpu(nvml: ModuleType, index: int) -> Gpu:
    """This GPU now. Raises GpuGone."""
    readings = _Readings(nvml)
    handle = readings.of(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        raise readings.verdict()
    uuid = readings.of(nvml.nvmlDeviceGetUUID, handle)
    name = readings.of(nvml.nvmlDeviceGetName, handle)
    memory = readings.of(_memory, nvml, handle)
    utilization = readings.of(nvml.nvmlDeviceGetUtilizationRates, handle)
    temperature = readings.of(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    power = readings.of(nvml.nvmlDeviceGetPowerUsage, handle)
    limit = readings.of(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    if readings.fatal or (memory, utilization, temperature, power) == (None,) * 4:
        raise readings.verdict()
    # After the verdict: who uses it is a nicety, and says nothing about the GPU itself.
    processes = processes_of(nvml, handle, readings.of)
    if readings.fatal:
        raise readings.verdict()
    return Gpu(
        index=index,
        name=name or f"GPU {index}",
        uuid=uuid,
        utilization_percent=utilization.gpu if utilization else None,
        memory_used=memory.used if memory else None,
        memory_total=memory.total if memory else None,
        temperature_celsius=temperature,
        power_watts=_watts(power),
        power_limit_watts=_watts(limit),
        processes=processes,
    )


class _Readings:
    """Calls that may fail one by one, and what their failures say together."""

    def __init__(self, nvml: ModuleType) -> None:
        self._nvml = nvml
        self._codes: list[int] = []
        self._words: list[str] = []

    def of(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """What it says, or None."""
        try:
            answer = read(*arguments)
        except self._nvml.NVMLError as error:
            self._codes.append(error.value)
            self._words.append(str(error))
            return None
        except UnicodeDecodeError:
            return None
        return None if answer == _NOT_AVAILABLE else answer

    @property
    def fatal(self) -> bool:
        """Whether a failure concerns the whole GPU."""
        whole = (self._nvml.NVML_ERROR_GPU_IS_LOST, self._nvml.NVML_ERROR_RESET_REQUIRED)
        return any(code in whole for code in self._codes)

    def verdict(self) -> GpuGone:
        nvml, codes = self._nvml, self._codes
        if nvml.NVML_ERROR_GPU_IS_LOST in codes:
            return GpuGone("lost", "The GPU has gone; it may have lost power.")
        if nvml.NVML_ERROR_RESET_REQUIRED in codes:
            return GpuGone("error", "The GPU hangs; restart the computer to reset it.")
        if nvml.NVML_ERROR_NO_PERMISSION in codes:
            return GpuGone("no_permission", "You may not read this GPU.")
        words = self._words[0] if self._words else "no reading"
        return GpuGone("error", f"The GPU cannot be read: {words}.")


def _memory(nvml: ModuleType, handle: Any) -> Any:
    """`used` without the driver's own reserve, which the older call counts as used."""
    too_old = (
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        nvml.NVML_ERROR_NOT_SUPPORTED,
    )
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value not in too_old:
            raise
    return nvml.nvmlDeviceGetMemoryInfo(handle)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
