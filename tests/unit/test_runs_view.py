"""Runs in words: states, costs, endings, and what a person is shown of a call that waits."""

from typing import Any

import pytest

from app.runs_ui import allowed_view, approval_view, call_view, page_view, run_view, server_view
from core.agents import AgentLimits
from core.chats import Problem, Tried
from core.runs import (
    AllowedTool,
    Approval,
    CallRecord,
    PlanItem,
    PlanNote,
    RunInfo,
    RunPage,
    RunStep,
    RunUsage,
)
from core.tool_server import ToolInfo, ToolServer

NOW = 1_000_000.0


def run(**known: Any) -> RunInfo:
    return RunInfo(
        **{
            "id": "r1",
            "task": "Tidy up",
            "model_id": "lmstudio:qwen/qwen3-4b",
            "limits": AgentLimits(rounds=3, tokens=9000, minutes=2),
            "created_at": NOW - 90,
            **known,
        }
    )


def call(**known: Any) -> CallRecord:
    return CallRecord(**{"id": "c1", "server": "notes", "tool": "write", **known})


def approval(**known: Any) -> Approval:
    return Approval(
        **{
            "call_id": "c1",
            "server": "notes",
            "tool": "write",
            "arguments": {"page": "ä"},
            "arguments_hash": "h",
            "why": "It can change things.",
            "requested_at": NOW - 10,
            "expires_at": NOW + 50,
            **known,
        }
    )


def test_a_model_that_failed_before_is_named_above_the_steps() -> None:
    tried = Tried(model_id="lmstudio:meta/large", code="provider_failed", message="It broke.")
    assert run_view(run(), now=NOW)["note"] == ""
    assert run_view(run(tried=(tried,)), now=NOW)["note"] == "large failed first: It broke."
    both = run_view(run(tried=(tried,), schema_mode=True), now=NOW)["note"]
    assert both.startswith("large failed first: It broke. This model writes its calls as JSON")


def test_what_a_run_cost_is_said_in_steps_calls_and_tokens() -> None:
    usage = RunUsage(requests=3, tool_calls=1, input_tokens=5000, output_tokens=200, seconds=4.2)
    view = run_view(run(usage=usage), now=NOW)
    assert view["cost"] == "3 steps · 1 tool call · 5.2k tokens"
    assert view["total"] == "3 steps · 1 tool call · 5.2k tokens · 5k read · 200 written · 4.2 s"


@pytest.mark.parametrize(
    ("state", "reason", "words", "good"),
    [
        ("done", None, "Done.", True),
        ("done", "limit_rounds", "Ended at its limit of 3 steps.", False),
        ("done", "limit_tokens", "Ended at its limit of 9k tokens.", False),
        ("done", "limit_minutes", "Ended at its limit of 2 min.", False),
        (
            "stopped",
            "repeated_call",
            "Stopped, because the model made the same call three times.",
            False,
        ),
        ("stopped", None, "Stopped by you.", False),
        (
            "interrupted",
            "model_changed_during_execution",
            "Ended because its model was taken away.",
            False,
        ),
        ("interrupted", "server_stopped", "Interrupted because LM Desk stopped.", False),
        ("running", None, "", False),
    ],
)
def test_every_end_has_its_reason(state: Any, reason: str | None, words: str, good: bool) -> None:
    view = run_view(run(state=state, reason=reason), now=NOW)
    assert (view["ending"], view["good"]) == (words, good)


def test_a_run_that_came_to_its_limit_is_told_apart_in_the_list() -> None:
    limited = page_view(
        RunPage(runs=(run(state="done", reason="limit_tokens"), run(state="done")), total=2),
        now=NOW,
    )["runs"]
    assert [each["words"] for each in limited] == ["At its limit", "Done"]


def test_a_failure_says_its_sentence_and_its_hint() -> None:
    error = Problem(code="run_failed", message="It gave up.", hint="Try another model.")
    view = run_view(run(state="failed", error=error), now=NOW)
    assert view["ending"] == "It gave up. Try another model."


