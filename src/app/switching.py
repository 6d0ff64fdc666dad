"""What the page's scripts ask about models: which there are, what fits, and putting them in and out."""

from typing import Any

from fastapi import APIRouter

from app import wording
from app.client import DeskClient
from app.replies import Reply
from core.memory_map import MemoryBar, MemoryMap
from core.models import ModelInfo
from core.plan import Resident, SwapPlan
from core.plan import size as memory_size
from core.swap import When


class ModelAsked(Reply):
    """A model to load or unload."""

    model_id: str
    force: bool = False


class SwapAsked(Reply):
    """A model to load in the place of others."""

    model_id: str
    unload: list[str]
    when: When = "idle"


def add_switching(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/models."""

    @router.get("/models")
    async def models(refresh: bool = False) -> list[dict[str, Any]]:
        return [model_view(model) for model in await client.models(refresh=refresh)]

    @router.get("/models/plan")
    async def plan(model_id: str) -> dict[str, Any]:
        return plan_view(await client.load_plan(model_id))

    @router.get("/models/memory")
    async def memory() -> dict[str, Any]:
        return memory_view(await client.memory_map())

    @router.post("/models/load")
    async def load(asked: ModelAsked) -> dict[str, Any]:
        return (await client.start_load(asked.model_id)).model_dump()

    @router.post("/models/swap")
    async def swap(asked: SwapAsked) -> dict[str, Any]:
        job = await client.start_swap(asked.model_id, unload=asked.unload, when=asked.when)
        return job.model_dump()

    @router.post("/models/unload")
    async def unload(asked: ModelAsked) -> dict[str, Any]:
        return (await client.unload(asked.model_id, force=asked.force)).model_dump()


def model_view(model: ModelInfo) -> dict[str, Any]:
    """What the model bar and card show."""
    return {
        "full_name": model.full_name,
        "name": model.name,
        "kind": model.kind,
        "state": model.state,
        "loaded": model.loaded,
        "loadable": model.loadable,
        "stale": model.stale_since is not None,
        "state_words": wording.model_state(model),
        "facts": wording.model_facts(model),
    }


def plan_view(plan: SwapPlan) -> dict[str, Any]:
    """What the swap dialog shows."""
    return {
        **plan.model_dump(
            include={"model_id", "name", "loaded", "fits", "fits_after", "sentences", "unload"}
        ),
        "need_bytes": plan.need_bytes,
        "free_bytes": plan.free_bytes,
        "residents": [_resident_view(each) for each in plan.residents],
    }


def _resident_view(resident: Resident) -> dict[str, Any]:
    return {
        "model_id": resident.model_id,
        "name": resident.name,
        "bytes": resident.bytes,
        "size": wording.memory_taken(resident.bytes, resident.source),
        "ours": resident.ours,
        "chats": [chat.title for chat in resident.chats],
    }


def memory_view(found: MemoryMap) -> dict[str, Any]:
    """The memory map: per bar its words, and its parts in order with their share of the whole."""
    several = sum(bar.kind == "gpu" for bar in found.bars) > 1
    return {
        "bars": [_bar_view(bar, several=several) for bar in found.bars],
        "empty": not any(bar.slices for bar in found.bars),
    }


def _bar_view(bar: MemoryBar, *, several: bool) -> dict[str, Any]:
    label = "RAM" if bar.kind == "ram" else f"VRAM {bar.index}" if several else "VRAM"
    used = bar.total - bar.free
    models = [
        {
            "kind": "model",
            "model_id": each.model_id,
            "name": each.name,
            "share": _share(each.bytes, bar.total),
            "words": wording.memory_taken(each.bytes or None, each.source),
            "chats": each.chats,
        }
        for each in bar.slices
    ]
    rest = [
        {
            "kind": kind,
            "name": name,
            "share": _share(count, bar.total),
            "words": words,
        }
        for kind, name, count, words in (
            (
                "other",
                "Other programs",
                bar.other,
                wording.other_programs(bar.other, bar.programs),
            ),
            ("free", "Free", bar.free, memory_size(bar.free)),
        )
        if count
    ]
    return {
        "key": f"{bar.kind}{bar.index}",
        "label": label,
        "title": bar.name if bar.kind == "gpu" else "",
        "words": f"{wording.memory(used)}\u2009/\u2009{wording.memory(bar.total)} GB",
        "parts": [*models, *rest],
    }


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
