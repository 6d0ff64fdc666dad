"""How models are chosen, in words: below an answer, and before a question is sent."""

from typing import Any

from fastapi import APIRouter

from app import wording
from app.client import DeskClient
from app.replies import Reply
from core.chats import ModelTruth, RouteNote
from core.routing import Route

TASK_WORDS = {
    "coding": "coding",
    "research": "research",
    "creative": "creative writing",
    "analysis": "analysis",
    "general": "a general question",
}
# Below an answer; the preview has them all.
SHOWN = 6


class PreviewAsked(Reply):
    """A question that is not sent yet."""

    content: str = ""
    agent_id: str | None = None


def add_routing(router: APIRouter, client: DeskClient) -> None:
    """The route under /ui/routing."""

    @router.post("/routing/preview")
    async def preview(asked: PreviewAsked) -> dict[str, Any]:
        return preview_view(await client.preview_route(asked.content, agent_id=asked.agent_id))


def preview_view(route: Route) -> dict[str, Any]:
    """What the card of Auto shows."""
    first = route.candidates[0]
    return {
        "model_id": first.model_id,
        "name": first.model.name,
        "loaded": first.model.loaded or not first.model.loadable,
        "task": TASK_WORDS.get(route.task, route.task),
        "task_reasons": list(route.task_reasons),
        "reasons": list(first.reasons),
        "behind": [
            {"name": each.model.name, "points": f"{each.score:g}"} for each in route.candidates[1:]
        ],
        "passed_over": [
            {"name": _short(each.model_id), "reason": each.reason} for each in route.passed_over
        ],
    }


def route_view(truth: ModelTruth) -> dict[str, Any] | None:
    """What stands below an answer whose model was chosen for the person; None for any other."""
    note = truth.route
    if note is None:
        return None
    lines = [
        *(f"{_short(each.model_id)} failed first: {each.message}" for each in note.tried),
        *_reasons(note),
        *(f"Not {_short(name)}: {reason}." for name, reason in note.passed_over[:SHOWN]),
    ]
    return {"words": _words(note, truth), "failed": _moved_on(note), "lines": lines}


def _words(note: RouteNote, truth: ModelTruth) -> str:
    used = _short(truth.asked)
    if note.tried:
        return f"{_short(note.tried[-1].model_id)} {_why(note.tried[-1].code)}, used {used}"
    if note.kind == "auto":
        return f"Auto: {TASK_WORDS.get(note.task, note.task)}"
    return f"{_short(note.asked)} could not be reached, used {used}"


def _moved_on(note: RouteNote) -> bool:
    return bool(note.tried) or note.kind == "asked"


def _why(code: str) -> str:
    return {
        "provider_unreachable": "was unreachable",
        "provider_resting": "was unreachable",
        "provider_timeout": "did not answer in time",
        "provider_busy": "was busy",
        "provider_needs_token": "wants a token",
        "not_enough_memory": "did not fit into memory",
        "model_load_failed": "could not be loaded",
        "model_crashed": "crashed",
        "context_too_long": "has too small a context",
    }.get(code, "failed")


def _reasons(note: RouteNote) -> list[str]:
    if note.kind != "auto":
        return []
    task = TASK_WORDS.get(note.task, note.task)
    said = f"{wording.sentence_case(task)}: {', '.join(note.task_reasons)}."
    return [said, *([f"Chosen for: {', '.join(note.reasons)}."] if note.reasons else [])]


def _short(full_name: str) -> str:
    return wording.short_model(full_name.partition(":")[2] or full_name)
