"""Waits only so long for a call into foreign code that may hang."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Patient(Generic[T]):
    """Calls `read` in a thread of its own, one call at a time.

    The thread is a daemon, so a call that never returns does not keep the program from ending.
    """

    def __init__(self, read: Callable[[], T], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._call: _Call[T] | None = None
        self._last: _Call[T] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call has not returned yet."""
        return self._call is not None and not self._call.ended.is_set()

    def __call__(self) -> T | None:
        """What `read` returns, or lately returned; None when it has been silent for too long.

        Waits `seconds`, and not at all while an earlier call is still out. An answer stands in for
        a missing one until it is three times `seconds` old.
        """
        if self._call is None or self._call.ended.is_set():
            self._last = self._call
            self._call = _Call(self._read)
            self._call.start()
            self._call.ended.wait(self._seconds)
        if self._call.ended.is_set():
            return self._call.answer
        if self._last and time.monotonic() - self._last.ended_at < 3 * self._seconds:
            return self._last.answer
        return None


class _Call(threading.Thread, Generic[T]):
    def __init__(self, read: Callable[[], T]) -> None:
        super().__init__(name="lmdesk-gpu", daemon=True)
        self._ask = read
        self.answer: T | None = None
        self.ended = threading.Event()
        self.ended_at = 0.0

    def run(self) -> None:
        try:
            self.answer = self._ask()
        finally:
            self.ended_at = time.monotonic()
            self.ended.set()
