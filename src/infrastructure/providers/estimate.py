"""How far a load probably is, when the server does not say: time against earlier loads."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from core.errors import ProviderTimeout
from core.models import LoadProgress, ModelInfo

EMIT_SECONDS = 0.2
LOAD_SECONDS = 600.0
# What a request may still take once the model is there.
REST_SECONDS = 5.0

# A cold read from a common disk; replaced by what this process has seen.
SEED_BYTES_PER_SECOND = 1.5e9
# Where not even the size is known, as on 0.3.
SEED_SECONDS = 12.0
# Only the re-read says that a load is over.
CAP = 0.95
_WEIGHT = 0.5


Landed = Callable[[], Coroutine[Any, Any, object]]


class LoadEstimates:
    """Learns from the loads of one server; lives as long as the provider."""

    def __init__(self) -> None:
        self._bytes_per_second = SEED_BYTES_PER_SECOND
        self._learned = False
        self._seconds: dict[str, float] = {}

    def seconds(self, model: ModelInfo) -> float:
        """How long this model will probably take."""
        if model.id in self._seconds:
            return self._seconds[model.id]
        if model.size_bytes:
            return max(0.5, model.size_bytes / self._bytes_per_second)
        return SEED_SECONDS

    def fraction(self, model: ModelInfo, *, elapsed: float) -> float:
        """0 to 0.95, growing evenly over the estimate."""
        return min(CAP, elapsed / self.seconds(model))

    def learn(self, model: ModelInfo, *, seconds: float) -> None:
        """A load took this long."""
        self._seconds[model.id] = max(seconds, 0.05)
        if not model.size_bytes:
            return
        seen = model.size_bytes / max(seconds, 0.05)
        weight = _WEIGHT if self._learned else 1.0
        self._bytes_per_second += weight * (seen - self._bytes_per_second)
        self._learned = True


async def estimated(
    call: Coroutine[Any, Any, None],
    model: ModelInfo,
    estimates: LoadEstimates,
    landed: Landed | None = None,
) -> AsyncGenerator[LoadProgress]:
    """Estimates until `call` returns, or until `landed` does and the call has had its chance.

    Raises what the call raises, or ProviderTimeout. Closing the generator cancels both.
    """
    started = time.monotonic()
    limit = max(LOAD_SECONDS, 5 * estimates.seconds(model))
    request = asyncio.create_task(call)
    watch = asyncio.create_task(landed()) if landed is not None else None
    tasks: set[asyncio.Task[Any]] = {t for t in (request, watch) if t is not None}
    try:
        while True:
            elapsed = time.monotonic() - started
            if elapsed > limit:
                raise ProviderTimeout(f"The model was not loaded after {elapsed:.0f} seconds.")
            yield LoadProgress(fraction=estimates.fraction(model, elapsed=elapsed), exact=False)
            await asyncio.wait(tasks, timeout=EMIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                request.result()
                return
            if watch in tasks and watch.done():
                if watch.exception() is None:
                    await asyncio.wait({request}, timeout=REST_SECONDS)
                    return
                tasks.discard(watch)  # the list cannot be read now: the request decides
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
