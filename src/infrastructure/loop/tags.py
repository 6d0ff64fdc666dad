"""Calls that a model writes into its text, because its template or its server did not catch them.

Each family of models has its own way: Hermes and Qwen `<tool_call>{…}</tool_call>`, Qwen3-Coder
`<function=name><parameter=key>…`, Llama `<|python_tag|>{…}`, Mistral `[TOOL_CALLS][{…}]`, and small
ones a bare or fenced `{"name": …, "arguments": …}`.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infrastructure.loop.reader import TextCall

MARKS = (
    "<tool_call>",
    "<function_call>",
    "<function=",
    "<|python_tag|>",
    "<|tool_call|>",
    "[TOOL_CALLS]",
)
# These open an answer of another kind too, so they count at its beginning alone.
_OPENINGS = ("{", "[", "```")
_SPANS = (
    re.compile(r"<(tool_call|function_call)>(?P<inside>.*?)(?:</\1>|\Z)", re.DOTALL),
    re.compile(r"(?P<inside><function=.*?)(?:</function>|\Z)", re.DOTALL),
    re.compile(r"(?:<\|python_tag\|>|<\|tool_call\|>)(?P<inside>.*)\Z", re.DOTALL),
    re.compile(r"\[TOOL_CALLS\](?P<inside>.*)\Z", re.DOTALL),
)
_FUNCTION = re.compile(r"<function=(?P<name>[^>\s]+)>(?P<inside>.*)", re.DOTALL)
_PARAMETER = re.compile(
    r"<parameter=(?P<key>[^>\s]+)>\n?(?P<value>.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)",
    re.DOTALL,
)
_NAMED_ARGS = re.compile(r"\s*(?P<name>[\w.-]+)\s*(?:\[ARGS\])?\s*(?P<inside>\{.*)", re.DOTALL)
_NAME = re.compile(r'"(?:name|function|tool)"\s*:\s*"(?P<name>[^"]+)"')
_FENCE = re.compile(r"\A\s*```[\w-]*\n(?P<inside>.*?)\n?```\s*\Z", re.DOTALL)
# A longer text that begins like a call is none.
_MAX_HELD = 200_000


class TextCalls:
    """Holds back what may be a call; everything else goes through at once."""

    def __init__(self, tools: Mapping[str, Mapping[str, Any]]) -> None:
        """`tools`: the schema of each tool's arguments, by name."""
        self._tools = tools
        self._held = ""
        self._begun = False
        self._marked = False

    def feed(self, text: str) -> str:
        """What is certainly answer by now."""
        self._held += text
        if len(self._held) > _MAX_HELD:
            return self._all()
        if self._marked:
            return ""
        if not self._begun:
            head = self._held.lstrip()
            if not head or any(o.startswith(head[: len(o)]) for o in _OPENINGS):
                return ""
            self._begun = True
        places = [place for mark in MARKS if (place := self._held.find(mark)) >= 0]
        self._marked = bool(places)
        cut = min(places) if places else len(self._held) - _half_mark(self._held)
        sure, self._held = self._held[:cut], self._held[cut:]
        return sure

    def end(self) -> tuple[str, list[TextCall]]:
        """The rest of the answer, and the calls."""
        held = self._all()
        for span in _SPANS:
            found = list(span.finditer(held))
            calls = [call for match in found for call in self._calls(match["inside"])]
            if calls:
                return span.sub("", held).strip(), calls
        return self._bare(held)

    def _bare(self, held: str) -> tuple[str, list[TextCall]]:
        """The whole answer is one call, or a list of them."""
        fenced = _FENCE.match(held)
        text = fenced["inside"] if fenced else held.strip()
        if text.startswith(("{", "[")) and text.endswith(("}", "]")):
            calls = list(calls_in(_loaded(text)))
            if calls and all(call.name in self._tools for call in calls):
                return "", calls
        return held, []

    def _calls(self, inside: str) -> list[TextCall]:
        if (function := _FUNCTION.search(inside)) is not None:
            return [self._function(function["name"], function["inside"])]
        text = inside.strip()
        if calls := list(calls_in(_loaded(text))):
            return calls
        if (named := _NAMED_ARGS.match(text)) is not None and named["name"] in self._tools:
            return [TextCall(named["name"], _first_object(named["inside"]))]
        if (name := _NAME.search(text)) is not None:
            # Broken JSON: the loop tells the model so.
            return [TextCall(name["name"], text.partition('"arguments"')[2].lstrip(" :") or text)]
        return []

    def _function(self, name: str, inside: str) -> TextCall:
        parameters = {
            found["key"]: self._value(name, found["key"], found["value"])
            for found in _PARAMETER.finditer(inside)
        }
        if parameters or "{" not in inside:
            return TextCall(name, json.dumps(parameters))
        return TextCall(name, _first_object(inside))

    def _value(self, name: str, key: str, value: str) -> Any:
        """Text, unless the tool wants something else."""
        properties = self._tools.get(name, {}).get("properties")
        wanted = properties.get(key) if isinstance(properties, dict) else None
        if isinstance(wanted, dict) and wanted.get("type") == "string":
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value

    def _all(self) -> str:
        held, self._held = self._held, ""
        self._begun = True
        return held


def calls_in(value: Any) -> Iterator[TextCall]:
    """The calls in a value that looks like one or several."""
    if isinstance(value, list):
        for each in value:
            yield from calls_in(each)
    if not isinstance(value, dict):
        return
    if isinstance(several := value.get("tool_calls"), list):
        yield from calls_in(several)
        return
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = value.get("name") or value.get("tool") or value.get("function")
    arguments = value.get("arguments", value.get("parameters", value.get("args")))
    if isinstance(name, str) and isinstance(arguments, dict | str):
        said = arguments if isinstance(arguments, str) else json.dumps(arguments)
        yield TextCall(name, said)


def _loaded(text: str) -> Any:
    """The value this text is; None if it is none. Python's own quotes count too."""
    start = min((place for sign in "{[" if (place := text.find(sign)) >= 0), default=-1)
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0]
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text[start:].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _first_object(text: str) -> str:
    start = text.find("{")
    try:
        _, length = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return text[start:].strip()
    return text[start : start + length]


def _half_mark(text: str) -> int:
    """How many characters at the end could be the beginning of a mark."""
    longest = max(map(len, MARKS)) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in MARKS):
            return length
    return 0
