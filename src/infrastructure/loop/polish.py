"""Polish: makes one answer what it should have been: no thinking in the text, calls as calls.

Whatever the server sends, what leaves here is a clean stream of OpenAI's chunks; and the run hears
of every word as it comes.
"""

from collections.abc import Callable
from typing import Any

import orjson

from core.runs_ports import LoopHost
from infrastructure.http import check_body
from infrastructure.loop.calls import Call, Calls
from infrastructure.loop.reader import CallReader
from infrastructure.loop.upstream import worded
from infrastructure.think import ThinkSplitter, Told

DONE = b"data: [DONE]\n\n"


class Polish:
    """One answer on its way."""

    def __init__(self, host: LoopHost, reader: Callable[[], CallReader], spare: CallReader) -> None:
        """`spare` looks for calls in the thinking, where nothing else was said."""
        self._host = host
        self._new_reader = reader
        self._reader = reader()
        self._read: list[str] = []
        """What it was given."""
        self._told = 0
        """Characters of that the run has heard of."""
        self._text: list[str] = []
        """What the loop has not got yet: it cannot be taken back there."""
        self._spare = spare
        self._thoughts: list[str] = []
        self._answered = False
        self._think = ThinkSplitter()
        self._calls = Calls()
        self._out: list[bytes] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self.said = False
        """Something of the answer has come: from now on it cannot be asked for again."""
        self.done = False
        """[DONE] came."""

    @property
    def complete(self) -> bool:
        """Whether it came to the end that its protocol wants."""
        return self.done or self._finish is not None

    def line(self, line: bytes) -> None:
        """One line of an event stream. Raises DeskError for an error in it."""
        if not line.startswith(b"data:"):
            return
        payload = line[5:].strip()
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            frame = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        if isinstance(frame, dict):
            self.frame(frame)

    def frame(self, frame: dict[str, Any]) -> None:
        """One chunk, or a whole answer from a server that does not stream."""
        if "error" in frame and (error := check_body(frame)) is not None:
            raise worded(200, error)
        if isinstance(model := frame.get("model"), str) and model:
            self._host.answered(model)
        choices = frame.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0])
        if isinstance(usage := frame.get("usage"), dict):
            self._usage = usage

    def taken(self) -> bytes:
        """The chunks made so far, once."""
        out, self._out = b"".join(self._out), []
        return out

    def end(self) -> bytes:
        """The last chunks; the answer is complete."""
        self._both(self._think.flush())
        rest, calls = self._reader.end()
        self._answer(rest)
        self._hand_on()
        if not (calls or self._calls or self._answered):
            # Some models call while they still think, and servers leave it there.
            self._spare.feed("".join(self._thoughts))
            calls = self._spare.end()[1]
        if not self._calls:  # else the text is only text
            for found in calls:
                call = self._calls.new()
                self._begin(call, found.name)
                self._arguments(call, found.arguments)
        used = self._usage
        self._host.used(_count(used, "prompt_tokens"), _count(used, "completion_tokens"))
        if self._finish == "length" and not self._calls:
            self._host.notice("length", "The answer reached the limit of its tokens.")
        finish = "tool_calls" if self._calls else self._finish or "stop"
        self._out.append(_chunk({}, finish))
        return self.taken() + DONE

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(reasoning, str) and reasoning:
                self._think.apart()
                self._thought(reasoning)
            if isinstance(content := delta.get("content"), str) and content:
                self._both(self._think.feed(content))
            calls = delta.get("tool_calls")
            calls = calls if isinstance(calls, list) else []
            for place, call in enumerate(calls):
                if isinstance(call, dict):
                    self._tool_call(call, place if len(calls) > 1 else None)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._finish = reason

    def _tool_call(self, piece: dict[str, Any], place: int | None) -> None:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(arguments, dict):  # Ollama's way
            arguments = orjson.dumps(arguments).decode()
        arguments = arguments if isinstance(arguments, str) else ""
        call = self._calls.meant(piece, place, arguments)
        if isinstance(name, str) and name and not call.name:
            self._begin(call, name)
        if arguments:
            self._arguments(call, arguments)

    def _begin(self, call: Call, name: str) -> None:
        self._heard()
        self._hand_on()
        call.name = name
        self._host.proposed(call.id, name)
        head = {"name": name, "arguments": ""}
        whole = {"index": call.index, "id": call.id, "type": "function", "function": head}
        self._out.append(_chunk({"tool_calls": [whole]}))
        if call.arguments:  # they came before it
            self._piece(call, "".join(call.arguments))

    def _arguments(self, call: Call, arguments: str) -> None:
        call.arguments.append(arguments)
        if call.name:
            self._piece(call, arguments)

    def _piece(self, call: Call, arguments: str) -> None:
        piece = {"index": call.index, "function": {"arguments": arguments}}
        self._out.append(_chunk({"tool_calls": [piece]}))

    def _both(self, told: Told) -> None:
        if told.turned:
            self._rethink()
        if told.thinking:
            self._thought(told.thinking)
        if told.answer:
            self._heard()
            self._read.append(told.answer)
            self._answer(self._reader.feed(told.answer))

    def _rethink(self) -> None:
        """What was read so far was no answer; what the reader held back is told now."""
        read = "".join(self._read)
        self._host.was_thinking()
        if held := read[self._told :]:
            self._host.reasoning(held)
        self._thoughts.append(read)
        self._reader = self._new_reader()
        self._read, self._text, self._told, self._answered = [], [], 0, False

    def _thought(self, thinking: str) -> None:
        self._heard()
        self._thoughts.append(thinking)
        self._host.reasoning(thinking)

    def _answer(self, text: str) -> None:
        if text:
            self._heard()
            self._answered = self._answered or not text.isspace()
            self._told += len(text)
            self._host.text(text)
            self._text.append(text)

    def _hand_on(self) -> None:
        if self._text:
            self._out.append(_chunk({"content": "".join(self._text)}))
            self._text = []

    def _heard(self) -> None:
        if not self.said:
            self.said = True
            self._host.first_byte()


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(
        {
            "id": "run",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "model",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
    )


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None
