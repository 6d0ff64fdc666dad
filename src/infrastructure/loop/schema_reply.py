"""Reads what a model wrote that was asked for JSON of a given shape: a call or the answer.

Servers that do not know the schema pass the request on without it. Then models put a fence around
the JSON, words before it, or write calls in the way they were trained to.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infrastructure.loop.reader import TextCall
from infrastructure.loop.tags import MARKS, TextCalls, calls_in

_ANSWER = re.compile(r'\s*(?:```\w*\s*)?\{\s*"answer"\s*:\s*"')
# Characters and escapes that are whole. What is left behind them may go on: `\`, `\u` with fewer
# than four digits, or the first half of a surrogate pair.
_WHOLE = re.compile(
    r"(?:[^\\]|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F]))*",
    re.DOTALL,
)
_END = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
_FENCE_BEFORE = re.compile(r"(?:\A|\n)[ \t]*```\w*\s*\Z")
_FENCE_BEHIND = re.compile(r"\s*```\s*\Z")
# So many braces are looked at before a text counts as words.
_MOST_BRACES = 64


class SchemaReply:
    """Lets the answer through as it is written, and keeps all else until it is complete."""

    def __init__(self, tools: Mapping[str, Mapping[str, Any]]) -> None:
        """`tools`: the schema of each tool's arguments, by name."""
        self._tools = tools
        self._text = ""
        self._told = 0
        """Of the answer, in raw characters."""
        self._from: int | None = None
        """Where the answer begins in the text."""

    def feed(self, text: str) -> str:
        """What is certainly answer by now."""
        self._text += text
        if self._from is None:
            found = _ANSWER.match(self._text)
            if found is None:
                return ""
            self._from = found.end()
        end = _END.match(self._text, self._from)
        raw = end[0] if end else ""
        fresh = raw[self._told :]
        closed = end is not None and self._text[end.end() : end.end() + 1] == '"'
        if not closed and (whole := _WHOLE.match(fresh)) is not None:
            fresh = whole[0]
        self._told += len(fresh)
        return _unescaped(fresh)

    def end(self) -> tuple[str, list[TextCall]]:
        """The rest of the answer, and the calls. What is neither is the answer as it stands."""
        if self._from is not None:
            return "", []
        for words, value in _objects(self._text):
            if any(mark in words for mark in MARKS):
                break
            if calls := self._calls(value, alone=not words):
                return words, calls
            if isinstance(answer := value.get("answer"), str) and len(value) == 1:
                return f"{words}\n\n{answer}" if words else answer, []
        elsewhere = TextCalls(self._tools)
        said = elsewhere.feed(self._text)
        rest, calls = elsewhere.end()
        return (said + rest, calls) if calls else (self._text, [])

    def _calls(self, value: dict[str, Any], *, alone: bool) -> list[TextCall]:
        """Those of an object of the shape that was asked for, or of one that models know."""
        name = value.get("tool")
        bare = value.keys() <= {"tool", "arguments"} and not value.get("arguments")
        if isinstance(name, str) and name in self._tools and bare:
            return [TextCall(name, "{}")]
        calls = list(calls_in(value))
        if all(call.name in self._tools for call in calls):
            return calls
        # Nothing but a call, of no tool there is: the loop tells the model so.
        return calls if alone and value.keys() == {"tool", "arguments"} else []


def _objects(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What may be meant as a step, with the words before it.

    That is the object that begins the text, whatever follows, or the one that ends it. With words
    on both sides somebody explains something. A fence around it does not count.
    """
    end = _FENCE_BEHIND.search(text)
    stop = end.start() if end else len(text.rstrip())
    decoder = json.JSONDecoder(strict=False)
    place = -1
    for _ in range(_MOST_BRACES):
        place = text.find("{", place + 1)
        if place < 0:
            return
        try:
            value, behind = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        words = _FENCE_BEFORE.sub("", text[:place]).strip()
        inside = words.endswith((",", "[", "{", '":'))
        if isinstance(value, dict) and (not words or (behind == stop and not inside)):
            yield words, value
        place = behind - 1


def _unescaped(raw: str) -> str:
    try:
        text: str = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return raw
    # Half of a pair, which no text may hold.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
