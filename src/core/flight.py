"""Flights: what happened while an answer was made, as it is kept and as it is told."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from core.chats import Message, MessageStatus, ModelTruth, Problem, TurnStats
from core.models import ProviderKind
from core.redaction import Redaction
from core.timeline import Phase, Span
from core.trace import MachineTrace
from core.value import Value
from core.wire import SentRequest

# Between the texts of neighbours that were sent as one message; what `core.turns` joins them with.
JOINT = "\n\n"


class KeptMessage(Value):
    """A message of a request: where its text is kept already, or else the text itself."""

    fields: dict[str, Any]
    """Everything but the text."""
    of: tuple[str, ...] = ()
    """Ids of the chat's messages whose texts, joined, it had."""
    digest: str | None = None
    """Of that text: proves that it is still the same."""
    content: Any = None
    """The text where `of` is empty."""


class KeptRequest(Value):
    """A request without the texts that the chat has anyway."""

    method: str
    url: str
    body: dict[str, Any]
    messages: tuple[KeptMessage, ...] | None = None


class FlightRecord(Value):
    """What is kept of a flight. The rest stands in its message, and is not kept twice."""

    started_at: float
    """Unix seconds."""
    seconds: float
    provider: str
    provider_kind: ProviderKind
    phases: tuple[Span, ...]
    trace: MachineTrace
    request: KeptRequest | None = None
    response: dict[str, Any] | None = None


class FlightPhase(Value):
    """One phase. Seconds count from the flight's start."""

    phase: Phase
    start: float
    seconds: float
    tokens: int | None = None
    """Read or written in it; None where nobody counted."""
    marks: tuple[dict[str, Any], ...] = ()
    """How it moved on: `{"at", "progress", "stage"}`."""


class Flight(Value):
    """Everything about how one answer was made."""

    message_id: str
    chat_id: str
    agent_id: str | None
    status: MessageStatus
    reason: str | None
    problem: Problem | None
    started_at: float
    """Unix seconds."""
    seconds: float
    provider: str
    provider_kind: ProviderKind
    model: ModelTruth | None
    stats: TurnStats | None
    phases: tuple[FlightPhase, ...]
    trace: MachineTrace
    request: SentRequest | None
    """None when it ended before anything was sent."""
    response: dict[str, Any] | None
    """The server's own words; None when nothing came back."""


class FlightFile(Value):
    """A flight as a file to give away."""

    format: Literal["lmdesk.flight"] = "lmdesk.flight"
    version: Literal[1] = 1
    desk_version: str
    exported_at: float
    flight: Flight


def kept_request(
    sent: SentRequest, history: Sequence[Message], redaction: Redaction
) -> KeptRequest:
    """The request with references to the conversation in the place of its texts."""
    body = dict(sent.body)
    messages = body.get("messages")
    kept: tuple[KeptMessage, ...] | None = None
    if isinstance(messages, list) and all(isinstance(each, dict) for each in messages):
        kept = _kept_messages(messages, history, redaction)
        body["messages"] = None  # which keeps the place among the fields
    return KeptRequest(
        method=sent.method,
        url=redaction.text(sent.url),
        body=redaction.facts(body),
        messages=kept,
    )


def told(
    record: FlightRecord, message: Message, history: Sequence[Message], redaction: Redaction
) -> Flight:
    """The flight of this answer, made whole with the conversation above it."""
    response = record.response
    if response is not None:
        response = {
            **response,
            "content": redaction.known(message.content),
            "reasoning": redaction.known(message.reasoning),
        }
    problem = message.problem
    if problem is not None:
        problem = Problem.model_validate(redaction.facts(problem.model_dump()))
    return Flight(
        message_id=message.id,
        chat_id=message.chat_id,
        agent_id=message.agent_id,
        status=message.status,
        reason=message.reason,
        problem=problem,
        started_at=record.started_at,
        seconds=record.seconds,
        provider=record.provider,
        provider_kind=record.provider_kind,
        model=message.model,
        stats=message.stats,
        phases=_phases(record, message.stats),
        trace=record.trace,
        request=_sent(record.request, history, redaction),
        response=response,
    )


def _kept_messages(
    sent: Sequence[Mapping[str, Any]], history: Sequence[Message], redaction: Redaction
) -> tuple[KeptMessage, ...]:
    runs = _runs(history)
    kept = []
    for each in sent:
        content = each.get("content")
        fields = redaction.facts({key: value for key, value in each.items() if key != "content"})
        run = runs[0] if runs else []
        text = JOINT.join(message.content for message in run)
        if run and run[0].role == each.get("role") and text == content:
            ids = tuple(message.id for message in run)
            kept.append(KeptMessage(fields=fields, of=ids, digest=_digest(text)))
            runs = runs[1:]
        else:
            literal = (
                redaction.known(content) if isinstance(content, str) else redaction.facts(content)
            )
            kept.append(KeptMessage(fields=fields, content=literal))
    return tuple(kept)


def _runs(history: Sequence[Message]) -> list[list[Message]]:
    """Neighbours of one role, without empty messages: each was sent as one."""
    runs: list[list[Message]] = []
    for message in history:
        if not message.content.strip():
            continue
        if runs and runs[-1][0].role == message.role:
            runs[-1].append(message)
        else:
            runs.append([message])
    return runs


def _sent(
    kept: KeptRequest | None, history: Sequence[Message], redaction: Redaction
) -> SentRequest | None:
    if kept is None:
        return None
    body = dict(kept.body)
    if kept.messages is not None:
        texts = {message.id: message.content for message in history}
        body["messages"] = [
            {**each.fields, "content": _content(each, texts, redaction)} for each in kept.messages
        ]
    return SentRequest(method=kept.method, url=kept.url, body=body)


def _content(kept: KeptMessage, texts: Mapping[str, str], redaction: Redaction) -> Any:
    """The text that was sent; None when the conversation no longer has it as it was."""
    if not kept.of:
        return kept.content
    if any(message_id not in texts for message_id in kept.of):
        return None
    text = JOINT.join(texts[message_id] for message_id in kept.of)
    return redaction.known(text) if _digest(text) == kept.digest else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _phases(record: FlightRecord, stats: TurnStats | None) -> tuple[FlightPhase, ...]:
    tokens = _tokens(record, stats)
    return tuple(
        FlightPhase(
            phase=span.phase,
            start=span.start,
            seconds=span.seconds,
            tokens=tokens.get(span.phase),
            marks=tuple(mark.model_dump() for mark in span.marks),
        )
        for span in record.phases
    )


def _tokens(record: FlightRecord, stats: TurnStats | None) -> dict[Phase, int]:
    """Tokens by phase, as far as they can be told apart; a phase that came twice has none."""
    if stats is None:
        return {}
    names = [span.phase for span in record.phases]
    found: dict[Phase, int | None] = {"reading": stats.input_tokens}
    output, thoughts = stats.output_tokens, _reasoning_tokens(record.response)
    if "thinking" not in names:
        found["writing"] = output
    elif "writing" not in names:
        found["thinking"] = output
    elif output is not None and thoughts is not None:
        found |= {"thinking": thoughts, "writing": max(0, output - thoughts)}
    return {
        name: count for name, count in found.items() if count is not None and names.count(name) == 1
    }


def _reasoning_tokens(response: Mapping[str, Any] | None) -> int | None:
    usage = (response or {}).get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if isinstance(count, int) else None
