"""The way to a provider: who waits, who is let through, and when it is left alone."""

import asyncio

import pytest

from core.breaker import FAILURES, FIRST_REST_SECONDS, Breaker
from core.errors import (
    ContextTooLong,
    DeskError,
    ProviderBusy,
    ProviderFailed,
    ProviderNeedsToken,
    ProviderResting,
    ProviderUnreachable,
)
from core.gate import Gate
from core.line import Line
from core.providers import ProviderConfig, is_remote
from core.retries import retried, wait_before, worth_retrying

pytestmark = pytest.mark.anyio

GONE = ProviderUnreachable("gone")


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def broken(clock: Clock) -> Breaker:
    breaker = Breaker("work", clock=clock)
    for _ in range(FAILURES):
        breaker.enter()
        breaker.failed(GONE)
    return breaker


def gate(**facts: object) -> Gate:
    return Gate(ProviderConfig(name="work", kind="openai", base_url="http://x", **facts))


async def pass_through(way: Gate, error: BaseException, *, answered: bool = False) -> None:
    async with way.passage() as passage:
        if answered:
            passage.first_byte()
        raise error


def test_failures_in_a_row_open_it_and_the_sentence_says_when_it_is_tried_again() -> None:
    breaker = broken(Clock())

    assert breaker.state == "open"
    with pytest.raises(ProviderResting, match="work failed 3 times in a row") as caught:
        breaker.enter()
    assert "in 2 s" in caught.value.hint


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker("work")
    for _ in range(FAILURES):
        breaker.failed(GONE)
        breaker.succeeded()

    assert breaker.state == "closed"


@pytest.mark.parametrize("refusal", [ContextTooLong("x"), ProviderNeedsToken("x")])
def test_a_refusal_says_that_the_provider_works(refusal: DeskError) -> None:
    breaker = Breaker("work")
    for _ in range(FAILURES * 2):
        breaker.failed(refusal)

    assert breaker.state == "closed"


def test_half_open_lets_one_request_try_and_its_first_byte_closes_it() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += FIRST_REST_SECONDS

    assert breaker.state == "half_open"
    breaker.enter()
    with pytest.raises(ProviderResting):
        breaker.enter()
    breaker.succeeded()
    assert breaker.state == "closed"


def test_a_failed_try_makes_the_rest_longer() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += FIRST_REST_SECONDS
    breaker.enter()
    breaker.failed(ProviderFailed("500"))
    clock.now += FIRST_REST_SECONDS

    assert breaker.state == "open"
    clock.now += FIRST_REST_SECONDS
    assert breaker.state == "half_open"


def test_a_try_that_was_given_up_leaves_the_way_free_for_another() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.now += FIRST_REST_SECONDS
    breaker.enter()
    breaker.abandoned()

    breaker.enter()


def test_who_sees_the_provider_in_order_ends_its_rest() -> None:
    breaker = broken(Clock())
    breaker.seen_well()

    breaker.enter()


async def test_the_line_lets_in_so_many_and_tells_the_others_their_place() -> None:
    line = Line("work", parallel=1)
    places: dict[str, list[int]] = {"b": [], "c": []}
    order: list[str] = []

    async def wait(name: str) -> None:
        async with line.turn(places[name].append):
            order.append(name)

    async with line.turn():
        second = asyncio.create_task(wait("b"))
        await asyncio.sleep(0)
        third = asyncio.create_task(wait("c"))
        await asyncio.sleep(0)
        assert (line.inside, line.waiting) == (1, 2)
    await asyncio.gather(second, third)

    assert places == {"b": [1, 1], "c": [2, 1]}
    assert order == ["b", "c"]
    assert (line.inside, line.waiting) == (0, 0)


async def test_who_gives_up_in_the_line_makes_room() -> None:
    line = Line("work", parallel=1)
    places: list[int] = []

    async def wait(told: list[int]) -> None:
        async with line.turn(told.append):
            pass

    async with line.turn():
        first = asyncio.create_task(wait([]))
        await asyncio.sleep(0)
        second = asyncio.create_task(wait(places))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert places == [2, 1]
    await second
    assert line.inside == 0


async def test_a_full_line_says_so_at_once() -> None:
    line = Line("work", parallel=1, bound=0)
    async with line.turn():
        with pytest.raises(ProviderBusy, match="work is busy") as caught:
            await line.turn().__aenter__()

    assert caught.value.extra() == {"retry_after": 5.0}


async def test_a_failure_behind_the_first_byte_does_not_count_against_the_provider() -> None:
    way = gate()
    for _ in range(FAILURES * 2):
        with pytest.raises(ProviderUnreachable):
            await pass_through(way, GONE, answered=True)

    assert way.breaker.state == "closed"


async def test_requests_that_are_given_up_do_not_count_either() -> None:
    way = gate()
    for _ in range(FAILURES * 2):
        with pytest.raises(asyncio.CancelledError):
            await pass_through(way, asyncio.CancelledError())

    assert way.breaker.state == "closed"


async def test_the_gate_closes_behind_failures_without_an_answer() -> None:
    way = gate(parallel=2)
    for _ in range(FAILURES):
        with pytest.raises(ProviderUnreachable):
            await pass_through(way, GONE)

    with pytest.raises(ProviderResting):
        await pass_through(way, AssertionError("it was let through"))
    assert way.line.inside == 0


async def test_what_may_be_repeated_is_repeated_so_often_and_no_more() -> None:
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise GONE
        return "there"

    assert await retried(call, attempts=2) == "there"
    calls = 0
    with pytest.raises(ProviderUnreachable):
        await retried(call, attempts=1)
    assert calls == 2


def test_what_a_second_try_cannot_mend_is_not_tried_again() -> None:
    assert worth_retrying(GONE)
    assert worth_retrying(ProviderFailed("500"))
    assert not worth_retrying(ProviderNeedsToken("401"))
    assert worth_retrying(ProviderBusy("429", retry_after=1.0))
    assert not worth_retrying(ProviderBusy("429", retry_after=600.0))


def test_waits_grow_and_differ_from_caller_to_caller() -> None:
    first = [wait_before(1, GONE) for _ in range(50)]
    fourth = [wait_before(4, GONE) for _ in range(50)]

    assert len(set(first)) > 40
    assert max(first) <= 0.2
    assert max(fourth) <= 1.6
    assert wait_before(1, ProviderBusy("429", retry_after=3.0)) == 3.0


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("http://127.0.0.1:1234", False),
        ("http://localhost:1234", False),
        ("http://192.168.1.7:1234", False),
        ("http://gpu-box:8000", False),
        ("http://gpu.local:8000", False),
        ("http://[::1]:8000", False),
        ("https://api.openai.com", True),
        ("http://8.8.8.8:80", True),
    ],
)
def test_somebody_elses_computer_is_told_by_its_address(url: str, remote: bool) -> None:
    assert is_remote("openai", url) is remote
    assert is_remote("huggingface", url) is True