def test_a_run_that_waits_says_so_in_the_list() -> None:
    page = RunPage(runs=(run(approvals=(approval(),)), run()), total=2)
    first, second = page_view(page, now=NOW)["runs"]
    assert (first["state"], first["words"]) == ("waiting", "Waits for you")
    assert (second["state"], second["words"]) == ("running", "Working")
    assert (first["model"], first["long"]) == ("qwen3-4b", "1 min 30 s")


def test_a_request_shows_all_arguments_what_the_server_says_of_the_tool_and_the_time_left() -> None:
    long = {"text": "x" * 50_000, "page": "ä"}
    view = approval_view(
        approval(arguments=long, read_only=False, destructive=True, open_world=True), now=NOW
    )
    assert view["name"] == "notes.write"
    assert "x" * 50_000 in view["arguments"]
    assert '"page": "ä"' in view["arguments"]
    assert [hint["words"] for hint in view["hints"]] == [
        "can change things",
        "can destroy things",
        "reaches beyond this machine",
    ]
    assert view["left"] == 50.0
    assert approval_view(approval(), now=NOW + 99)["left"] == 0.0


def test_a_server_that_says_nothing_of_its_tool_is_not_taken_for_harmless() -> None:
    hints = approval_view(approval(), now=NOW)["hints"]
    assert hints == [{"kind": "warn", "words": "says nothing of what it does"}]


@pytest.mark.parametrize(
    ("known", "words", "facts"),
    [
        ({"state": "success", "seconds": 0.5, "decided_by": "mode"}, "ran", "0.50 s"),
        ({"state": "success", "decided_by": "person"}, "ran", "you said yes"),
        ({"state": "denied", "decided_by": "person"}, "not allowed", "you said no"),
        ({"state": "denied", "decided_by": "timeout"}, "not allowed", "nobody answered in time"),
        ({"state": "waiting"}, "waits for you", ""),
        ({"state": "invalid"}, "could not be called", ""),
    ],
)
def test_a_call_says_how_it_went_and_who_decided(
    known: dict[str, Any], words: str, facts: str
) -> None:
    view = call_view(call(**known), run(), now=NOW)
    assert (view["words"], view["facts"]) == (words, facts)


def test_a_changed_call_shows_what_ran_and_what_the_model_had_written() -> None:
    view = call_view(
        call(
            state="success",
            arguments={"page": "b"},
            asked_arguments={"page": "a"},
            decided_by="person",
        ),
        run(),
        now=NOW,
    )
    assert '"b"' in view["arguments"]
    assert '"a"' in view["asked"]
    assert view["facts"] == "you changed its arguments"


def test_only_a_result_that_is_longer_than_its_beginning_can_be_shown_whole() -> None:
    part = call(state="success", preview="abc", size=70_000, cut=True, seconds=1.0)
    view = call_view(part, run(), now=NOW)
    assert view["more"]
    assert view["facts"] == "1.0 s · 70k characters · the model got the first 32k"
    assert not call_view(call(state="success", preview="abc", size=3), run(), now=NOW)["more"]
    assert not call_view(call(state="denied", preview="No."), run(), now=NOW)["more"]


def test_a_call_that_runs_says_for_how_long_and_what_its_server_says() -> None:
    view = call_view(call(state="running", began_at=NOW - 12.4, doing="half, 50%"), run(), now=NOW)
    assert (view["words"], view["facts"]) == ("running", "half, 50% · 12 s")


def test_arguments_stand_in_a_line_beside_their_fold() -> None:
    view = call_view(call(arguments={"page": "ä.md", "lines": [1, 2]}), run(), now=NOW)
    assert view["named"] == "page: ä.md, lines: [1, 2]"
    assert call_view(call(arguments={"": '{"at'}), run(), now=NOW)["named"] == '{"at'
    assert len(call_view(call(arguments={"text": "x" * 9000}), run(), now=NOW)["named"]) == 160


