"""How fast an answer was, whenever and in whatever pieces its tokens were read."""

from typing import Any

import pytest

from core import answer as module
from core.answer import Answer
from core.chat import Answered, MessageDelta, ReasoningDelta, WasThinking
from core.chats import Message, TurnStats
from core.jobs import Job
from core.models import ModelInfo

pytestmark = pytest.mark.anyio

MODEL = ModelInfo(id="m", name="m", provider="lm", kind="llm")


class Clock:
    """Time that moves when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def stats_of(
    clock: Clock, *reads: tuple[float, int], thinks: bool = False, **said: Any
) -> TurnStats:
    """Of an answer that is read so many seconds after the read before, so many tokens at once."""
    message = Message(id="a", chat_id="c", role="assistant", content="", created_at=1.0)
    answer, job = Answer(message, MODEL), Job("turn")
    for seconds, tokens in reads:
        clock.now += seconds
        for _ in range(tokens):
            answer.take(ReasoningDelta("x") if thinks else MessageDelta("x"), job)
            clock.now += 1e-5
    count = sum(tokens for _, tokens in reads)
    answer.take(Answered("length", "m", 10, count, raw_stats=said or None), job)
    answer.end("done", "length")
    assert answer.message.stats
    return answer.message.stats


async def test_the_speed_is_that_of_the_tokens_behind_the_first(clock: Clock) -> None:
    stats = stats_of(clock, (2.0, 1), *[(0.01, 1)] * 100)

    assert stats.tokens_per_second == pytest.approx(100, rel=0.01)
    assert stats.time_to_first_token_seconds == pytest.approx(2)


@pytest.mark.parametrize("thinks", [False, True])
async def test_what_a_late_reader_finds_at_once_does_not_make_an_answer_faster(
    clock: Clock, thinks: bool
) -> None:
    stats = stats_of(clock, (0.4, 40), *[(0.01, 1)] * 20, thinks=thinks)

    assert stats.tokens_per_second == pytest.approx(100, rel=0.01)


async def test_a_pause_of_the_reader_in_the_middle_changes_nothing(clock: Clock) -> None:
    stats = stats_of(clock, (0.1, 1), *[(0.01, 1)] * 20, (0.4, 40), *[(0.01, 1)] * 20)

    assert stats.tokens_per_second == pytest.approx(100, rel=0.01)


async def test_an_answer_in_one_piece_has_no_speed_but_what_its_server_says(clock: Clock) -> None:
    alone = stats_of(clock, (0.5, 60))
    timed = stats_of(clock, (0.5, 60), timings={"predicted_per_second": 121.234})
    counted = stats_of(clock, (0.5, 60), stats={"tokens_per_second": 51.43})
    empty = stats_of(clock, (0.5, 60), stats={}, timings={"predicted_per_second": 0})

    assert (alone.tokens_per_second, empty.tokens_per_second) == (None, None)
    assert (timed.tokens_per_second, counted.tokens_per_second) == (121.23, 51.43)
    assert alone.output_tokens == 60


async def test_an_answer_that_turns_out_to_be_thinking_is_kept_as_that(clock: Clock) -> None:
    message = Message(id="a", chat_id="c", role="assistant", content="", created_at=1.0)
    answer, job = Answer(message, MODEL), Job("turn")
    for event in (
        MessageDelta("Okay, "),
        MessageDelta("42."),
        WasThinking(),
        MessageDelta("It is 42."),
    ):
        clock.now += 1.0
        answer.take(event, job)
    answer.take(Answered("stop", "m", 10, 3), job)
    answer.end("done", "stop")

    assert (answer.message.reasoning, answer.message.content) == ("Okay, 42.", "It is 42.")
    assert answer.message.stats
    assert answer.message.stats.reasoning_seconds == pytest.approx(3)
    told = [event.type for event in job.log.read(0)]
    assert told == ["message.delta", "message.was_thinking", "message.delta"]
