"""The running plan: what is made of whatever a model sends, and when it is offered at all."""

import json
from typing import Any

import pytest

from core.models import Capabilities, ModelInfo
from core.running_plan import (
    ARGUMENTS,
    DESCRIPTION,
    MAX_CHARS,
    MAX_ITEMS,
    NAME,
    TOKENS,
    BadPlan,
    counted,
    current,
    is_offered,
    read,
)
from core.runs import PlanItem
from core.tools import Tool

TOOL = Tool(server="box", name="look", tokens=100)
BIG = ModelInfo(id="qwen/qwen3-8b", provider="lmstudio", name="Qwen", parameters="8B")


def item(text: str = "Look", state: Any = "open") -> dict[str, Any]:
    return {"text": text, "state": state}


def states(*found: Any) -> list[str]:
    return [each.state for each in read({"items": [item(state=state) for state in found]}).items]


def test_a_plan_is_read_as_it_was_sent() -> None:
    plan = read({"items": [item("Look", "done"), item("Write", "in_progress"), item("Tell")]})
    assert [(each.text, each.state) for each in plan.items] == [
        ("Look", "done"),
        ("Write", "in_progress"),
        ("Tell", "open"),
    ]
    assert plan.told == ""
    assert counted(plan.items) == (1, 3)
    assert current(plan.items) == PlanItem(text="Write", state="in_progress")


@pytest.mark.parametrize(
    "sent",
    [
        {"plan": [{"step": "Look", "status": "completed"}]},
        {"todos": [{"content": "Look", "status": "completed"}]},
        {"items": '[{"text": "Look", "state": "Done"}]'},
        [{"title": " Look\n", "state": "finished"}],
    ],
)
def test_what_models_learned_from_other_programs_is_understood(sent: Any) -> None:
    assert read(sent).items == (PlanItem(text="Look", state="done"),)


def test_bare_words_are_open_items_and_an_empty_list_is_a_plan() -> None:
    assert read({"items": ["Look", "Write"]}).items == (
        PlanItem(text="Look"),
        PlanItem(text="Write"),
    )
    assert read({"items": []}).items == ()


def test_states_are_taken_in_other_words_too() -> None:
    assert states("pending", "In-Progress", "COMPLETED", "cancelled") == [
        "open",
        "in_progress",
        "done",
        "dropped",
    ]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "Send the plan as"),
        (None, "Send the plan as"),
        ("words", "Send the plan as"),
        ({"items": "words"}, "Send the plan as"),
        ({"items": {"text": "Look"}}, "Send the plan as"),
        ({"items": [item(), item("  ")]}, "Item 2 has no text"),
        ({"items": [{"state": "done"}]}, "Item 1 has no text"),
        ({"items": [item(3)]}, "Item 1 has no text"),  # type: ignore[arg-type]
        ({"items": [item(state="melting")]}, "Item 1 has the state 'melting'"),
        ({"items": [item(state={"a": "x" * 9000})]}, "States are: open, in_progress"),
    ],
)
def test_what_is_no_plan_is_refused_with_a_sentence(sent: Any, said: str) -> None:
    with pytest.raises(BadPlan) as refused:
        read(sent)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 200


def test_too_many_items_and_too_long_ones_are_cut_and_that_is_told() -> None:
    plan = read({"items": [item("x" * 10_000) for _ in range(5000)]})
    assert len(plan.items) == MAX_ITEMS
    assert {len(each.text) for each in plan.items} == {MAX_CHARS}
    assert plan.told == "Only the first 20 items are kept. Texts are cut at 200 characters."


def test_halves_of_characters_are_mended() -> None:
    assert read({"items": ["half \ud83d of it"]}).items[0].text == "half \ufffd of it"


def test_dropped_items_do_not_count() -> None:
    items = read({"items": [item(state="done"), item(state="dropped"), item()]}).items
    assert counted(items) == (1, 2)


@pytest.mark.parametrize(
    ("known", "offered"),
    [
        ({}, True),
        ({"window": None}, True),
        ({"window": 4096}, False),
        ({"tools": [TOOL.model_copy(update={"tokens": 11_000})]}, False),
        ({"tools": []}, False),
        ({"schema_mode": True}, False),
        ({"rounds": 4}, False),
        ({"model": BIG.model_copy(update={"parameters": "0.6B"})}, False),
        ({"mode": "off"}, False),
        ({"mode": "on", "window": 4096, "schema_mode": True, "rounds": 1}, True),
        ({"mode": "on", "tools": []}, False),
    ],
)
def test_it_is_offered_where_it_is_likely_to_help(known: dict[str, Any], offered: bool) -> None:
    facts = {
        "mode": "auto",
        "model": BIG,
        "tools": [TOOL],
        "schema_mode": False,
        "window": 32_768,
        "rounds": 20,
        **known,
    }
    told = is_offered(facts.pop("mode"), facts.pop("model"), facts.pop("tools"), **facts)
    assert told is offered


def test_a_model_of_unknown_size_gets_it() -> None:
    unknown = ModelInfo(
        id="mystery", provider="work", name="Mystery", capabilities=Capabilities(tools=True)
    )
    assert is_offered("auto", unknown, [TOOL], schema_mode=False, window=None, rounds=20)


def test_its_cost_is_what_is_said_of_it() -> None:
    sent = json.dumps({"name": NAME, "description": DESCRIPTION, "parameters": ARGUMENTS})
    assert abs(len(sent) / 4 - TOKENS) < 40
