"""The machine and the providers that the fake API shows."""

import math

from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.models import ProviderHealth
from tests.fake_api.world import World


def providers(world: World) -> list[ProviderHealth]:
    return [
        ProviderHealth(
            provider="lmstudio",
            kind="lmstudio",
            state="unreachable" if world.embedded else "ready",
            url="http://127.0.0.1:1234",
            message="LM Studio answers with 3 models.",
        )
    ]


def sample(world: World, at: float) -> HardwareSnapshot:
    def wave(low: float, high: float, speed: float) -> float:
        return low + (high - low) * (0.5 + 0.5 * math.sin(at * speed))

    gpus = tuple(
        Gpu(
            index=index,
            name="NVIDIA GeForce RTX 4090",
            utilization_percent=wave(5, 90, 0.5),
            memory_used=int(wave(14.5, 15.2, 0.1) * 2**30),
            memory_total=24 * 2**30,
            temperature_celsius=61,
            power_watts=wave(80, 310, 0.5),
            power_limit_watts=450,
        )
        for index in range(world.gpus)
    )
    driver = GpuDriver(state="ok", message="", version="560.35")
    if not gpus:
        driver = GpuDriver(
            state="no_driver", message="No NVIDIA GPU here. CPU and memory are shown."
        )
    return HardwareSnapshot(
        at=at,
        cpu_percent=wave(8, 40, 0.9),
        cpu_count=16,
        memory_used=int(13.1 * 2**30),
        memory_total=32 * 2**30,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=driver,
    )
