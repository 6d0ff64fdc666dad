"""One answer while it is being written: its text, its timings, and the truth about who wrote it."""

import asyncio
import time
from typing import Any

from core.chat import Answered, ChatEvent, MessageDelta, PromptProgress, ReasoningDelta, WasThinking
from core.chats import (
    Message,
    MessageStatus,
    ModelTruth,
    Problem,
    RouteNote,
    Tried,
    TurnStats,
)
from core.jobs import Job
from core.leases import Lease
from core.models import ModelInfo
from core.runs import RunInfo

# Seconds; a shorter answer came in one piece, and says nothing about speed.
SHORTEST_SPAN = 0.05
# What comes so soon behind the first token was written before we read it, as on a busy machine.
ONE_PIECE = 0.005


class Answer:
    """Takes a provider's events; what has come so far is `content` and `reasoning`."""

    def __init__(self, message: Message, model: ModelInfo) -> None:
        self.message = message
        self.grew = asyncio.Event()
        self.ended = asyncio.Event()
        self.finish_reason = "stop"
        self.model = model
        """The one that is asked now."""
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._started = time.monotonic()
        self._asked_at = self._started
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._thought_at: float | None = None
        self._thought_seconds: float | None = None
        self._deltas = 0
        self._first_piece = 0
        self._first_piece_at = 0.0
        self._reading = False
        self._end: Answered | None = None
        self._load_seconds: float | None = None
        self._tool_calls: int | None = None

    @property
    def content(self) -> str:
        return _joined(self._content)

    @property
    def reasoning(self) -> str:
        return _joined(self._reasoning)

    @property
    def truth(self) -> ModelTruth | None:
        """Which model was asked and, as far as the server said so yet, which answered."""
        truth = self.message.model
        if truth is None or self._end is None:
            return truth
        return truth.model_copy(update={"answered": self._end.model_id})

    @property
    def timings(self) -> dict[str, Any] | None:
        """The server's own figures, as llama.cpp gives them; None without."""
        timings = (self._end.raw_stats or {}).get("timings") if self._end else None
        return timings if isinstance(timings, dict) else None

    @property
    def has_begun(self) -> bool:
        """Whether there is a word of it: from then on no other model may go on."""
        return self._first_at is not None

    def move_to(self, model: ModelInfo, tried: Tried, *, asked_context: int | None) -> None:
        """The model asked so far failed before its first word; this one is asked now."""
        self.model = model
        truth = self.message.model
        if truth is None:
            return
        truth = _moved(truth, model.full_name, (tried,), asked_context=asked_context)
        self.message = self.message.model_copy(update={"model": truth})
        self._end = None

    def begin(self, lease: Lease, job: Job) -> None:
        """The model is there and is about to be asked."""
        self._load_seconds = lease.load_seconds
        self._asked_at = time.monotonic()
        truth = self.message.model
        if truth is not None:
            truth = truth.model_copy(
                update={
                    "instance_id": lease.instance.id,
                    "got_context": lease.instance.context_length,
                    "quantization": lease.model.quantization,
                }
            )
        self.message = self.message.model_copy(update={"model": truth})
        self._reading = True
        job.enter("reading")
        job.emit("prompt_processing.start")

    def take(self, event: ChatEvent, job: Job) -> None:
        """One event of the provider, passed on to the job's watchers."""
        if isinstance(event, MessageDelta):
            self._first_token("writing", job)
            self._content.append(event.content)
            self.grew.set()
            job.text("message.delta", event.content)
        elif isinstance(event, ReasoningDelta):
            self._first_token("thinking", job)
            self._reasoning.append(event.content)
            self.grew.set()
            job.text("reasoning.delta", event.content)
        elif isinstance(event, WasThinking):
            self._rethink(job)
        elif isinstance(event, PromptProgress):
            if self._reading:
                job.enter("reading", event.fraction)
                job.emit("prompt_processing.progress", progress=event.fraction)
        else:
            self._end = event
            self.finish_reason = event.finish_reason

    def made_by_run(self, run: RunInfo) -> None:
        """A run with tools made it: this is what it ends with, and what it cost."""
        self._content[:] = [run.output]
        last = run.steps[-1] if run.steps else None
        self._reasoning[:] = [last.reasoning] if last else []
        self._tool_calls = run.usage.tool_calls
        self._load_seconds = run.load_seconds
        self._end = Answered("stop", None, run.usage.input_tokens, run.usage.output_tokens)
        self.finish_reason = run.reason or "stop"
        if self.message.model is not None:
            told = {"instance_id": run.instance_id, "got_context": run.context_length}
            truth = self.message.model.model_copy(
                update={**told, "asked": run.model_id, "quantization": self.model.quantization}
            )
            self.message = self.message.model_copy(update={"model": truth})

    def end(self, status: MessageStatus, reason: str, problem: Problem | None = None) -> None:
        """Nothing more will come; `message` is now what is to be kept."""
        self.ended.set()
        self.message = self.message.model_copy(
            update={
                "content": self.content,
                "reasoning": self.reasoning,
                "status": status,
                "reason": reason,
                "problem": problem,
                "model": self.truth,
                "stats": self._stats(),
            }
        )

    def _rethink(self, job: Job) -> None:
        self._thought_at = self._thought_at or self._first_at
        self._reasoning += self._content
        self._content.clear()
        self.grew.set()
        job.enter("thinking")
        job.emit("message.was_thinking")

    def _first_token(self, phase: str, job: Job) -> None:
        now = time.monotonic()
        self._deltas += 1
        self._last_at = now
        if phase == "thinking":
            self._thought_at = self._thought_at or now
        if self._thought_at is not None and (phase == "thinking" or not self._content):
            self._thought_seconds = now - self._thought_at
        if self._first_at is None:
            self._first_at = now
        if now - self._first_at < ONE_PIECE:
            self._first_piece, self._first_piece_at = self._deltas, now
        if self._reading:
            self._reading = False
            job.emit("prompt_processing.end")
        job.enter("thinking" if phase == "thinking" else "writing")

    def _stats(self) -> TurnStats:
        end = self._end
        # A stopped answer has no usage; servers send a token a delta, so the count is close.
        output = end.output_tokens if end and end.output_tokens is not None else self._deltas
        return TurnStats(
            input_tokens=end.input_tokens if end else None,
            output_tokens=output or None,
            tokens_per_second=self._rate(output),
            time_to_first_token_seconds=(
                round(self._first_at - self._asked_at, 4) if self._first_at is not None else None
            ),
            reasoning_seconds=(
                round(self._thought_seconds, 4) if self._thought_seconds is not None else None
            ),
            load_time_seconds=self._load_seconds,
            tool_calls=self._tool_calls,
            total_seconds=round(time.monotonic() - self._started, 4),
        )

    def _rate(self, output: int) -> float | None:
        """Tokens a second after the first ones, as it is reckoned everywhere."""
        if self._last_at is None or output < 2:
            return None
        seconds = self._last_at - self._first_piece_at
        if seconds < SHORTEST_SPAN:
            return self._own_rate()
        return round(output * (1 - self._first_piece / self._deltas) / seconds, 2)

    def _own_rate(self) -> float | None:
        """What the server says of its speed; for answers that arrive in one piece."""
        said = (self._end.raw_stats or {}) if self._end else {}
        named = (("timings", "predicted_per_second"), ("stats", "tokens_per_second"))
        rates = (
            said[block].get(name) for block, name in named if isinstance(said.get(block), dict)
        )
        rate = next((each for each in rates if isinstance(each, int | float) and each > 0), None)
        return round(float(rate), 2) if rate is not None else None


