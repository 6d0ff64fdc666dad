"""What the page's scripts ask about how a model is loaded: its settings, and what they would need."""

from typing import Any

from fastapi import APIRouter

from app.client import DeskClient
from app.replies import Reply
from core.load_settings import LoadSettingsView
from core.models import LoadOptions


class SettingsAsked(Reply):
    """Options of a model's loads. What is null is left to its provider."""

    model_id: str
    options: LoadOptions


def add_load_settings(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/models/settings."""

    @router.get("/models/settings")
    async def settings(model_id: str) -> dict[str, Any]:
        return settings_view(await client.load_settings(model_id))

    @router.put("/models/settings")
    async def keep(asked: SettingsAsked) -> dict[str, Any]:
        return settings_view(await client.keep_load_settings(asked.model_id, asked.options))

    @router.post("/models/settings/estimate")
    async def estimate(asked: SettingsAsked) -> dict[str, Any]:
        plan = await client.load_plan(asked.model_id, asked.options)
        return {"words": " ".join(plan.sentences), "fits": plan.fits}


def settings_view(settings: LoadSettingsView) -> dict[str, Any]:
    """The remembered options, and the context of what is loaded now."""
    contexts = [each.context_length for each in settings.loaded]
    return {
        "model_id": settings.model_id,
        "options": settings.options.model_dump(),
        "takes": settings.takes,
        "max_context_length": settings.max_context_length,
        "loaded": bool(settings.loaded),
        "loaded_context": contexts[0] if contexts else None,
    }
