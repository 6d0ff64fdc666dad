"""Runs in words: what was done and why, what it cost, and how it ended."""

import re
from collections.abc import Mapping
from typing import Any

from app import wording
from core.running_plan import counted as plan_counted
from core.runs import Approval, CallRecord, PlanState, RunInfo, RunStep, RunUsage
from core.tools import ApprovalMode
from core.turn_plan import NOW_ASKS
from core.visible import visible, visible_json

# More than this is folded: a screen of arguments hides the next step.
FOLDED_CHARS = 240
# Of arguments so much stands beside their fold.
NAMED_CHARS = 160
# So much stands in one line.
LINE_CHARS = 64
STATES = {
    "running": "Working",
    "done": "Done",
    "limited": "At its limit",
    "failed": "Failed",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
}
CALL_STATES = {
    "proposed": ("…", "being written"),
    "waiting": ("?", "waits for you"),
    "running": ("◐", "running"),
    "success": ("✓", "ran"),
    "failure": ("✕", "failed"),
    "denied": ("⊘", "not allowed"),
    "invalid": ("✕", "could not be called"),
    "stopped": ("■", "not finished"),
}
PLAN_STATES: dict[PlanState, tuple[str, str]] = {
    "open": ("○", "open"),
    "in_progress": ("◐", "in progress"),
    "done": ("✓", "done"),
    "dropped": ("–", "dropped"),
}
MODES: dict[ApprovalMode, tuple[str, str]] = {
    "ask": ("Ask about each call", "Nothing runs before you said yes to it in this run."),
    "read-only": (
        "Ask unless it only reads",
        "What only reads runs by itself, unless it could carry away what was read; all else is asked"
        " about.",
    ),
    "auto": (
        "Ask about nothing",
        "All tools run by themselves, unless text from outside came in first.",
    ),
}


def shown_state(run: RunInfo) -> str:
    """Its state; of those that are done, what came to its limit is told apart."""
    limited = run.state == "done" and (run.reason or "").startswith("limit")
    return "limited" if limited else run.state


def asked(run: RunInfo) -> str:
    """What the person asked for; of a run in a chat without the conversation before it."""
    return run.task.rpartition(NOW_ASKS)[2] if run.chat_id else run.task


def note(run: RunInfo) -> str:
    """What is out of the ordinary with its model, in sentences."""
    said = [
        f"{wording.short_model(each.model_id.partition(':')[2])} failed first: {each.message}"
        for each in run.tried
    ]
    if run.schema_mode:
        said.append(
            "This model writes its calls as JSON: it has no tool support of its own, or is very small."
        )
    return " ".join(said)


def tokens(count: int) -> str:
    """`480 tokens`, `5.2k tokens`."""
    if count < 1000:
        return f"{count} token{'' if count == 1 else 's'}"
    return f"{short(count)} tokens"


def short(count: int) -> str:
    """`480`, `5.2k`, `1.3M`."""
    if count < 1000:
        return str(count)
    if count < 999_500:
        return f"{count / 1000:.1f}".removesuffix(".0") + "k"
    return f"{count / 1_000_000:.1f}".removesuffix(".0") + "M"


def cost(usage: RunUsage) -> str:
    """`3 steps · 4 tool calls · 5.2k tokens`."""
    return wording.DOT.join(
        (counted(usage.requests, "step"), counted(usage.tool_calls, "tool call"), spent(usage))
    )


