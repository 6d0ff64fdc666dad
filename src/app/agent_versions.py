"""The versions of an agent, each with its difference to the newest one in words."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

from core.agents import Agent, AgentTool

ABSENT = "not set"
LONGEST = 90
ABILITIES = {"vision": "sees pictures", "tools": "uses tools", "reasoning": "thinks first"}
APPROVALS = {"ask": "asks each time", "read-only": "reads freely", "auto": "never asks"}
PLANS = {"auto": "where it suits", "on": "always", "off": "never"}
PLAIN = {"name": "Name", "picture": "Picture", "description": "Purpose"}
PARAMETERS = {
    "temperature": "Temperature",
    "top_p": "Top-p",
    "top_k": "Top-k",
    "max_tokens": "Max tokens",
    "system_prompt": "System prompt",
}
LIMITS = {
    "rounds": "Rounds",
    "tokens": "Tokens",
    "minutes": "Minutes",
    "result_chars": "Characters of a result",
}


def version_views(versions: list[Agent]) -> list[dict[str, Any]]:
    """Newest first, as given."""
    return [
        {
            "version": each.version,
            "at": each.updated_at,
            "current": each is versions[0],
            "changes": differences(each, versions[0]),
        }
        for each in versions
    ]


def differences(then: Agent, now: Agent) -> list[dict[str, Any]]:
    """What was otherwise: per field its label, a sentence, and for long texts the lines on each side."""
    found = [
        *(_plain(label, getattr(then, key), getattr(now, key)) for key, label in PLAIN.items()),
        _lines("Instructions", then.instructions.splitlines(), now.instructions.splitlines()),
        _lines("Starters", then.starters, now.starters),
        _plain("Models", ", ".join(then.models), ", ".join(now.models)),
        _plain("Needs", *(", ".join(ABILITIES[n] for n in each.needs) for each in (then, now))),
        *_each(PARAMETERS, then.parameters, now.parameters),
        _lines("Tools", [_tool(t) for t in then.tools], [_tool(t) for t in now.tools]),
        *_each(LIMITS, then.limits, now.limits),
        _plain("Running plan", *(PLANS[each.plan] for each in (then, now))),
        _plain("Another model answers", *(_strict(each.strict) for each in (then, now))),
    ]
    return [change for change in found if change is not None]


def _each(labels: dict[str, str], then: Any, now: Any) -> list[dict[str, Any] | None]:
    return [_plain(label, getattr(then, key), getattr(now, key)) for key, label in labels.items()]


def _plain(label: str, then: Any, now: Any) -> dict[str, Any] | None:
    if then == now:
        return None
    return {"field": label, "words": f"was {_said(then)}, now {_said(now)}", "then": [], "now": []}


def _lines(label: str, then: Iterable[str], now: Iterable[str]) -> dict[str, Any] | None:
    """Only the lines that are on one side alone."""
    old, new = list(then), list(now)
    gone: list[str] = []
    come: list[str] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            gone += old[a:b]
            come += new[c:d]
    if not gone and not come:
        return None
    sides = ((len(come), "added since"), (len(gone), "removed"))
    words = ", ".join(f"{number} {what}" for number, what in sides if number)
    return {"field": label, "words": words, "then": gone, "now": come}


def _said(value: Any) -> str:
    if value is None or value == "":
        return ABSENT
    if isinstance(value, int | float):
        return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
    text = str(value)
    return f"“{text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'}”"


def _tool(tool: AgentTool) -> str:
    return f"{tool.server}: {tool.tool or 'all tools'}, {APPROVALS[tool.approval]}"


def _strict(strict: bool) -> str:
    return "a failure" if strict else "allowed"
