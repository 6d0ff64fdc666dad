"""Counters turned into rates: what changed since the last look."""

from collections.abc import Callable

import psutil


class Rate:
    """Growth per second of a counter."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[float, float] | None = None

    def of(self, value: float | None) -> float | None:
        """Per second since the last call; None when unknown, or when no time has passed."""
        now, last = self._clock(), self._last
        self._last = None if value is None else (now, value)
        if value is None or last is None or now <= last[0]:
            return None
        # A counter that fell was reset: a disk or network card went away.
        return max(0.0, value - last[1]) / (now - last[0])


class CpuShare:
    """How busy all processors were.

    psutil's own `cpu_percent` remembers the last look for each thread, and samples are taken in
    whatever thread is free.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._percent = 0.0

    def percent(self) -> float:
        """0 to 100 since the last call; the last figure again when too little time has passed."""
        try:
            times = psutil.cpu_times()
        except (OSError, psutil.Error, RuntimeError):
            return self._percent
        seconds = times._asdict()
        # Linux counts guests' time a second time, as user time.
        total = sum(times) - seconds.get("guest", 0.0) - seconds.get("guest_nice", 0.0)
        idle = seconds["idle"] + seconds.get("iowait", 0.0)
        last, self._last = self._last, (total, idle)
        if last is not None and total > last[0]:
            busy = 1 - (idle - last[1]) / (total - last[0])
            self._percent = round(100 * min(max(busy, 0.0), 1.0), 1)
        return self._percent
