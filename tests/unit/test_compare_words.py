"""Comparisons in words: whom a column waits for, what was best, and when that may be said."""

from typing import Any

import pytest

from app.compare_ui import comparison_view
from core.chats import ModelTruth, Problem, TurnStats
from core.comparisons import (
    BadColumns,
    Column,
    ColumnNow,
    ComparisonInfo,
    Order,
    Part,
    Round,
    require_columns,
    title_of,
)

MODELS = ("qwen/qwen3-4b", "google/gemma-3", "mistral")


def told(
    *stats: TurnStats | None, order: Order = "one_by_one", models: tuple[str, ...] = MODELS
) -> ComparisonInfo:
    """A comparison of as many columns, each answered with these figures."""
    numbers = range(1, len(stats) + 1)
    return ComparisonInfo(
        id="c",
        title="Why?",
        columns=tuple(
            Column(number=n, chat_id=f"chat{n}", model_id=f"lmstudio:{models[n - 1]}")
            for n in numbers
        ),
        rounds=(
            Round(
                content="Why?",
                order=order,
                parts=tuple(Part(column=n, state="asked") for n in numbers),
                started_at=1.0,
            ),
        ),
        now=tuple(now(n, stats=figures, model=models[n - 1]) for n, figures in enumerate(stats, 1)),
        created_at=1.0,
        updated_at=1.0,
    )


def now(number: int, *, model: str, **known: Any) -> ColumnNow:
    truth = ModelTruth(asked=f"lmstudio:{model}")
    return ColumnNow(
        **{
            "column": number,
            "chat_id": f"chat{number}",
            "state": "done",
            "message_id": f"m{number}",
            "model": truth,
            **known,
        }
    )


def speed(rate: float, first: float, **more: Any) -> TurnStats:
    return TurnStats(
        tokens_per_second=rate, time_to_first_token_seconds=first, output_tokens=40, **more
    )


def best(view: dict[str, Any]) -> list[list[str]]:
    return [
        [line["label"] for line in column["figures"] if line["best"]] for column in view["columns"]
    ]


def test_the_best_of_a_line_is_marked_where_each_was_measured_alone() -> None:
    view = comparison_view(told(speed(50, 0.9), speed(20, 0.2)))

    assert best(view) == [["Speed"], ["First token"]]
    assert view["note"] == "Measured one by one: qwen3-4b, then gemma-3."
    lines = {line["label"]: line["words"] for line in view["columns"][0]["figures"]}
    assert lines == {
        "Speed": "50 tok/s",
        "First token": "0.90 s",
        "Tokens": "40",
        "Load": "in memory",
    }


def test_nothing_is_best_of_what_was_measured_at_the_same_time() -> None:
    view = comparison_view(told(speed(50, 0.9), speed(20, 0.2), order="together"))

    assert best(view) == [[], []]
    assert "cannot be compared" in view["note"]


def test_nothing_is_best_without_another_one_to_compare_it_with() -> None:
    assert best(comparison_view(told(speed(50, 0.9), None))) == [[], []]


def test_nothing_is_best_that_is_hardly_better() -> None:
    view = comparison_view(told(speed(50, 0.201), speed(20, 0.204)))

    assert best(view) == [["Speed"], []]


def test_answers_of_different_rounds_say_so() -> None:
    info = told(speed(50, 0.9), speed(20, 0.2))
    again = Round(
        content="Why?", again=True, order="together", parts=info.rounds[0].parts[:1], started_at=2.0
    )
    info = info.model_copy(
        update={
            "rounds": (*info.rounds, again),
            "now": (info.now[0].model_copy(update={"round": 1}), info.now[1]),
        }
    )
    view = comparison_view(info)

    assert view["note"] == "These answers were measured in different rounds."
    assert best(view) == [["Speed"], ["First token"]]  # a column alone has nobody beside it


def test_a_waiting_column_says_for_whom_and_shows_its_question() -> None:
    info = told(None, None, None)
    waits = {"state": "waiting", "question": "Why?", "message_id": None, "model": None}
    info = info.model_copy(
        update={
            "job_id": "j",
            "now": (
                info.now[0].model_copy(update={"state": "writing"}),
                info.now[1].model_copy(update={**waits, "waits_for": (1,)}),
                info.now[2].model_copy(update={**waits, "waits_for": (1, 2)}),
            ),
        }
    )
    columns = comparison_view(info)["columns"]

    assert [each["words"] for each in columns] == ["Answering", "Waiting", "Waiting"]
    assert [each["waits"] for each in columns] == [
        "",
        "Waits for qwen3-4b",
        "Waits for qwen3-4b and gemma-3",
    ]
    assert [each["question"] for each in columns] == [None, "Why?", "Why?"]


def test_nothing_measured_is_no_measurement() -> None:
    assert comparison_view(told(speed(50, 0.9), None))["note"] == ""


def test_a_column_that_was_never_asked_says_why() -> None:
    info = told(None, None)
    never = {"state": "interrupted", "message_id": None, "model": None}
    info = info.model_copy(update={"now": (info.now[0], info.now[1].model_copy(update=never))})

    assert "LM Desk stopped" in comparison_view(info)["columns"][1]["waits"]


def test_two_columns_of_one_model_are_told_apart_by_their_numbers() -> None:
    info = told(speed(9, 1), speed(8, 1), models=("phi", "phi"))
    view = comparison_view(info)

    assert [each["name"] for each in view["columns"]] == ["phi", "phi"]
    assert [each["tab"] for each in view["columns"]] == ["phi (1)", "phi (2)"]
    assert view["note"] == "Measured one by one, in the order 1, 2."

    waits = {"state": "waiting", "message_id": None, "model": None, "waits_for": (1,)}
    info = info.model_copy(update={"now": (info.now[0], info.now[1].model_copy(update=waits))})
    assert comparison_view(info)["columns"][1]["waits"] == "Waits for column 1"


def test_who_made_room_and_what_went_wrong_is_said() -> None:
    info = told(None, None)
    problem = Problem(code="not_enough_memory", message="It does not fit.", hint="Unload one.")
    info = info.model_copy(
        update={
            "now": (
                info.now[0].model_copy(update={"made_room": ("Gemma", "Phi")}),
                info.now[1].model_copy(update={"state": "failed", "problem": problem}),
            )
        }
    )
    first, second = comparison_view(info)["columns"]

    assert first["room"] == "Gemma and Phi were taken out of memory for it."
    assert (second["words"], second["problem"]["hint"]) == ("Failed", "Unload one.")


@pytest.mark.parametrize(("count", "says"), [(0, "two"), (1, "two"), (5, "at most 4")])
def test_too_few_and_too_many_columns_are_refused(count: int, says: str) -> None:
    with pytest.raises(BadColumns, match=says):
        require_columns(count)


def test_a_title_is_the_questions_first_words() -> None:
    assert title_of("  Why\n is it so? ") == "Why is it so?"
    assert len(title_of("word " * 100)) <= 80