def counted(count: int, what: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def spent(usage: RunUsage) -> str:
    """Tokens read and written together."""
    return tokens(usage.tokens)


def ending(run: RunInfo) -> str:
    """How it ended and why, as a sentence; empty while it works."""
    if run.state == "running":
        return ""
    if run.error is not None:
        return f"{run.error.message} {run.error.hint}".strip()
    limits = run.limits
    said = {
        "limit_rounds": f"Ended at its limit of {counted(limits.rounds, 'step')}.",
        "limit_tokens": f"Ended at its limit of {tokens(limits.tokens)}.",
        "limit_minutes": f"Ended at its limit of {wording.duration(limits.minutes * 60)}.",
        "repeated_call": "Stopped, because the model made the same call three times.",
        "model_changed_during_execution": "Ended because its model was taken away.",
        "server_stopped": "Interrupted because LM Desk stopped.",
        "denied": "Ended because a call was not allowed.",
        "context_full": "Ended because the context is full.",
    }.get(run.reason or "")
    if said:
        return said
    if run.state == "done":
        refused = sum(call.state == "denied" for step in run.steps for call in step.calls)
        return f"Done, {counted(refused, 'call')} not allowed." if refused else "Done."
    return {"stopped": "Stopped by you.", "interrupted": "Interrupted."}.get(run.state, "Failed.")


def call_facts(call: CallRecord, *, limit: int, now: float) -> list[str]:
    """Who let it run, how long it took, how much came back. `limit` is what the model gets."""
    facts = [_decided(call)]
    if call.state == "running" and call.began_at is not None:
        spent = int(max(0.0, now - call.began_at))
        facts += [call.doing, f"{spent} s" if spent < 60 else wording.duration(spent)]
    if call.seconds is not None:
        facts.append(wording.duration(call.seconds))
    if call.size > len(call.preview):
        facts.append(f"{short(call.size)} characters")
    if call.images:
        facts.append(counted(call.images, "picture"))
    if call.cut:
        facts.append(f"the model got the first {short(limit)}")
    return [fact for fact in facts if fact]


def _decided(call: CallRecord) -> str:
    denied = call.state == "denied"
    if call.decided_by == "person":
        if denied:
            return "you said no"
        return "you changed its arguments" if call.asked_arguments is not None else "you said yes"
    if call.decided_by == "timeout":
        return "nobody answered in time"
    return "you allowed it for good" if call.decided_by == "remembered" else ""


def plan_share(run: RunInfo) -> str:
    """`3 of 5`, of a run that keeps a plan; dropped items do not count."""
    done, count = plan_counted(run.plan)
    return f"{done} of {count}" if count else ""


def step_plan(step: RunStep, *, first: bool) -> str:
    """What a step did to the plan. `first`: there was none before."""
    note = step.plan
    if note is None:
        return ""
    if note.problem:
        return f"A plan was not taken: {note.problem}"
    if first:
        return f"Plan made: {counted(note.count, 'item')}"
    return f"Plan: {note.done} of {note.count} done" if note.count else "The plan was dropped"


def named(arguments: Mapping[str, Any]) -> str:
    """The arguments in a line: `page: monday.md, lines: 3`."""
    said = (
        (f"{name}: " if name else "") + (each if isinstance(each, str) else visible_json(each))
        for name, each in arguments.items()
    )
    # Broken lines are blanks in a line; any other sign that cannot be seen is written out.
    return visible(re.sub(r"[\t\r\n]", " ", ", ".join(said)))


def step_facts(step: RunStep) -> str:
    """What the request cost: `1.2k read · 80 written · 2.1 s`."""
    facts = (
        None if step.input_tokens is None else f"{short(step.input_tokens)} read",
        None if step.output_tokens is None else f"{short(step.output_tokens)} written",
        wording.duration(step.seconds) if step.seconds >= 0.05 else None,
    )
    return wording.DOT.join(fact for fact in facts if fact)


def hints(approval: Approval) -> list[dict[str, str]]:
    """What the server says of the tool, which is never a promise."""
    said = []
    if approval.read_only:
        said.append({"kind": "calm", "words": "says it only reads"})
    elif approval.read_only is False:
        said.append({"kind": "warn", "words": "can change things"})
    if approval.destructive and not approval.read_only:
        said.append({"kind": "bad", "words": "can destroy things"})
    if approval.open_world:
        said.append({"kind": "warn", "words": "reaches beyond this machine"})
    elif approval.open_world is False:
        said.append({"kind": "calm", "words": "stays on this machine"})
    if approval.read_only is None and not said:
        said.append({"kind": "warn", "words": "says nothing of what it does"})
    return said


def readable(arguments: Mapping[str, Any]) -> str:
    """All of the arguments, as JSON that can be read and edited: it means exactly them, and signs
    that nobody would see are written out."""
    line = visible_json(dict(arguments))
    return line if len(line) <= LINE_CHARS else visible_json(dict(arguments), indent=2)
