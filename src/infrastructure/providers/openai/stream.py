"""Reads the event stream of /v1/chat/completions: bytes in, chat events out, no input or output here.

This runs once a token, so a line costs one orjson call and a few look-ups.
"""

from typing import Any

import orjson

from core.chat import ChatEvent, MessageDelta, PromptProgress, ReasoningDelta, WasThinking
from infrastructure.http import ServerError, check_body
from infrastructure.providers.openai.think import ThinkSplitter, Told

MAX_LINE_BYTES = 8 * 1024 * 1024
_HEAD = ("id", "object", "created", "model", "system_fingerprint")


class LineSplitter:
    """Cuts chunks into whole lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        return lines

    @property
    def too_long(self) -> bool:
        """A line longer than any event: the server is not speaking our language."""
        return len(self._rest) > MAX_LINE_BYTES

    def rest(self) -> bytes:
        """The last line, when the stream ended without a line end."""
        rest, self._rest = self._rest, b""
        return rest


class AnswerReader:
    """What a stream of chat completion chunks has said so far."""

    __slots__ = (
        "_event",
        "_lines",
        "_think",
        "done",
        "failure",
        "finish_reason",
        "head",
        "model",
        "said",
        "stats",
        "unreadable",
        "usage",
    )

    def __init__(self) -> None:
        self.done = False
        """[DONE] came: nothing that follows matters."""
        self.failure: ServerError | None = None
        """An error came in the stream; events before it are good."""
        self.finish_reason: str | None = None
        self.head: dict[str, Any] = {}
        """What the first chunk says of the whole answer: its id and the like."""
        self.model: str | None = None
        self.said = False
        """Anything at all was generated."""
        self.usage: dict[str, Any] | None = None
        self.stats: dict[str, Any] = {}
        self.unreadable = False
        """A piece of the answer came broken: what follows would have a hole before it."""
        self._event = b""
        self._lines = LineSplitter()
        self._think = ThinkSplitter()

    def feed(self, chunk: bytes) -> list[ChatEvent]:
        """The events in this chunk, in order."""
        events: list[ChatEvent] = []
        for line in self._lines.feed(chunk):
            self._line(line, events)
            if self.done or self.unreadable or self.failure is not None:
                break
        if self._lines.too_long:
            self.failure = ServerError("The stream has a line without an end.")
        return events

    def end(self) -> list[ChatEvent]:
        """The events that were still held back, when the stream is over."""
        events: list[ChatEvent] = []
        if not self.done and self.failure is None:
            self._line(self._lines.rest(), events)
        _both(self._think.flush(), events)
        return events

    def body(self, body: dict[str, Any]) -> list[ChatEvent]:
        """The events of a whole answer, from a server that does not stream."""
        events: list[ChatEvent] = []
        self._frame(body, events)
        self.done = True
        return events

    def _line(self, line: bytes, events: list[ChatEvent]) -> None:
        if line.startswith(b"data:"):
            self._data(line[5:].strip(), events)
        elif line.startswith(b"event:"):
            self._event = line[6:].strip()
        elif not line.strip():
            self._event = b""

    def _data(self, payload: bytes, events: list[ChatEvent]) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            frame = orjson.loads(payload)
        except orjson.JSONDecodeError:
            if self._event == b"error":
                self.failure = ServerError(payload.decode(errors="replace"))
                return
            # Two frames spliced into one line were seen: the later one is whole.
            spliced = payload.rpartition(b"data: ")
            try:
                frame = orjson.loads(spliced[2]) if spliced[1] else None
            except orjson.JSONDecodeError:
                frame = None
            if frame is None:
                # Anything but the beginning of a frame is no piece of the answer.
                self.unreadable = self.finish_reason is None and payload.startswith(b"{")
                return
        if self._event == b"error":
            self.failure = check_body(frame) or check_body({"error": frame})
        elif isinstance(frame, dict):
            self._frame(frame, events)

    def _frame(self, frame: dict[str, Any], events: list[ChatEvent]) -> None:
        if "error" in frame and (failure := check_body(frame)) is not None:
            self.failure = failure
            return
        if self.model is None and isinstance(model := frame.get("model"), str) and model:
            self.model = model
            self.head = {name: frame[name] for name in _HEAD if name in frame}
        choices = frame.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0], events)
        for name in ("usage", "stats", "timings", "prompt_progress"):
            if (value := frame.get(name)) and isinstance(value, dict):
                self._aside(name, value, events)

    def _choice(self, choice: dict[str, Any], events: list[ChatEvent]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._delta(delta, events)
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason

    def _delta(self, delta: dict[str, Any], events: list[ChatEvent]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self.said = True
            self._think.apart()
            events.append(ReasoningDelta(reasoning))
        content = delta.get("content")
        if isinstance(content, str) and content:
            self.said = True
            if self._think.passes(content):
                events.append(MessageDelta(content))
            else:
                _both(self._think.feed(content), events)
        if delta.get("tool_calls"):
            self.said = True

    def _aside(self, name: str, value: dict[str, Any], events: list[ChatEvent]) -> None:
        if name == "prompt_progress":
            events.append(PromptProgress(_prompt_fraction(value)))
        elif name == "usage":
            self.usage = value
        else:
            self.stats[name] = value


def _both(told: Told, events: list[ChatEvent]) -> None:
    if told.turned:
        events.append(WasThinking())
    if told.thinking:
        events.append(ReasoningDelta(told.thinking))
    if told.answer:
        events.append(MessageDelta(told.answer))


def _prompt_fraction(progress: dict[str, Any]) -> float | None:
    total, processed = progress.get("total"), progress.get("processed")
    if not isinstance(total, int) or not isinstance(processed, int) or total <= 0:
        return None
    return min(1.0, max(0.0, processed / total))
