"""The machine: processors, memory, disk, network and NVIDIA GPUs."""

from infrastructure.hardware.machine import MachineProbe

__all__ = ["MachineProbe"]
