"""Learned: which measurements count, what several of them say, and what a start brings back."""

import pytest

from core.chats import TurnStats
from core.errors import StorageError
from core.learned import KEPT_SPEEDS, Learned
from core.models import LoadRecord
from core.speeds import SpeedRecord

pytestmark = pytest.mark.anyio

LONG = TurnStats(output_tokens=100, tokens_per_second=40.0, time_to_first_token_seconds=0.2)


class FakeSpeeds:
    """Speeds in a list."""

    def __init__(self) -> None:
        self.records: list[SpeedRecord] = []
        self.broken = False

    async def add_speeds(self, records: list[SpeedRecord]) -> None:
        if self.broken:
            raise StorageError("The disk is full.")
        self.records += records

    async def newest_speeds(self, limit: int) -> list[SpeedRecord]:
        if self.broken:
            raise StorageError("The disk is full.")
        return self.records[::-1][:limit]


class FakeLoads:
    """Loads in a list."""

    def __init__(self, *records: LoadRecord) -> None:
        self.records = list(records)

    async def newest_loads(self, limit: int) -> list[LoadRecord]:
        return self.records[::-1][:limit]


def learned_with(*loads: LoadRecord) -> tuple[Learned, FakeSpeeds]:
    speeds = FakeSpeeds()
    return Learned(speeds, FakeLoads(*loads)), speeds  # type: ignore[arg-type]


def load(seconds: float, *, context: int | None = 4096, ram: int | None = None) -> LoadRecord:
    return LoadRecord(
        model_id="lm:m", context_length=context, seconds=seconds, ram_bytes=ram, at=seconds
    )


def wrote(pace: float, *, at: float = 1.0, context: int | None = 4096) -> SpeedRecord:
    return SpeedRecord(
        model_id="lm:m", context_length=context, output_tokens=50, tokens_per_second=pace, at=at
    )


async def test_nothing_is_known_of_a_model_that_nobody_used() -> None:
    learned, _ = learned_with()

    assert learned.speed_of("lm:m") is None
    assert learned.table() == ()


async def test_an_answer_is_remembered_and_written_down() -> None:
    learned, speeds = learned_with()
    learned.answered("lm:m", 4096, LONG, {"prompt_n": 300, "prompt_per_second": 900.0})
    await learned.settled()
    speed = learned.speed_of("lm:m")

    assert speed is not None
    assert (speed.tokens_per_second, speed.prompt_tokens_per_second) == (40.0, 900.0)
    assert (speed.first_token_seconds, speed.samples) == (0.2, 1)
    assert speeds.records[0].prompt_tokens == 300


async def test_a_few_tokens_say_nothing_about_speed() -> None:
    learned, speeds = learned_with()
    short = LONG.model_copy(update={"output_tokens": 7})
    learned.answered("lm:m", 4096, short, {"prompt_n": 12, "prompt_per_second": 5000.0})
    learned.answered("lm:m", 4096, None)
    learned.answered("lm:m", 4096, TurnStats(output_tokens=100))
    await learned.settled()

    assert learned.speed_of("lm:m") is None
    assert speeds.records == []


async def test_the_time_to_the_first_token_is_not_taken_for_reading_speed() -> None:
    learned, _ = learned_with()
    learned.answered("lm:m", 4096, LONG.model_copy(update={"input_tokens": 4000}))
    speed = learned.speed_of("lm:m")
    await learned.settled()

    assert speed is not None
    assert speed.prompt_tokens_per_second is None


async def test_one_disturbed_measurement_does_not_move_the_middle() -> None:
    learned, _ = learned_with()
    learned.note([wrote(40), wrote(41), wrote(2), wrote(42)])
    await learned.settled()
    speed = learned.speed_of("lm:m")

    assert speed is not None
    assert speed.tokens_per_second == 40.5


async def test_only_the_newest_measurements_count_and_few_are_kept() -> None:
    learned, _ = learned_with()
    learned.note([wrote(10, at=n) for n in range(200)])
    learned.note([wrote(80, at=200 + n) for n in range(20)])
    await learned.settled()
    speed = learned.speed_of("lm:m")

    assert speed is not None
    assert (speed.tokens_per_second, speed.samples) == (80, KEPT_SPEEDS)


async def test_the_same_context_counts_first_and_others_fill_the_gaps() -> None:
    learned, _ = learned_with(load(3.0, context=8192))
    await learned.open()
    learned.note([wrote(50, context=4096), wrote(20, context=8192)])
    small, large, other = (learned.speed_of("lm:m", context) for context in (4096, 8192, 2048))
    await learned.settled()

    assert small is not None
    assert large is not None
    assert other is not None
    assert (small.tokens_per_second, small.load_seconds) == (50, 3.0)
    assert large.tokens_per_second == 20
    assert other.tokens_per_second == 35


async def test_what_was_learned_comes_back_with_a_start() -> None:
    first, speeds = learned_with()
    first.note([wrote(40), wrote(44, at=2)])
    await first.settled()
    second = Learned(speeds, FakeLoads(load(2.0, ram=100), load(4.0, ram=300)))  # type: ignore[arg-type]
    await second.open()
    (row,) = second.table()

    assert row.writing_history == (40, 44)
    assert (row.load_seconds, row.load_history, row.loads) == (3.0, (2.0, 4.0), 2)
    assert (row.memory_bytes, row.memory_history) == (200, (100, 300))
    assert row.last_at == 4.0


async def test_a_full_disk_costs_the_memory_of_it_and_nothing_else() -> None:
    learned, speeds = learned_with()
    speeds.broken = True
    await learned.open()
    learned.note([wrote(40)])
    await learned.aclose()

    assert learned.speed_of("lm:m") is not None


async def test_the_table_tells_the_last_benchmark_apart_and_can_be_asked_for_some_models() -> None:
    learned, _ = learned_with()
    rows = [
        SpeedRecord(
            model_id="lm:m", context_length=4096, prompt_tokens=tokens, at=at, source="benchmark",
            prompt_tokens_per_second=pace, tokens_per_second=None,
        )
        for at, tokens, pace in ((5.0, 512, 1.0), (9.0, 520, 800.0), (9.0, 2031, 950.0))
    ]  # fmt: skip
    writing = wrote(33, at=9.0).model_copy(update={"source": "benchmark"})
    learned.note([*rows, writing, wrote(30, at=10.0)])
    learned.note([wrote(7, at=11).model_copy(update={"model_id": "lm:other"})])
    await learned.settled()
    (row,) = learned.table(["lm:m"])

    assert [each.model_id for each in learned.table()] == ["lm:other", "lm:m"]
    assert row.benchmark is not None
    assert row.benchmark.model_dump() == {
        "prompt_512": 800.0, "prompt_2048": 950.0, "writing_128": 33.0, "at": 9.0,
    }  # fmt: skip
    assert row.answers == 1
