"""Comparisons in words: what each column does, its figures, and whether they can be compared."""

from collections.abc import Callable
from typing import Any, NamedTuple

from app import wording
from core.chats import TurnStats
from core.comparisons import Column, ColumnNow, ComparisonInfo, Round

STATES = {
    "waiting": "Waiting",
    "writing": "Answering",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "gone": "Its chat was deleted",
}

NOT_ASKED = {
    "stopped": "Not asked: it was stopped before its turn.",
    "interrupted": "Not asked: LM Desk stopped before its turn.",
}
# Of one sample each, less than this share apart says nothing.
CLOSE = 0.05


class Row(NamedTuple):
    """A line of the figures."""

    label: str
    words: Callable[[TurnStats], str | None]
    value: Callable[[TurnStats], float | None]
    """What is best is the largest of these; None where no value is better than another."""


ROWS = (
    Row("Speed", lambda s: _speed(s.tokens_per_second), lambda s: s.tokens_per_second),
    Row(
        "First token",
        lambda s: _seconds(s.time_to_first_token_seconds),
        lambda s: _less(s.time_to_first_token_seconds),
    ),
    Row("Tokens", lambda s: _tokens(s), lambda s: None),
    Row("Load", lambda s: _load(s), lambda s: None),
)


def name_of(column: Column, now: ColumnNow) -> str:
    """The model of a column, as short as it goes."""
    if now.model is not None:
        return wording.answered_by(now.model)
    if column.model_id is None:
        return "Usual model"
    if column.model_id == "auto":
        return "Auto"
    return wording.short_model(column.model_id.partition(":")[2] or column.model_id)


def names(info: ComparisonInfo) -> dict[int, str]:
    """The model of every column."""
    pairs = zip(info.columns, info.now, strict=True)
    return {now.column: name_of(column, now) for column, now in pairs}


def told_apart(named: dict[int, str]) -> bool:
    """Whether the names alone say which column is meant."""
    return len(set(named.values())) == len(named)


def tab(number: int, named: dict[int, str]) -> str:
    """The name where it stands alone."""
    return named[number] if told_apart(named) else f"{named[number]} ({number})"


def waits(now: ColumnNow, named: dict[int, str]) -> str:
    """For whom a waiting column waits, or why it was never asked; empty for any other."""
    if now.state != "waiting":
        return NOT_ASKED.get(now.state, "") if now.message_id is None else ""
    if not now.waits_for:
        return "Waits its turn"
    if told_apart(named):
        return f"Waits for {joined([named[number] for number in now.waits_for])}"
    numbers = joined([str(number) for number in now.waits_for])
    return f"Waits for column{'' if len(now.waits_for) == 1 else 's'} {numbers}"


def joined(parts: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def room(now: ColumnNow) -> str:
    """Who made room for it; empty where nobody had to, or it failed and they were brought back."""
    if not now.made_room or now.state == "failed":
        return ""
    verb = "was" if len(now.made_room) == 1 else "were"
    return f"{joined(list(now.made_room))} {verb} taken out of memory for it."


def comparable(info: ComparisonInfo) -> bool:
    """Whether every answer on show was measured with no other column beside it."""
    rounds = [info.rounds[now.round] for now in info.now if now.round < len(info.rounds)]
    return all(each.order == "one_by_one" or len(each.parts) == 1 for each in rounds)


def note(info: ComparisonInfo, named: dict[int, str]) -> str:
    """In which order the figures were measured, or are being."""
    running = info.job_id is not None
    measured = [now for now in info.now if now.stats and now.stats.output_tokens]
    if not running and len(measured) < 2:
        return ""
    shown = {now.round for now in (info.now if running else measured)}
    if len(shown) > 1:
        words = "These answers were measured in different rounds"
        beside = "" if comparable(info) else ", some of them beside others"
        return f"{words}{beside}."
    return _order(info.rounds[shown.pop()], named, running=running)


def _order(measured: Round, named: dict[int, str], *, running: bool) -> str:
    if measured.order == "one_by_one":
        words = "One by one" if running else "Measured one by one"
        if told_apart(named):
            return f"{words}: {', then '.join(named[part.column] for part in measured.parts)}."
        return f"{words}, in the order {', '.join(str(part.column) for part in measured.parts)}."
    if running:
        return "All at once."
    return (
        "Measured at the same time. Models on one machine slow each other down,"
        " so these times cannot be compared."
    )


def figures(info: ComparisonInfo, now: ColumnNow) -> list[dict[str, Any]]:
    """The lines under a column, the same ones in each; the best value of a line is marked."""
    lines = []
    for row in ROWS:
        words = row.words(now.stats) if now.stats is not None else None
        best = words is not None and words == _best(info, row)
        lines.append({"label": row.label, "words": words or "–", "best": best})
    return lines


def _best(info: ComparisonInfo, row: Row) -> str | None:
    """The best of the line as it is written; None where nothing stands out, or can be compared."""
    if not comparable(info):
        return None
    done = [now.stats for now in info.now if now.state == "done" and now.stats is not None]
    told = [(value, row.words(each)) for each in done if (value := row.value(each)) is not None]
    if len(told) < 2:
        return None
    (best, words), (second, others) = sorted(told, reverse=True)[:2]
    return words if best - second > CLOSE * abs(best) and words != others else None


def _speed(rate: float | None) -> str | None:
    return None if rate is None else f"{wording.speed(rate)} tok/s"


def _seconds(count: float | None) -> str | None:
    return None if count is None else wording.duration(count)


def _less(value: float | None) -> float | None:
    return None if value is None else -value


def _load(stats: TurnStats) -> str | None:
    if stats.load_time_seconds:
        return wording.duration(stats.load_time_seconds)
    return None if stats.output_tokens is None else "in memory"


def _tokens(stats: TurnStats) -> str | None:
    if stats.output_tokens is None:
        return None
    read = "" if stats.input_tokens is None else f"{wording.DOT}{stats.input_tokens:,} read"
    return f"{stats.output_tokens:,}{read}"
