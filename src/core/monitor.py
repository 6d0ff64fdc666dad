"""HardwareMonitor: samples the machine once a second in a thread and keeps the last five minutes."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor

from core.hardware import HardwareHistory, HardwareSnapshot
from core.ports import HardwareProbe

INTERVAL_SECONDS = 1.0
KEPT_SECONDS = 300


class HardwareMonitor:
    """The machine now and lately."""

    def __init__(self, probe: HardwareProbe, *, interval: float = INTERVAL_SECONDS) -> None:
        self._probe = probe
        self._interval = interval
        self._samples: deque[HardwareSnapshot] = deque(maxlen=int(KEPT_SECONDS / interval))
        # One thread of its own: a GPU driver that hangs blocks nothing else.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hardware")
        self._sampled = asyncio.Condition()

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = time.monotonic()
            sample = await loop.run_in_executor(self._thread, self._probe.sample)
            async with self._sampled:
                self._samples.append(sample)
                self._sampled.notify_all()
            await asyncio.sleep(max(0.0, began + self._interval - time.monotonic()))

    async def latest(self) -> HardwareSnapshot:
        """The newest sample; waits for the first one."""
        async with self._sampled:
            await self._sampled.wait_for(lambda: bool(self._samples))
            return self._samples[-1]

    async def after(self, sample: HardwareSnapshot) -> HardwareSnapshot:
        """The first sample that is newer than this one's successor: it began after this call."""
        number, seen = 0, sample
        async with self._sampled:
            while number < 2:
                await self._sampled.wait_for(lambda: self._samples[-1] is not seen)  # noqa: B023
                number, seen = number + 1, self._samples[-1]
        return seen

    @property
    def newest(self) -> HardwareSnapshot | None:
        """The newest sample, None before the first."""
        return self._samples[-1] if self._samples else None

    def history(self, seconds: float = KEPT_SECONDS) -> HardwareHistory:
        """Samples of the last `seconds`, oldest first."""
        since = time.time() - seconds
        kept = tuple(_curves(sample) for sample in self._samples if sample.at >= since)
        return HardwareHistory(interval_seconds=self._interval, samples=kept)

    async def resident(self, pids: Sequence[int]) -> dict[int, int]:
        """Bytes of RAM of each of these processes that is still there, now."""
        return await asyncio.to_thread(self._probe.resident, pids) if pids else {}

    async def watch(self) -> AsyncGenerator[HardwareSnapshot]:
        """Every new sample, starting with the newest."""
        seen = 0.0
        while True:
            async with self._sampled:
                await self._sampled.wait_for(
                    lambda: bool(self._samples) and self._samples[-1].at > seen  # noqa: B023
                )
                sample = self._samples[-1]
            seen = sample.at
            yield sample

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._probe.close()


def _curves(sample: HardwareSnapshot) -> HardwareSnapshot:
    """Without who used the GPUs: five minutes of that would be large, and nobody draws it."""
    if not any(gpu.processes for gpu in sample.gpus):
        return sample
    bare = tuple(gpu.model_copy(update={"processes": None}) for gpu in sample.gpus)
    return sample.model_copy(update={"gpus": bare})
