"""Reads the lines of /api/chat: bytes in, chat events out, no input or output here."""

from typing import Any

import orjson

from core.chat import (
    Answered,
    ChatEvent,
    FinishReason,
    MessageDelta,
    ReasoningDelta,
    WasThinking,
)
from infrastructure.http import ServerError, check_body
from infrastructure.providers.openai.stream import LineSplitter
from infrastructure.providers.openai.think import ThinkSplitter, Told

_REASONS: dict[str | None, FinishReason] = {"length": "length"}
_STATS = (
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


class AnswerReader:
    """What the lines have said so far."""

    __slots__ = (
        "_lines",
        "_think",
        "called",
        "done",
        "failure",
        "model",
        "said",
        "stats",
        "strange",
        "unreadable",
    )

    def __init__(self) -> None:
        self.done = False
        """The line that ends an answer came."""
        self.failure: ServerError | None = None
        """An error came in the stream; events before it are good."""
        self.model: str | None = None
        self.said = False
        """Anything at all was generated."""
        self.called = False
        """A tool was called."""
        self.stats: dict[str, Any] = {}
        """What the last line counts, durations in nanoseconds."""
        self.strange = 0
        """Lines that are no part of an answer."""
        self.unreadable = False
        """A piece of the answer came broken: what follows would have a hole before it."""
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
        self._both(self._think.flush(), events)
        return events

    def answered(self) -> Answered:
        """The last event of an answer that is whole."""
        reason = _REASONS.get(self.stats.get("done_reason"), "stop")
        return Answered(
            finish_reason="tool_calls" if self.called else reason,
            model_id=self.model,
            input_tokens=self._count("prompt_eval_count"),
            output_tokens=self._count("eval_count"),
            raw_stats={**self.stats, "timings": self._timings()} if self.stats else None,
        )

    def _timings(self) -> dict[str, float]:
        """The writing in llama.cpp's words. Not the reading: what was cached counts as read here."""
        written, took = self._count("eval_count"), self._count("eval_duration")
        if not written or not took:
            return {}
        milliseconds = took / 1e6
        return {
            "predicted_n": written,
            "predicted_ms": milliseconds,
            "predicted_per_second": written / milliseconds * 1000,
        }

    def _line(self, line: bytes, events: list[ChatEvent]) -> None:
        if not line.strip():
            return
        try:
            frame = orjson.loads(line)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict):
            self.strange += 1
            self.unreadable = line.lstrip().startswith(b"{")
            return
        if (failure := check_body(frame)) is not None:
            self.failure = failure
            return
        if self.model is None and isinstance(model := frame.get("model"), str) and model:
            self.model = model
        message = frame.get("message")
        if isinstance(message, dict):
            self._message(message, events)
        elif not frame.get("done"):
            self.strange += 1
        if frame.get("done") is True:
            self.done = True
            self.stats = {name: frame[name] for name in _STATS if frame.get(name) is not None}

    def _message(self, message: dict[str, Any], events: list[ChatEvent]) -> None:
        thinking = message.get("thinking")
        if isinstance(thinking, str) and thinking:
            self.said = True
            self._think.apart()
            events.append(ReasoningDelta(thinking))
        content = message.get("content")
        if isinstance(content, str) and content:
            self.said = True
            if self._think.passes(content):
                events.append(MessageDelta(content))
            else:
                self._both(self._think.feed(content), events)
        if message.get("tool_calls"):
            self.said = self.called = True

    @staticmethod
    def _both(told: Told, events: list[ChatEvent]) -> None:
        if told.turned:
            events.append(WasThinking())
        if told.thinking:
            events.append(ReasoningDelta(told.thinking))
        if told.answer:
            events.append(MessageDelta(told.answer))

    def _count(self, name: str) -> int | None:
        value = self.stats.get(name)
        return value if isinstance(value, int) else None
