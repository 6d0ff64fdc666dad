"""How fast models read and write here: one measurement, and what several of them say together."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, Literal

from core.chats import TurnStats
from core.models import LoadRecord
from core.value import Value

SpeedSource = Literal["answer", "benchmark"]

# Fewer tokens than these say more of the server's habits than of its speed.
ENOUGH_READ = 48
ENOUGH_WRITTEN = 16
# The middle of so many newest measurements counts: an update of the server shows within a day.
COUNTED = 15
# Points of a small chart.
SHOWN = 24


class SpeedRecord(Value):
    """One measurement. What it says nothing about is None."""

    model_id: str
    """Full name."""
    context_length: int | None = None
    """Of the instance that answered."""
    prompt_tokens: int | None = None
    """Tokens that were really read, not taken from a cache."""
    prompt_tokens_per_second: float | None = None
    output_tokens: int | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    source: SpeedSource = "answer"
    at: float
    """Unix seconds; all rows of one benchmark have the same."""

    @property
    def telling(self) -> bool:
        """Whether it says anything at all about speed."""
        return self.prompt_tokens_per_second is not None or self.tokens_per_second is not None


class Speed(Value):
    """What to expect of a model on this machine. None is "not known"."""

    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    load_seconds: float | None = None
    samples: int = 0
    """Measurements of reading and writing; loads are not counted."""


class BenchmarkFigures(Value):
    """The last benchmark. Tokens a second; None where the context or the model was too small."""

    prompt_512: float | None = None
    prompt_2048: float | None = None
    writing_128: float | None = None
    at: float


class LearnedModel(Value):
    """What this machine learned of one model with one context. Histories are oldest first."""

    model_id: str
    """Full name."""
    context_length: int | None
    load_seconds: float | None = None
    loads: int = 0
    memory_bytes: int | None = None
    """What it took in GPUs or RAM when it was loaded."""
    prompt_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    first_token_seconds: float | None = None
    answers: int = 0
    benchmark: BenchmarkFigures | None = None
    load_history: tuple[float, ...] = ()
    memory_history: tuple[int, ...] = ()
    prompt_history: tuple[float, ...] = ()
    writing_history: tuple[float, ...] = ()
    last_at: float
    """When anything was measured last, Unix seconds."""


def measured(
    model_id: str,
    context_length: int | None,
    stats: TurnStats,
    timings: Mapping[str, Any] | None,
    at: float,
) -> SpeedRecord:
    """What an answer says about speed.

    How fast a prompt was read only the server can tell (llama.cpp's `timings`): most of a
    conversation is in its cache, and the time to the first token says nothing.
    """
    read, pace = _read(timings or {})
    written = stats.output_tokens
    enough = written is not None and written >= ENOUGH_WRITTEN
    return SpeedRecord(
        model_id=model_id,
        context_length=context_length,
        prompt_tokens=read,
        prompt_tokens_per_second=pace,
        output_tokens=written,
        tokens_per_second=stats.tokens_per_second if enough else None,
        first_token_seconds=stats.time_to_first_token_seconds,
        at=at,
    )


def _read(timings: Mapping[str, Any]) -> tuple[int | None, float | None]:
    read, pace = timings.get("prompt_n"), timings.get("prompt_per_second")
    if not isinstance(read, int) or not isinstance(pace, int | float) or pace <= 0:
        return None, None
    return read, round(float(pace), 2) if read >= ENOUGH_READ else None


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are known."""
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def expected(speeds: list[SpeedRecord], loads: list[LoadRecord]) -> Speed:
    """The middle of the newest ones. Both lists are oldest first."""
    return Speed(
        prompt_tokens_per_second=middle(_newest(s.prompt_tokens_per_second for s in speeds)),
        tokens_per_second=middle(_newest(s.tokens_per_second for s in speeds)),
        first_token_seconds=middle(
            _newest(s.first_token_seconds for s in speeds if s.source == "answer")
        ),
        load_seconds=middle(_newest(load.seconds for load in loads)),
        samples=len(speeds),
    )


def learned_model(
    model_id: str,
    context_length: int | None,
    speeds: list[SpeedRecord],
    loads: list[LoadRecord],
) -> LearnedModel:
    """A row of the table. Both lists are oldest first and one of them is not empty."""
    speed = expected(speeds, loads)
    memory = [load.total_bytes for load in loads if load.measured]
    taken = middle(memory)
    return LearnedModel(
        model_id=model_id,
        context_length=context_length,
        load_seconds=speed.load_seconds,
        loads=len(loads),
        memory_bytes=int(taken) if taken is not None else None,
        prompt_tokens_per_second=speed.prompt_tokens_per_second,
        tokens_per_second=speed.tokens_per_second,
        first_token_seconds=speed.first_token_seconds,
        answers=sum(each.source == "answer" for each in speeds),
        benchmark=_last_benchmark(speeds),
        load_history=tuple(load.seconds for load in loads[-SHOWN:]),
        memory_history=tuple(memory[-SHOWN:]),
        prompt_history=_known(speed.prompt_tokens_per_second for speed in speeds),
        writing_history=_known(speed.tokens_per_second for speed in speeds),
        last_at=max([*(each.at for each in speeds), *(each.at for each in loads)]),
    )


def _last_benchmark(speeds: list[SpeedRecord]) -> BenchmarkFigures | None:
    ours = [each for each in speeds if each.source == "benchmark"]
    if not ours:
        return None
    last = [each for each in ours if each.at == ours[-1].at]
    reading = sorted(
        (each.prompt_tokens or 0, each.prompt_tokens_per_second)
        for each in last
        if each.prompt_tokens_per_second is not None
    )
    writing = [each.tokens_per_second for each in last if each.tokens_per_second is not None]
    small = [pace for tokens, pace in reading if tokens < 1024]
    large = [pace for tokens, pace in reading if tokens >= 1024]
    return BenchmarkFigures(
        prompt_512=small[-1] if small else None,
        prompt_2048=large[-1] if large else None,
        writing_128=writing[-1] if writing else None,
        at=ours[-1].at,
    )


def _newest(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None][-COUNTED:]


def _known(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple([value for value in values if value is not None][-SHOWN:])