def test_a_plan_is_told_in_the_list_above_the_steps_and_in_each_step() -> None:
    plan = (
        PlanItem(text="Read", state="done"),
        PlanItem(text="Write", state="in_progress"),
        PlanItem(text="Sing", state="dropped"),
    )
    steps = (
        RunStep(number=1, plan=PlanNote(problem="Item 1 has no text.")),
        RunStep(number=2, plan=PlanNote(done=0, count=3)),
        RunStep(number=3, plan=PlanNote(done=1, count=2)),
    )
    view = run_view(run(plan=plan, steps=steps), now=NOW)
    assert view["plan"] == "1 of 2"
    assert [(item["text"], item["words"]) for item in view["items"]] == [
        ("Read", "done"),
        ("Write", "in progress"),
        ("Sing", "dropped"),
    ]
    assert [step["plan"] for step in view["steps"]] == [
        "A plan was not taken: Item 1 has no text.",
        "Plan made: 3 items",
        "Plan: 1 of 2 done",
    ]
    assert [step["refused"] for step in view["steps"]] == [True, False, False]
    assert not any(step["answer"] for step in view["steps"])
    assert run_view(run(), now=NOW)["plan"] == ""


def test_the_last_word_of_a_run_at_its_limit_is_its_summary() -> None:
    steps = (RunStep(number=1, calls=(call(),)), RunStep(number=2, why="So far.", summary=True))
    view = run_view(run(state="done", reason="limit_rounds", steps=steps), now=NOW)
    assert [step["title"] for step in view["steps"]] == ["Step 1", "Summary"]
    assert view["summed"]


def test_the_last_words_without_calls_are_the_answer() -> None:
    steps = (RunStep(number=1, why="I look.", calls=(call(),)), RunStep(number=2, why="Done."))
    told = run_view(run(steps=steps), now=NOW)["steps"]
    assert [step["answer"] for step in told] == [False, True]


def test_what_the_model_wrote_is_rendered_and_its_answer_is_kept_as_written() -> None:
    steps = (
        RunStep(number=1, why="# I *look*", reasoning="<b>Hm</b>", calls=(call(),)),
        RunStep(number=2, why="It is **so**."),
    )
    running = run_view(run(state="running", steps=steps), now=NOW)
    first, last = running["steps"]
    assert first["why_html"] == '<p class="heading">I <em>look</em></p>\n'
    assert first["reasoning_html"] == "<p>&lt;b&gt;Hm&lt;/b&gt;</p>\n"
    assert last["why_html"] == "<p>It is <strong>so</strong>.</p>\n"
    assert running["output_html"] == ""
    over = run_view(run(state="done", output="# So\n**it** is", steps=steps), now=NOW)
    assert over["output"] == "# So\n**it** is"
    assert over["output_html"] == "<h4>So</h4>\n<p><strong>it</strong> is</p>\n"
    assert [bool(step["why_html"]) for step in over["steps"]] == [True, False]


@pytest.mark.parametrize(
    ("state", "usable", "words"),
    [
        ("ready", True, "1 tool · about 1.2k tokens a step"),
        ("not_trusted", False, "Nobody has looked at it yet: see Tools."),
        ("off", False, "Switched off."),
    ],
)
def test_a_server_says_what_it_costs_or_why_it_cannot_be_used(
    state: Any, usable: bool, words: str
) -> None:
    server = ToolServer(
        name="notes",
        source="mcp.json",
        transport="stdio",
        command="notes",
        state=state,
        hash="h",
        enabled=True,
        tools=(ToolInfo(name="write"), ToolInfo(name="old", enabled=False)),
        tokens=1200,
    )
    view = server_view(server)
    assert (view["usable"], view["words"]) == (usable, words)


def test_what_is_allowed_for_good_says_how_far_that_goes() -> None:
    one = allowed_view(AllowedTool(server="notes", tool="write", at=NOW))
    assert (one["name"], one["words"]) == ("notes.write", "as it was then")
    whole = allowed_view(AllowedTool(server="notes", at=NOW))
    assert (whole["name"], whole["words"]) == (
        "All tools of notes",
        "as the server and its tools were then",
    )


def test_of_a_run_in_a_chat_only_the_question_is_shown() -> None:
    task = "The conversation so far:\n\nPerson: Hi\n\nThe person now asks:\n\nWrite Tuesday."
    assert run_view(run(task=task, chat_id="c"), now=NOW)["task"] == "Write Tuesday."
    assert run_view(run(task=task), now=NOW)["task"] == task
