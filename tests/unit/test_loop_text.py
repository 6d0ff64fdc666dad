"""Telling answer from calls in text that comes in any pieces: nothing is lost, nothing made up."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrastructure.loop.reader import CallReader, TextCall
from infrastructure.loop.schema_mode import as_schema_request
from infrastructure.loop.schema_reply import SchemaReply
from infrastructure.loop.tags import TextCalls

TOOLS = {
    "look": {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}
}
CUTS = st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(), VALUES, max_size=4)


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    found, place, turn = [], 0, 0
    while place < len(text):
        size = cuts[turn % len(cuts)]
        found.append(text[place : place + size])
        place, turn = place + size, turn + 1
    return found


def read(reader: CallReader, text: str, cuts: Sequence[int]) -> tuple[str, list[TextCall]]:
    answer = "".join(reader.feed(piece) for piece in pieces(text, cuts))
    rest, calls = reader.end()
    return answer + rest, calls


@given(st.text(alphabet='<>[]{}|_tolcaTOLCA= \n`"a', max_size=80), CUTS)
def test_text_without_a_call_comes_out_as_it_went_in(text: str, cuts: list[int]) -> None:
    answer, calls = read(TextCalls(TOOLS), text, cuts)

    if not calls:
        assert answer == text


@given(st.text(alphabet="abc .\n", max_size=30), ARGUMENTS, CUTS)
def test_a_tagged_call_is_found_in_any_pieces(
    words: str, arguments: dict[str, object], cuts: list[int]
) -> None:
    call = json.dumps({"name": "look", "arguments": arguments})
    said = f"{words}<tool_call>\n{call}\n</tool_call>"
    if "</tool_call>" in call:
        return

    answer, calls = read(TextCalls(TOOLS), said, cuts)

    assert answer.strip() == words.strip()
    assert [(each.name, json.loads(each.arguments)) for each in calls] == [("look", arguments)]


@example("\\0", [1], False)
@example("\\", [1], False)
@example("\U0001f600!", [15, 21], True)
@given(st.text(), CUTS, st.booleans())
def test_an_answer_in_json_is_the_same_text_in_any_pieces(
    text: str, cuts: list[int], escaped: bool
) -> None:
    said = json.dumps({"answer": text}, ensure_ascii=escaped)

    assert read(SchemaReply(TOOLS), said, cuts) == (text, [])


@given(ARGUMENTS, CUTS)
def test_a_call_in_json_is_found_in_any_pieces(
    arguments: dict[str, object], cuts: list[int]
) -> None:
    said = json.dumps({"tool": "look", "arguments": arguments})

    answer, calls = read(SchemaReply(TOOLS), said, cuts)

    assert answer == ""
    assert [(each.name, json.loads(each.arguments)) for each in calls] == [("look", arguments)]


STEP = '{"tool": "look", "arguments": {"n": 1}}'
NAMED = '{"name": "look", "arguments": {"n": 1}}'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (f"```json\n{STEP}\n```", ""),
        (f"```\n{STEP}\n```\nI wait for what it says.", ""),
        (f"{STEP}\nResult of look: 9\n" + '{"answer": "9"}', ""),
        (f"Sure.\n{STEP}", "Sure."),
        (f"Sure {{}}: let me look.\n\n```json\n{STEP}\n```\n", "Sure {}: let me look."),
        ('{"thought": "Hm.", "tool": "look", "arguments": {"n": 1}}', ""),
        ('{"tool": "look", "arguments": "{\\"n\\": 1}"}', ""),
        (NAMED, ""),
        (f"<tool_call>\n{NAMED}\n</tool_call>", ""),
        (f"Let me see. <tool_call>{STEP}", "Let me see."),
        ("<function=look><parameter=n>1</parameter></function>", ""),
        (f'{{"tool_calls": [{NAMED}]}}', ""),
        ('{"tool_calls": [{"id": "a", "type": "function", "function": ' + NAMED + "}]}", ""),
        (f"[{STEP}]", ""),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_call_is_a_call_however_a_model_without_the_schema_wrote_it(
    said: str, words: str, cut: int
) -> None:
    answer, calls = read(SchemaReply(TOOLS), said, [cut])

    assert [(each.name, json.loads(each.arguments)) for each in calls] == [("look", {"n": 1})]
    assert answer.strip() == words


@pytest.mark.parametrize("said", ['{"tool": "look"}', '{"tool": "look", "arguments": null}'])
def test_a_call_without_arguments_is_a_call(said: str) -> None:
    assert read(SchemaReply(TOOLS), said, [9]) == ("", [TextCall("look", "{}")])


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('```json\n{"answer": "It is `1`."}\n```', "It is `1`."),
        ('Sure.\n{"answer": "It is 1."}', "Sure.\n\nIt is 1."),
        ('{"answer": "It is 1."}\nAnything else?', "It is 1."),
    ],
)
def test_an_answer_in_its_shape_is_told_without_it(said: str, answer: str) -> None:
    assert read(SchemaReply(TOOLS), said, [4]) == (answer, [])


@pytest.mark.parametrize(
    "said",
    [
        f"You would write\n```json\n{STEP}\n```\nand get the number back.",
        f"For example `{STEP}`.",
        f'{{"steps": [{STEP}]}}',
        f'{{"steps": [{STEP}',
        '{"tool": "hammer", "price": 3}',
        '[{"name": "Ada", "arguments": {}}]',
        '{"name": "saw", "arguments": {}}',
        'The tools:\n{"tool": "saw", "arguments": {}}',
        '{"tool": 1}',
        '{"answer": 1}',
        "[" * 5000,
        '{"a":' * 5000,
    ],
)
def test_an_answer_that_holds_json_about_tools_stays_an_answer(said: str) -> None:
    assert read(SchemaReply(TOOLS), said, [1000]) == (said, [])


def test_a_step_with_a_tool_that_there_is_not_is_told_to_the_loop() -> None:
    said = '{"tool": "saw", "arguments": {}}'

    assert read(SchemaReply(TOOLS), said, [6]) == ("", [TextCall("saw", "{}")])


def test_parameters_in_tags_get_the_type_that_the_tool_wants() -> None:
    said = (
        "<tool_call>\n<function=look>\n<parameter=n>\n7\n</parameter>\n"
        "<parameter=s>\n7\n</parameter>\n</function>\n</tool_call>"
    )

    _, calls = read(TextCalls(TOOLS), said, [5])

    assert json.loads(calls[0].arguments) == {"n": 7, "s": "7"}


def test_an_answer_that_breaks_off_in_the_middle_is_kept() -> None:
    assert read(SchemaReply(TOOLS), '{"answer": "It is hal', [4]) == ("It is hal", [])


def test_a_schema_that_holds_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema = {
        "type": "object",
        "properties": {"first": {"$ref": "#/$defs/Node"}},
        "$defs": {"Node": node},
    }
    function = {"name": "walk", "description": "Walks.", "parameters": schema}

    request = as_schema_request(
        {"messages": [{"role": "user", "content": "Go."}], "tools": [{"function": function}]}
    )

    assert "$ref" not in json.dumps(request)
    assert "walk(first?: " in request["messages"][0]["content"]