def _moved(
    truth: ModelTruth,
    model_id: str,
    tried: tuple[Tried, ...],
    *,
    asked_context: int | None = None,
) -> ModelTruth:
    """The truth about the model that is asked now, with those that failed before it."""
    note = truth.route or RouteNote(asked=truth.asked, kind="asked", task="general")
    note = note.model_copy(update={"tried": (*note.tried, *tried)})
    return ModelTruth(asked=model_id, asked_context=asked_context, route=note)


def ended_with(message: Message, run: RunInfo) -> Message:
    """An answer that nobody finished, as its run ended: with its text, its cost and its reason."""
    usage, truth = run.usage, message.model
    if truth is not None:
        if run.tried:
            truth = _moved(truth, run.model_id, run.tried)
        told = {"instance_id": run.instance_id, "got_context": run.context_length}
        truth = truth.model_copy(update={**told, "asked": run.model_id})
    stats = TurnStats(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens or None,
        load_time_seconds=run.load_seconds,
        tool_calls=usage.tool_calls,
        total_seconds=usage.seconds,
    )
    return message.model_copy(
        update={
            "content": run.output,
            "reasoning": run.steps[-1].reasoning if run.steps else "",
            "status": run.state,
            "reason": run.reason or "stop",
            "problem": run.error,
            "model": truth,
            "stats": stats,
        }
    )


def _joined(pieces: list[str]) -> str:
    """The pieces as one text; folded in place, so that repeated reading stays cheap."""
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0] if pieces else ""
