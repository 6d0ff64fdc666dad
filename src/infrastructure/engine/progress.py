"""How far a load is, from 0 to 1, put together from what its process says and what the kernel sees.

llama.cpp's own figure comes at most five times a second; between, on Linux, the bytes the process
has read (or mapped) against the size of the file tell the same, so that a load of half a second
still moves.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

STARTING: Final = "starting"
READING: Final = "reading weights"
WARMING: Final = "warming up"
READY: Final = "ready"

_SPAWNED: Final = 0.01
_STARTED: Final = 0.03
_WEIGHTS_FROM: Final = 0.05
_WEIGHTS_TO: Final = 0.9
_WARMING: Final = 0.92
_STEP: Final = 0.004

OnProgress = Callable[[float, str], None]


class Progress:
    """Only ever rises; reports each step to `on_progress`."""

    def __init__(self, on_progress: OnProgress, *, file_bytes: int, mapped: bool) -> None:
        self._on_progress = on_progress
        self._file_bytes = max(1, file_bytes)
        self._mapped = mapped
        self._base: int | None = None
        self._fraction = 0.0

    def spawned(self) -> None:
        self._report(_SPAWNED, STARTING)

    def started(self) -> None:
        self._report(_STARTED, STARTING)

    def reading(self, already_read: int | None) -> None:
        """The library is up; from here on what the process reads is the model."""
        self._base = already_read
        self._report(_WEIGHTS_FROM, READING)

    def weights(self, fraction: float) -> None:
        """llama.cpp's own word on the weights."""
        if fraction >= 1:
            self._report(_WEIGHTS_TO, READING)
            self._report(_WARMING, WARMING)
        else:
            self._report(_WEIGHTS_FROM + fraction * (_WEIGHTS_TO - _WEIGHTS_FROM), READING)

    def sample(self, pid: int) -> None:
        """Look at the process from outside."""
        if self._base is None or self._fraction >= _WEIGHTS_TO:
            return
        if self._mapped:
            # With mapped files llama.cpp's figure jumps from 0 to 1; the pages really in tell.
            have = _proc_number(pid, "status", "RssFile:", 1024)
        else:
            have = _proc_number(pid, "io", "rchar:")
            have = None if have is None else have - self._base
        if have is not None:
            # Never the end by itself: that is llama.cpp's to say.
            self.weights(min(0.99, max(0.0, have / self._file_bytes)))

    def ready(self) -> None:
        self._report(1.0, READY)

    def _report(self, fraction: float, stage: str) -> None:
        if fraction >= self._fraction + _STEP or (fraction == 1.0 and self._fraction < 1.0):
            self._fraction = fraction
            self._on_progress(round(fraction, 4), stage)


def _proc_number(pid: int, file: str, label: str, unit: int = 1) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(label))
    found = next(values, None)
    return None if found is None else int(found) * unit
