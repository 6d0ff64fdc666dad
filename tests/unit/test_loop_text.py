"""Telling answer from calls in text that comes in any pieces: nothing is lost, nothing made up."""

import json
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from infrastructure.loop.reader import CallReader, TextCall
from infrastructure.loop.schema_mode import SchemaReply, as_schema_request
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

    assert read(SchemaReply(), said, cuts) == (text, [])


@given(ARGUMENTS, CUTS)
def test_a_call_in_json_is_found_in_any_pieces(
    arguments: dict[str, object], cuts: list[int]
) -> None:
    said = json.dumps({"tool": "look", "arguments": arguments})

    answer, calls = read(SchemaReply(), said, cuts)

    assert answer == ""
    assert [(each.name, json.loads(each.arguments)) for each in calls] == [("look", arguments)]


def test_parameters_in_tags_get_the_type_that_the_tool_wants() -> None:
    said = (
        "<tool_call>\n<function=look>\n<parameter=n>\n7\n</parameter>\n"
        "<parameter=s>\n7\n</parameter>\n</function>\n</tool_call>"
    )

    _, calls = read(TextCalls(TOOLS), said, [5])

    assert json.loads(calls[0].arguments) == {"n": 7, "s": "7"}


def test_an_answer_that_breaks_off_in_the_middle_is_kept() -> None:
    assert read(SchemaReply(), '{"answer": "It is hal', [4]) == ("It is hal", [])


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
