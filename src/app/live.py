"""The answer being written: a turn's events folded into what the page shows of it."""

import time
from typing import Any

from app import wording
from app.replies import JobEvent
from app.transcript import ChatbotMessage, as_written, thought
from core.jobs import JobInfo
from core.visible import visible

# Speed is that of the last two seconds, so a pause shows.
SPEED_WINDOW = 2.0
PHASES = {
    "model_load.start": "loading",
    "model_load.progress": "loading",
    "model_load.end": "reading",
    "prompt_processing.start": "reading",
    "prompt_processing.progress": "reading",
    "reasoning.delta": "thinking",
    "message.delta": "writing",
    "message.was_thinking": "thinking",
    "tool_call.start": "tools",
}


class LiveAnswer:
    """Grows with each event. Text is kept whole, as a late watcher gets it from the start."""

    def __init__(self, job: JobInfo) -> None:
        self.job = job
        self.reasoning = ""
        self.content = ""
        self.ended: dict[str, Any] | None = None
        self._phase: str = job.phase or "queued"
        self._progress, self._exact, self._stage = job.progress, job.exact, job.stage
        self._phase_at = job.phase_at
        self._notice = ""
        self._is_run = False
        self._asked: dict[str, str] = {}
        """Calls that wait for a person, by their ids."""
        self._thought_from: float | None = None
        self._thought_seconds: float | None = None
        self._written_from: float | None = None
        self._tokens = 0
        self._last_number = 0
        self._recent: list[tuple[float, int]] = []

    def take(self, event: JobEvent) -> None:
        """Fold in one event."""
        phase = PHASES.get(event.type)
        self._take_run(event)
        if event.type == "job.end":
            self.ended = event.data
        if event.type == "notice":
            self._notice = str(event.data.get("message", ""))
        if phase is None:
            return
        fresh = event.number is None or event.number > self.job.last_event
        if fresh:
            self._enter(phase, event.data)
        self._take_text(event, fresh=fresh)
        self._count(event, fresh=fresh)

    def _take_text(self, event: JobEvent, *, fresh: bool) -> None:
        if event.type == "reasoning.delta":
            self.reasoning += event.data["content"]
            if fresh and self._thought_from is None:
                self._thought_from = time.time()
        elif event.type == "message.delta":
            if self._thought_from is not None and self._thought_seconds is None:
                self._thought_seconds = time.time() - self._thought_from
            if fresh and self._written_from is None:
                self._written_from = time.time()
            self.content += event.data["content"]
        elif event.type == "message.was_thinking":
            self.reasoning, self.content = self.reasoning + self.content, ""
            self._thought_from = self._thought_from or self._written_from
            self._thought_seconds = None

    def _take_run(self, event: JobEvent) -> None:
        """What is told only by an answer that is worked out with tools."""
        if event.type == "step.start":  # what was written before led to its tool calls
            self._is_run = True
            self.content = self.reasoning = ""
        elif event.type == "approval.requested":
            name = visible(f"{event.data['server']}.{event.data['tool']}")
            self._asked[event.data["call_id"]] = name
        elif event.type == "approval.resolved":
            self._asked.pop(event.data["call_id"], None)

    def _enter(self, phase: str, data: dict[str, Any]) -> None:
        if phase != self._phase:
            self._phase, self._phase_at = phase, time.time()
        self._progress = data.get("progress")
        self._exact, self._stage = data.get("exact"), data.get("stage")

    def _count(self, event: JobEvent, *, fresh: bool) -> None:
        """Deltas are numbered one by one, so a merged event tells how many tokens it holds."""
        number = event.number or self._last_number
        if event.type in {"reasoning.delta", "message.delta"}:
            count = max(1, number - self._last_number)
            self._tokens += count
            if fresh:
                self._recent.append((time.time(), count))
        self._last_number = max(number, self._last_number)

    @property
    def phase(self) -> str:
        return self._phase

    def messages(self) -> list[ChatbotMessage]:
        """The value of the live Chatbot; empty as long as nothing is written."""
        entries: list[ChatbotMessage] = []
        if self.reasoning:
            thinking = not self.content
            entries.append(thought(self.reasoning, title=self._title(thinking), thinking=thinking))
        if self.content:
            entries.append({"role": "assistant", "content": as_written(self.content)})
        return entries

    def _title(self, thinking: bool) -> str:
        if thinking:
            since = self._thought_from
            return f"Thinking · {int(time.time() - since)} s" if since else "Thinking"
        seconds = self._thought_seconds
        return f"Thought for {wording.duration(seconds)}" if seconds is not None else "Thoughts"

    def state(self) -> dict[str, Any]:
        """The line under the live answer. `age` is seconds in this phase."""
        words = wording.phase(
            self._phase, progress=self._progress, exact=self._exact, stage=self._stage
        )
        if self._asked:
            words = f"Waiting for you: {next(iter(self._asked.values()))}"
        return {
            "job_id": self.job.id,
            "message_id": self.job.message_id,
            "phase": self._phase,
            "words": words,
            "run": self._is_run,
            "notice": "" if self.content or self.reasoning else self._notice,
            "progress": self._progress,
            "age": round(max(0.0, time.time() - self._phase_at), 1),
            "speed": self._speed(),
            "tokens": self._tokens,
        }

    def _speed(self) -> str | None:
        now = time.time()
        self._recent = [(at, count) for at, count in self._recent if at > now - SPEED_WINDOW]
        if len(self._recent) < 3:
            return None
        span = max(now - self._recent[0][0], 0.1)
        return wording.speed(sum(count for _, count in self._recent[1:]) / span)
