"""The running plan: what a model says it will do and how far it is, kept with one tool of ours."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.agents import PlanMode
from core.families import billions
from core.models import ModelInfo
from core.runs import PlanItem, PlanState
from core.runs_text import clean
from core.tools import Tool

NAME = "update_plan"
DESCRIPTION = (
    "Keeps a short plan that the person sees. Only for work of three steps or more. Send all items"
    " each time: at the start, and whenever one is done or the plan changes. One item is"
    " in_progress at a time. Call it together with the next tool."
)
STATES: tuple[PlanState, ...] = ("open", "in_progress", "done", "dropped")
ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "A few words."},
                    "state": {"type": "string", "enum": list(STATES)},
                },
                "required": ["text", "state"],
            },
        }
    },
    "required": ["items"],
}
# About what the lines above cost in each request.
TOKENS = 170
MAX_ITEMS = 20
MAX_CHARS = 200
# What a plan leaves of a small window is too little, and small models lose themselves in it.
SMALLEST_WINDOW = 8192
SMALLEST_BILLIONS = 3.0
# With more of the window than this taken by descriptions, there is no room for ours.
MOST_OF_WINDOW = 1 / 3
# A shorter run is over before a plan is of use.
FEWEST_ROUNDS = 5
# So often in a row the same plan may be sent; then it is not offered until something else is called.
SAME_PLANS = 3
# As other programs call the same things, which models have learned from them.
_LISTS = ("items", "plan", "todos", "tasks", "steps")
_TEXTS = ("text", "content", "step", "title", "task", "description")
_STATES = ("state", "status")
_ALIKE: Mapping[str, PlanState] = {
    "pending": "open",
    "todo": "open",
    "not_started": "open",
    "active": "in_progress",
    "doing": "in_progress",
    "current": "in_progress",
    "started": "in_progress",
    "complete": "done",
    "completed": "done",
    "finished": "done",
    "cancelled": "dropped",
    "canceled": "dropped",
    "skipped": "dropped",
}


class BadPlan(Exception):
    """A plan that cannot be taken; the text is for the model."""


class ReadPlan(NamedTuple):
    """A plan as the model sent it."""

    items: tuple[PlanItem, ...]
    told: str
    """What was made of it, where that is not what was sent; empty otherwise."""


def is_offered(
    mode: PlanMode,
    model: ModelInfo,
    tools: Sequence[Tool],
    *,
    schema_mode: bool,
    window: int | None,
    rounds: int,
) -> bool:
    """Whether a run has the tool. `auto` weighs its cost; without any tools there is no plan."""
    if not tools or mode == "off":
        return False
    if mode == "on":
        return True
    size = billions(model)
    if schema_mode or rounds < FEWEST_ROUNDS or (size is not None and size < SMALLEST_BILLIONS):
        return False
    if window is None:
        return True
    taken = sum(tool.tokens or _guessed(tool) for tool in tools) + TOKENS
    return window >= SMALLEST_WINDOW and taken <= window * MOST_OF_WINDOW


def read(arguments: object) -> ReadPlan:
    """The items of a call. Raises BadPlan, with what is wrong in a sentence."""
    entries = _entries(arguments)
    told = []
    if len(entries) > MAX_ITEMS:
        told.append(f"Only the first {MAX_ITEMS} items are kept.")
        entries = entries[:MAX_ITEMS]
    items = tuple(_item(place, entry) for place, entry in enumerate(entries, start=1))
    if any(len(item.text) > MAX_CHARS for item in items):
        told.append(f"Texts are cut at {MAX_CHARS} characters.")
        items = tuple(_cut(item) for item in items)
    return ReadPlan(items, " ".join(told))


def current(items: Sequence[PlanItem]) -> PlanItem | None:
    """What is being worked on."""
    return next((item for item in items if item.state == "in_progress"), None)


def counted(items: Sequence[PlanItem]) -> tuple[int, int]:
    """How many are done, of how many that were not dropped."""
    kept = [item for item in items if item.state != "dropped"]
    return sum(item.state == "done" for item in kept), len(kept)


def _guessed(tool: Tool) -> int:
    return (len(tool.description) + len(str(tool.arguments))) // 4


def _entries(arguments: object) -> list[Any]:
    found = arguments
    if isinstance(arguments, Mapping):
        found = next((arguments[key] for key in _LISTS if key in arguments), None)
    if isinstance(found, str):  # a list in quotes
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, list):
        raise BadPlan('Send the plan as {"items": [{"text": "…", "state": "open"}, …]}.')
    return found


def _item(place: int, entry: object) -> PlanItem:
    text: object = entry
    state: object = "open"
    if isinstance(entry, Mapping):
        text = next((entry[key] for key in _TEXTS if key in entry), None)
        state = next((entry[key] for key in _STATES if key in entry), "open")
    words = " ".join(str(clean(text)).split()) if isinstance(text, str) else ""
    if not words:
        raise BadPlan(f"Item {place} has no text. Say in a few words what is to be done.")
    return PlanItem(text=words, state=_state(place, state))


def _state(place: int, state: object) -> PlanState:
    words = str(clean(state)) if isinstance(state, str) else "?"
    said = words.strip().casefold().replace("-", "_").replace(" ", "_")
    for known in STATES:
        if said == known:
            return known
    if said in _ALIKE:
        return _ALIKE[said]
    raise BadPlan(f"Item {place} has the state {words[:40]!r}. States are: {', '.join(STATES)}.")


def _cut(item: PlanItem) -> PlanItem:
    if len(item.text) <= MAX_CHARS:
        return item
    return item.model_copy(update={"text": item.text[: MAX_CHARS - 1] + "…"})
