"""Pieces of calls find their call, however a server numbers and names them."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from infrastructure.loop.polish import Polish
from infrastructure.loop.reader import PlainReader
from infrastructure.loop.tags import TextCalls


class Listener:
    """A run that only wants to know which calls begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def proposed(self, call_id: str, name: str) -> None:
        self.begun.append(name)

    def __getattr__(self, name: str) -> Any:
        return lambda *said: None


def piece(
    arguments: str | None = None, name: str | None = None, **ids: int | str | None
) -> dict[str, Any]:
    return {**ids, "type": "function", "function": {"name": name, "arguments": arguments}}


def polished(deltas: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[str, str]]:
    """The calls that leave, with their arguments."""
    host = Listener()
    polish = Polish(host, PlainReader, PlainReader())
    for delta in deltas:
        polish.frame({"choices": [{"index": 0, "delta": {"tool_calls": list(delta)}}]})
    found: dict[int, list[str]] = {}
    for line in polish.end().split(b"\n\n"):
        if line.startswith(b"data: {"):
            for call in orjson.loads(line[6:])["choices"][0]["delta"].get("tool_calls", ()):
                whole = found.setdefault(call["index"], ["", ""])
                whole[0] += call["function"].get("name", "")
                whole[1] += call["function"]["arguments"]
    assert host.begun == [name for name, _ in found.values()]
    return [(name, arguments) for name, arguments in found.values()]


ONE, TWO = '{"n": 1}', '{"n": 2}'
BOTH = [("look", ONE), ("look", TWO)]


@pytest.mark.parametrize(
    "deltas",
    [
        # Numbered, as it should be; also pieces of two at once.
        [
            [piece("", "look", index=0, id="a")],
            [piece(ONE, index=0)],
            [piece("", "look", index=1, id="b")],
            [piece(TWO, index=1)],
        ],
        [
            [piece('{"n"', "look", index=0, id="a"), piece('{"n"', "look", index=1, id="b")],
            [piece(": 1}", index=0), piece(": 2}", index=1)],
        ],
        # One number for all.
        [[piece(ONE, "look", index=0, id="a")], [piece(TWO, "look", index=0, id="b")]],
        [[piece(ONE, "look", index=0, id="a"), piece(TWO, "look", index=0, id="b")]],
        [
            [piece("", "look", index=0, id="a")],
            [piece('{"n"', index=0)],
            [piece(": 1}", index=0)],
            [piece("", "look", index=0, id="b")],
            [piece('{"n"', index=0), piece(": 2}", index=0)],
        ],
        [
            [piece("", "look", index=0, id="a")],
            [piece("", "look", index=0, id="b")],
            [piece(ONE, index=0, id="a")],
            [piece(TWO, index=0, id="b")],
        ],
        [[piece(ONE, "look", index=0)], [piece(TWO, "look", index=0)]],
        # No number.
        [
            [piece("", "look", id="a")],
            [piece("", "look", id="b")],
            [piece(TWO, id="b")],
            [piece(ONE, id="a")],
        ],
        [
            [piece('{"n"', "look", id="a")],
            [piece(": 1}")],
            [piece('{"n"', "look", id="b")],
            [piece(": 2}", id="")],
        ],
        [
            [piece('{"n"', "look", id="a"), piece('{"n"', "look", id="b")],
            [piece(": 1}", id="a"), piece(": 2}", id="b")],
        ],
        # Neither number nor name.
        [[piece('{"n"', "look")], [piece(": 1}")], [piece('{"n"', "look")], [piece(": 2}")]],
        [[piece(ONE, "look"), piece(TWO, "look")]],
        [[piece(ONE, "look", id="0"), piece(TWO, "look", id="0")]],
        # The same with every piece.
        [
            [piece('{"n"', "look", index=0, id="a")],
            [piece(": 1}", "look", index=0, id="a")],
            [piece('{"n"', "look", index=1, id="b")],
            [piece(": 2}", "look", index=1, id="b")],
        ],
        [
            [piece('{"n"', "look", id="a")],
            [piece(": 1}", "look", id="a")],
            [piece('{"n"', "look", id="b")],
            [piece(": 2}", "look", id="b")],
        ],
        [
            [piece('{"n"', "look", index=0)],
            [piece(": 1}", "look", index=0)],
            [piece('{"n"', "look", index=0)],
            [piece(": 2}", "look", index=0)],
        ],
        # Another name of its own with every piece.
        [
            [piece('{"n"', "look", index=0, id="a")],
            [piece(": 1}", index=0, id="x")],
            [piece('{"n"', "look", index=1, id="b")],
            [piece(": 2}", index=1, id="y")],
        ],
        # The arguments first.
        [
            [piece(ONE, index=0, id="a")],
            [piece("", "look", index=0, id="a")],
            [piece(TWO, index=1, id="b")],
            [piece("", "look", index=1, id="b")],
        ],
    ],
)
def test_two_calls_are_two_calls(deltas: list[list[dict[str, Any]]]) -> None:
    assert polished(deltas) == BOTH


@pytest.mark.parametrize("arguments", ["", None, "{}"])
def test_calls_without_arguments_are_told_apart_by_their_names(arguments: str | None) -> None:
    deltas = [[piece(arguments, "look", index=0, id=name)] for name in "abc"]

    assert polished(deltas) == [("look", arguments or "")] * 3


@pytest.mark.parametrize(
    "odd", [{"index": []}, {"index": None, "id": 7}, {"function": "look"}, {"function": None}]
)
def test_pieces_of_a_foreign_shape_do_no_harm(odd: dict[str, Any]) -> None:
    calls = polished([[piece(ONE, "look", index=0, id="a")], [odd]])

    assert calls == [("look", ONE)]


def test_two_calls_alike_that_stand_in_the_text_are_two_calls() -> None:
    host = Listener()
    polish = Polish(host, lambda: TextCalls({"look": {}}), PlainReader())
    call = f"<tool_call>{json.dumps({'name': 'look', 'arguments': {}})}</tool_call>"
    polish.frame({"choices": [{"delta": {"content": call * 3}}]})

    told = polish.end()

    assert host.begun == ["look"] * 3
    assert b'"index":2' in told
