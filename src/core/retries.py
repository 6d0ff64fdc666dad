"""Retries: what is safe to repeat is tried again, after a moment that no two callers share."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.errors import (
    DeskError,
    ProviderBusy,
    ProviderFailed,
    ProviderResting,
    ProviderUnreachable,
)

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 2.0
# A provider that asks for more patience than this is better replaced than waited for.
LONGEST_ASKED_SECONDS = 5.0

T = TypeVar("T")


def worth_retrying(error: DeskError) -> bool:
    """Whether the same request may well succeed a moment later.

    A timeout is not: the server may still be at it, and would do the work twice.
    """
    if isinstance(error, ProviderBusy):
        return error.retry_after is not None and error.retry_after <= LONGEST_ASKED_SECONDS
    if isinstance(error, ProviderResting):
        return False
    return isinstance(error, ProviderUnreachable | ProviderFailed)


def wait_before(attempt: int, error: DeskError) -> float:
    """Seconds before attempt number `attempt` (the first repetition is 1): up to twice as long
    each time, and any part of it, so that callers who failed together do not come back together."""
    if isinstance(error, ProviderBusy) and error.retry_after is not None:
        return error.retry_after
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
    return random.uniform(longest / 4, longest)


async def retried(call: Callable[[], Awaitable[T]], *, attempts: int) -> T:
    """What the call gives, repeated up to `attempts` times after failures worth it.

    Only for calls that may be made twice. Raises the last failure.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await call()
        except DeskError as error:
            if not worth_retrying(error):
                raise
            await asyncio.sleep(wait_before(attempt, error))
    return await call()
