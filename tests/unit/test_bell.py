"""The bell: rings wake the one who waits, silence does too, and no ring is mistaken for silence."""

import asyncio

import pytest

from core.bell import Bell

pytestmark = pytest.mark.anyio

# Far beyond any test, so that only a ring can end the wait.
NEVER = 600.0


async def test_a_ring_ends_the_wait() -> None:
    bell = Bell(NEVER)
    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.ring()

    assert await waiting is True
    bell.close()


async def test_silence_ends_the_wait_again_and_again() -> None:
    bell = Bell(0.01)

    assert [await bell.wait() for _ in range(3)] == [False, False, False]
    bell.close()


async def test_rings_push_the_end_of_the_silence_away() -> None:
    bell = Bell(0.05)
    loop = asyncio.get_running_loop()
    started = loop.time()
    # Rung at once each time, for longer than a silence: its timer goes off in between.
    while loop.time() - started < 0.1:
        loop.call_soon(bell.ring)
        assert await bell.wait() is True
        await asyncio.sleep(0.001)
    last = loop.time()

    assert await bell.wait() is False
    assert loop.time() - last > 0.04
    bell.close()


async def test_a_ring_that_nobody_waits_for_is_not_kept() -> None:
    bell = Bell(0.01)
    bell.ring()

    assert await bell.wait() is False
    bell.close()


async def test_a_wait_may_be_given_up_and_the_bell_still_rings() -> None:
    bell = Bell(NEVER)
    given_up = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    bell.ring()

    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.ring()
    assert await waiting is True
    bell.close()
