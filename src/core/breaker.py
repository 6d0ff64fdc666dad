"""Breaker: leaves a provider alone for a while that failed several times in a row."""

import time
from collections.abc import Callable
from typing import Literal

from core.errors import (
    DeskError,
    ProviderFailed,
    ProviderProtocolError,
    ProviderResting,
    ProviderTimeout,
    ProviderUnreachable,
)

BreakerState = Literal["closed", "open", "half_open"]

FAILURES = 3
FIRST_REST_SECONDS = 2.0
LONGEST_REST_SECONDS = 60.0
# What says that the other side is broken. That a request was refused says that it works.
BROKEN = (ProviderUnreachable, ProviderTimeout, ProviderFailed, ProviderProtocolError)


class Breaker:
    """Closed: everything passes. Open: nothing does. Half open: one request tries it."""

    def __init__(self, provider: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._failures = 0
        self._rest = FIRST_REST_SECONDS
        self._until: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    def check(self) -> None:
        """Raises ProviderResting while nothing may pass."""
        if self._until is None or (self.state == "half_open" and not self._probing):
            return
        left = max(0.0, self._until - self._clock())
        when = f"in {left:.0f} s" if left >= 1 else "as soon as the attempt under way has ended"
        raise ProviderResting(
            f"{self._provider} failed {self._failures} times in a row and is left alone for now.",
            hint=f"It is tried again {when}. Use another model meanwhile.",
        )

    def enter(self) -> None:
        """A request passes; while half open it is the one that tries. Raises ProviderResting."""
        self.check()
        self._probing = self._until is not None

    def succeeded(self) -> None:
        """The provider answered: its first byte is enough."""
        self._failures = 0
        self._rest = FIRST_REST_SECONDS
        self._until = None
        self._probing = False

    def failed(self, error: DeskError) -> None:
        """A request ended with this before anything came of it."""
        if isinstance(error, ProviderResting):
            return
        if not isinstance(error, BROKEN):
            self.succeeded()
            return
        self._failures += 1
        probed, self._probing = self._probing, False
        if probed:
            self._rest = min(LONGEST_REST_SECONDS, self._rest * 2)
        if probed or self._failures >= FAILURES:
            self._until = self._clock() + self._rest

    def abandoned(self) -> None:
        """A request was given up by us: it says nothing about the provider."""
        self._probing = False

    def seen_well(self) -> None:
        """Somebody else found the provider in order: the next request may try it."""
        if self._until is not None:
            self._until = self._clock()
