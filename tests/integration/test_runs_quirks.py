"""What local models do: thinking in pieces, calls in the text, no tool support, small windows."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from core.tools import ToolImage, ToolResult
from tests.agent_upstream import AgentUpstream, Call, Say
from tests.run_bench import calls, run_bench

pytestmark = pytest.mark.anyio

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
LOOK = '{"name": "look", "arguments": {"at": "it"}}'


async def test_thinking_cut_anywhere_is_thinking(tmp_path: Path) -> None:
    text = "<think>I should look.\n</think>\n\nI look."
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(
            Say([text[n : n + 3] for n in range(0, len(text), 3)], [Call("look")]),
            Say(["<th", "ink>hm</think>", "42."]),
        )
        job = await bench.start()

        info = await bench.ended(job)

        assert [step.reasoning for step in info.steps] == ["I should look.", "hm"]
        assert [step.why for step in info.steps] == ["I look.", "42."]
        assert "think" not in bench.reads(job, "message.delta")
        # What it thought is not sent back.
        assert "should" not in json.dumps(bench.upstream.bodies[1]["messages"])


async def test_thinking_that_the_template_opened_is_thinking_once_it_ends(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(
            Say(["I should look: <tool_call>", "no.\n</think>", "\n\nI look."], [Call("look")]),
            Say(["Okay,", " 42.\n", "</th", "ink>\n\nIt ", "is 42."]),
        )
        job = await bench.start()

        info = await bench.ended(job)

        assert info.output == "It is 42."
        assert [step.reasoning for step in info.steps] == [
            "I should look: <tool_call>no.",
            "Okay, 42.",
        ]
        assert [step.why for step in info.steps] == ["I look.", "It is 42."]
        assert calls(info)[0].state == "success"
        assert bench.types(job).count("message.was_thinking") == 2
        # What it thought is not sent back.
        assert "should" not in json.dumps(bench.upstream.bodies[1]["messages"])
        assert "I look." in json.dumps(bench.upstream.bodies[1]["messages"])


async def test_a_call_made_while_it_thinks_unopened_is_a_call(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(f"I look.\n<tool_call>{LOOK}</tool_call>\n</think>\n"), Say("42."))

        info = await bench.run()

        assert bench.tools.calls == [("box.look", {"at": "it"})]
        assert info.output == "42."


@pytest.mark.parametrize(
    "written",
    [
        f"<tool_call>\n{LOOK}\n</tool_call>",
        f"<tool_call>{LOOK}",
        "<tool_call>\n<function=look>\n<parameter=at>\nit\n</parameter>\n</function>\n</tool_call>",
        '<function=look>{"at": "it"}</function>',
        '<|python_tag|>{"name": "look", "parameters": {"at": "it"}}',
        f"[TOOL_CALLS][{LOOK}]",
        '[TOOL_CALLS]look[ARGS]{"at": "it"}',
        f"```json\n{LOOK}\n```",
        LOOK,
        "{'name': 'look', 'arguments': {'at': 'it'}}",
    ],
)
async def test_a_call_left_in_the_text_is_a_call(tmp_path: Path, written: str) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        pieces = [written[n : n + 5] for n in range(0, len(written), 5)]
        bench.upstream.plays(Say(pieces), Say("42."))
        job = await bench.start()

        info = await bench.ended(job)

        assert bench.tools.calls == [("box.look", {"at": "it"})]
        assert info.output == "42."
        assert bench.reads(job, "message.delta") == "42."
        sent = bench.upstream.bodies[1]["messages"]
        assert sent[-2]["tool_calls"][0]["function"]["name"] == "look"
        assert (sent[-1]["role"], sent[-1]["content"]) == ("tool", "42")


async def test_words_before_a_call_in_the_text_stay_words(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(["Let me look. <tool", f"_call>{LOOK}</tool_call>"]), Say("42."))
        job = await bench.start()

        info = await bench.ended(job)

        assert info.steps[0].why == "Let me look. "
        assert len(bench.tools.calls) == 1


@pytest.mark.parametrize(
    "answer", ['{"name": "Ada", "arguments": {}}', "Use <b>bold</b>.", "[1, 2]", "a < b [TOOL"]
)
async def test_text_that_only_looks_like_a_call_stays_text(tmp_path: Path, answer: str) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(list(answer)))

        assert (await bench.run()).output == answer


async def test_a_broken_call_in_the_text_is_told_to_the_model(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        broken = '<tool_call>{"name": "look", "arguments": {"at": "it</tool_call>'
        bench.upstream.plays(Say(broken), Say(f"<tool_call>{LOOK}</tool_call>"), Say("42."))

        info = await bench.run()

        assert [call.state for call in calls(info)] == ["invalid", "success"]
        assert info.output == "42."


async def test_a_call_made_while_thinking_is_a_call(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        thought = f"I should look. <tool_call>{LOOK}</tool_call>"
        bench.upstream.plays(Say(reasoning=thought), Say("42."))

        info = await bench.run()

        assert bench.tools.calls == [("box.look", {"at": "it"})]
        assert info.output == "42."


async def test_a_call_only_thought_about_is_none_where_there_is_an_answer(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        thought = f"Perhaps <tool_call>{LOOK}</tool_call>? No."
        bench.upstream.plays(Say("I know it: 42.", reasoning=thought))

        assert (await bench.run()).output == "I know it: 42."
        assert bench.tools.calls == []


async def test_an_empty_answer_is_asked_for_again(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        answers = [Say(), Say(reasoning="Hm."), Say("Here.")]
        bench.upstream.scripts["qwen/qwen3-4b"] = lambda body: answers.pop(0)

        assert (await bench.run()).output == "Here."


def _step(body: dict[str, Any]) -> Any:
    return body["response_format"]["json_schema"]["schema"]


async def test_a_model_without_tool_support_writes_json_of_a_given_shape(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"place": {"$ref": "#/$defs/Place"}},
        "$defs": {"Place": {"type": "string", "enum": ["here", "there"]}},
    }
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True, arguments=schema)
        wanted = json.dumps({"tool": "look", "arguments": {"place": "here"}})
        answer = json.dumps({"answer": 'It is "42" \u2013 ä 😀.'})
        bench.upstream.plays(Say(list(wanted)), Say(list(answer)))
        job = await bench.start(tools="schema")

        info = await bench.ended(job)

        assert info.schema_mode
        assert info.output == 'It is "42" \u2013 ä 😀.'
        # The answer comes as it is written, not at the end.
        assert sum(e.type == "message.delta" for e in _each(job)) > 10
        assert bench.tools.calls == [("box.look", {"place": "here"})]
        first, second = bench.upstream.bodies
        assert "tools" not in first
        assert "tool_choice" not in first
        call, said = _step(first)["anyOf"]
        assert call["properties"]["tool"] == {"const": "look"}
        assert call["properties"]["arguments"]["properties"] == {
            "place": {"type": "string", "enum": ["here", "there"]}
        }
        assert said["required"] == ["answer"]
        assert [message["role"] for message in second["messages"]] == [
            "system",
            "user",
            "assistant",
            "user",
        ]
        assert second["messages"][-1]["content"].startswith("Result of look: 42")


@pytest.mark.parametrize(
    ("size", "tools", "schema"),
    [
        ("135M", "auto", True),
        ("0.5B", "auto", False),
        ("135M", "native", False),
    ],
)
async def test_a_model_known_to_be_very_small_writes_json_unless_somebody_insists(
    tmp_path: Path, size: str, tools: str, schema: bool
) -> None:
    async with run_bench(tmp_path, "smol") as bench:
        bench.upstream.models["smol"].params = size
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(json.dumps({"answer": "42."})))

        job = await bench.start(tools=tools)
        info = await bench.ended(job)

        assert info.schema_mode is schema
        assert ("tools" in bench.upstream.bodies[0]) is not schema
        notes = [event.data["message"] for event in _each(job) if event.type == "notice"]
        assert any("too small to call tools" in note for note in notes) is schema


def _each(job: Any) -> list[Any]:
    """The events one by one, as a fast watcher gets them."""
    found, after = [], 0
    for number in range(1, job.log.last + 1):
        found += [event for event in job.log.read(after) if event.number >= number][:1]
        after = number
    return found


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (500, "tools param requires --jinja flag"),
    ],
)
async def test_a_server_that_takes_no_tools_gets_json_by_itself(
    tmp_path: Path, status: int, message: str
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        answers = [
            Say(status=status, error={"error": {"message": message}}),
            Say(json.dumps({"tool": "look", "arguments": {}})),
            Say(json.dumps({"answer": "42."})),
        ]
        bench.upstream.scripts["qwen/qwen3-4b"] = lambda body: answers.pop(0)
        job = await bench.start()

        info = await bench.ended(job)

        assert (info.output, info.schema_mode, info.usage.requests) == ("42.", True, 2)
        assert "tools" in bench.upstream.bodies[0]
        assert "response_format" in bench.upstream.bodies[1]
        assert message in next(e.data for e in job.log.read(0) if e.type == "notice")["message"]
        assert bench.library.gate("lmstudio").breaker.state == "closed"


async def test_a_server_that_does_not_know_a_parameter_is_asked_without(tmp_path: Path) -> None:
    def strict(body: dict[str, Any]) -> Say:
        if "stream_options" in body:
            text = "Unrecognized request argument supplied: stream_options"
            return Say(status=400, error={"error": {"message": text}})
        return Say("It is 42.", usage=None)

    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.scripts["qwen/qwen3-4b"] = strict

        info = await bench.run()

        assert info.output == "It is 42."
        # Without the server's own figure, what came counts.
        assert info.usage.output_tokens == 1


async def test_a_server_that_takes_no_tools_fails_a_run_that_insists(tmp_path: Path) -> None:
    error = {"error": {"message": "This model does not support tools."}}
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(status=400, error=error))

        assert (await bench.run(tools="native")).reason == "tools_refused"


@pytest.mark.parametrize(
    "written",
    [
        '```json\n{"tool": "look", "arguments": {}}\n```',
        'Sure.\n{"tool": "look", "arguments": {}}',
        '<tool_call>{"name": "look", "arguments": {}}</tool_call>',
        '{"tool_calls": [{"name": "look", "arguments": {}}]}',
    ],
)
async def test_a_server_that_does_not_know_the_shape_gets_its_calls_run_all_the_same(
    tmp_path: Path, written: str
) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say(list(written)), Say('```json\n{"answer": "It is 42."}\n```'))
        job = await bench.start(tools="schema")

        info = await bench.ended(job)

        assert bench.tools.calls == [("box.look", {})]
        assert info.output == "It is 42."
        told = bench.reads(job, "message.delta")
        assert told == ("Sure." if written.startswith("Sure") else "") + "It is 42."


async def test_json_that_is_not_of_the_shape_is_the_answer(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "42", read_only=True)
        bench.upstream.plays(Say("Just words."))

        job = await bench.start(tools="schema")
        info = await bench.ended(job)

        assert info.output == bench.reads(job, "message.delta") == "Just words."


async def test_a_small_window_gets_tools_on_demand(tmp_path: Path) -> None:
    upstream = AgentUpstream(context=1000)
    async with run_bench(tmp_path, upstream=upstream) as bench:
        for n in range(10):
            bench.tools.says(f"box.tool{n}", "no", read_only=True, description="Other.", tokens=90)
        bench.tools.says(
            "box.weather", "sunny", read_only=True, description="The weather.", tokens=90
        )
        bench.upstream.plays(
            Say("", [Call("search_tools", {"query": "what is the weather"})]),
            Say("", [Call("weather")]),
            Say("Sunny."),
        )
        job = await bench.start()

        info = await bench.ended(job)

        assert info.output == "Sunny."
        names = [
            [tool["function"]["name"] for tool in body["tools"]] for body in bench.upstream.bodies
        ]
        assert names == [["search_tools"], ["search_tools", "weather"], ["search_tools", "weather"]]
        assert [call.tool for call in calls(info)] == ["search_tools", "weather"]
        assert "notice" in bench.types(job)


async def test_tools_of_one_name_are_told_apart(tmp_path: Path) -> None:
    async with run_bench(tmp_path) as bench:
        bench.tools.says("box.look", "in the box", read_only=True)
        bench.tools.says("bag.look", "in the bag", read_only=True)
        long = f"very.{'long' * 30}"
        bench.tools.says(f"bag.{long}", "long", read_only=True)
        bench.upstream.plays(Say("", [Call("bag_look"), Call("box_look")]), Say("Both."))

        info = await bench.run(servers=["box", "bag"])

        assert {call.server: call.preview for call in calls(info)} == {
            "bag": "in the bag",
            "box": "in the box",
        }
        sent = [tool["function"]["name"] for tool in bench.upstream.bodies[0]["tools"]]
        assert all(len(name) <= 64 and "." not in name for name in sent)


async def test_a_model_that_sees_gets_the_picture_and_no_second_system_message(
    tmp_path: Path,
) -> None:
    picture = ToolImage(media_type="image/png", data=base64.b64encode(PNG).decode())
    key = "qwen2.5-vl-7b-instruct"
    # An older server says nothing of what its models can do; the name does.
    upstream = AgentUpstream(key, profile="v1")
    async with run_bench(tmp_path, upstream=upstream) as bench:
        bench.tools.says("box.photo", ToolResult("Here.", images=(picture,)), read_only=True)
        bench.upstream.plays(Say("", [Call("photo")]), Say("A dot."))

        info = await bench.run()

        assert info.output == "A dot."
        messages = bench.upstream.bodies[1]["messages"]
        assert [message["role"] for message in messages].count("system") == 1
        assert "data:image/png;base64," in json.dumps(messages)
        assert calls(info)[0].images == 1
