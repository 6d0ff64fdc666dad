"""What the agents dialog is told: what instructions cost, how versions differ, what a test answer says."""

from typing import Any

import pytest

from app.agent_versions import differences, version_views
from app.agents_ui import check_view, server_view
from core.agent_check import AgentCheck, AgentProblem
from core.agents import Agent
from core.tool_server import ToolInfo, ToolServer


def agent(**said: Any) -> Agent:
    return Agent.model_validate({"id": "chef", "name": "Chef", "updated_at": 100.0, **said})


def check(tokens: int, window: int | None = 1000, *, exact: bool = True) -> dict[str, Any]:
    model = "lmstudio:qwen/qwen3-4b" if window else None
    problem = AgentProblem(field="models", code="model_not_found", message="No.")
    return check_view(
        AgentCheck(tokens=tokens, exact=exact, model_id=model, window=window, problems=(problem,))
    )


@pytest.mark.parametrize(
    ("tokens", "window", "exact", "words"),
    [
        (0, 1000, False, "0 tokens, 0 % of the 1,000 that qwen3-4b holds"),
        (1, 1000, True, "1 token, under 1 % of the 1,000 that qwen3-4b holds"),
        (1200, 4096, False, "About 1,200 tokens, 29 % of the 4,096 that qwen3-4b holds"),
        (7, None, True, "7 tokens"),
    ],
)
def test_instructions_cost_tokens_and_a_share_of_the_window(
    tokens: int, window: int | None, exact: bool, words: str
) -> None:
    assert check(tokens, window, exact=exact)["cost"] == words


def test_more_than_half_of_the_window_is_too_much() -> None:
    assert (check(500)["over"], check(501)["over"], check(501, None)["over"]) == (
        False,
        True,
        False,
    )
    assert check(5)["problems"][0]["field"] == "models"


def test_versions_say_in_words_how_they_differ_from_now() -> None:
    now = agent(
        version=2,
        instructions="You are a chef.\nAsk first.\nBe brief.",
        models=("*qwen*",),
        parameters={"temperature": 0.2},
        tools=({"server": "files", "approval": "ask"},),
        limits={"rounds": 5},
        plan="off",
        strict=False,
    )
    then = agent(
        instructions="You are a chef.\nBe brief.",
        parameters={"temperature": 1.0, "max_tokens": 4096},
    )
    newest, old = version_views([now, then])

    assert (newest["current"], newest["changes"]) == (True, [])
    assert (old["version"], old["current"], old["at"]) == (1, False, 100.0)
    told = {each["field"]: each for each in old["changes"]}
    assert told["Instructions"]["words"] == "1 added since"
    assert (told["Instructions"]["then"], told["Instructions"]["now"]) == ([], ["Ask first."])
    assert told["Tools"]["now"] == ["files: all tools, asks each time"]
    assert {name: each["words"] for name, each in told.items() if not each["now"]} == {
        "Models": "was not set, now “*qwen*”",
        "Temperature": "was 1, now 0.2",
        "Max tokens": "was 4,096, now not set",
        "Rounds": "was 20, now 5",
        "Running plan": "was “where it suits”, now “never”",
        "Another model answers": "was “a failure”, now “allowed”",
    }


def test_a_long_word_is_cut_where_two_are_compared() -> None:
    (change,) = differences(agent(description="a" * 300), agent())
    assert change["words"] == f"was “{'a' * 89}…”, now not set"


def test_a_tool_server_shows_only_what_is_switched_on() -> None:
    server = ToolServer(
        name="files",
        source="mcp.json",
        transport="stdio",
        command="files",
        state="ready",
        hash="0" * 64,
        enabled=True,
        tools=(
            ToolInfo(name="read", description="Reads.\nAnd more.", tokens=40, read_only=True),
            ToolInfo(name="write", tokens=50, enabled=False),
        ),
        tokens=40,
        title="Files",
    )
    shown = server_view(server)
    assert (shown["title"], shown["words"]) == ("", "1 tool · 40 tokens")
    assert shown["tools"] == [
        {"name": "read", "description": "Reads.", "words": "40 tokens", "reads": True}
    ]
