"""A conversation as the page shows it: what Gradio's Chatbot gets, and what stands under each row.

Gradio joins neighbouring messages of one role into one row; `Row` number n belongs to row n on the
page.
"""

import re
from dataclasses import dataclass
from typing import Any, TypedDict

from app import wording
from app.routing_ui import route_view
from core.chats import Message

# More rows than this are asked for with "Show earlier": a long page makes each update slow.
SHOWN = 100

# Answers that ended like this go on with one click, with whatever model is picked then.
LOST_MODEL = {
    "model_changed",
    "model_unloaded",
    "model_crashed",
    "model_changed_during_execution",
}

# Fenced blocks and code spans: Markdown shows their `<` as it is.
CODE = r"(?:^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)|(`+)(?!`).+?(?<!`)\2(?!`))"
ASKED = re.compile(CODE, re.S | re.M)
# In an answer also addresses in angle brackets, and the few tags Markdown has no sign for: models
# write `<br>` in cells of tables. None of them can carry anything.
ANSWERED = re.compile(
    CODE + r"|<(?:https?://|mailto:)[^\s<>\"']+>|</?(?:br|sub|sup|kbd)\s?/?>", re.S | re.M | re.I
)


class ChatbotMessage(TypedDict, total=False):
    """One entry of a Chatbot's value."""

    role: str
    content: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transcript:
    """Both halves of a conversation on screen."""

    messages: list[ChatbotMessage]
    rows: list[dict[str, Any]]
    hidden: int
    """How many earlier messages are left out."""


def transcript(messages: tuple[Message, ...], *, everything: bool = False) -> Transcript:
    """The branch on show, without an answer that is still being written."""
    told = [m for m in messages if m.role in {"user", "assistant"} and m.status != "writing"]
    hidden = 0 if everything else max(0, len(told) - SHOWN)
    shown = told[hidden:]
    entries: list[ChatbotMessage] = []
    rows: list[dict[str, Any]] = []
    for message in shown:
        entries.extend(_entries(message))
        row = _row(message)
        if rows and rows[-1]["role"] == row["role"]:
            row["text"] = f"{rows[-1]['text']}\n\n{row['text']}"
            rows[-1] = row
        else:
            rows.append(row)
    return Transcript(entries, rows, hidden)


def _entries(message: Message) -> list[ChatbotMessage]:
    if message.role == "user":
        return [{"role": "user", "content": as_written(message.content, keep=ASKED)}]
    entries: list[ChatbotMessage] = []
    if message.reasoning:
        entries.append(thought(message.reasoning, title=_thought_title(message), thinking=False))
    if message.content or not entries:
        entries.append({"role": "assistant", "content": as_written(message.content)})
    return entries


def _thought_title(message: Message) -> str:
    seconds = message.stats.reasoning_seconds if message.stats else None
    return "Thoughts" if seconds is None else f"Thought for {wording.duration(seconds)}"


def thought(text: str, *, title: str, thinking: bool) -> ChatbotMessage:
    """A folded thought; open as long as it is being thought."""
    status = "pending" if thinking else "done"
    return {
        "role": "assistant",
        "content": as_written(text),
        "metadata": {"title": title, "status": status},
    }


def as_written(text: str, *, keep: re.Pattern[str] = ANSWERED) -> str:
    """A foreign text with its `<` and `&` kept visible instead of taken for HTML."""
    parts = []
    end = 0
    for kept in keep.finditer(text):
        parts += [_escaped(text[end : kept.start()]), kept.group(0)]
        end = kept.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": message.id,
        "parent": message.parent_id,
        "role": message.role,
        "text": message.content,
        "at": message.created_at,
        "siblings": list(message.siblings) if len(message.siblings) > 1 else [],
    }
    if message.role == "user":
        return row
    truth = message.model
    row["facts"] = [
        *(wording.written_with(truth) if truth else []),
        *wording.stats_line(message),
    ]
    stats = message.stats
    speed = stats.tokens_per_second if stats else None
    row["speed"] = None if speed is None else wording.speed(speed)
    row["tokens"] = stats.output_tokens if stats else None
    row["difference"] = wording.difference(truth) if truth else None
    row["route"] = route_view(truth) if truth else None
    worked = stats is not None and stats.tool_calls is not None
    row["run"] = message.job_id if worked else None
    row["label"] = wording.ending(message)
    row["model_id"] = truth.asked if truth else None
    proof = stats.stop_proof if stats else None
    row["proof"] = wording.stop_proof(proof) if proof else None
    row["busy"] = proof is not None and proof.state == "busy"
    row["timed"] = message.job_id is not None  # copied and imported answers were not made here
    row["lost_model"] = message.status == "interrupted" and message.reason in LOST_MODEL
    row["problem"] = message.problem.model_dump() if message.problem else None
    row["empty"] = not message.content and not message.reasoning
    return row
