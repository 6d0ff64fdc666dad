"""What the page's scripts ask about connections: each provider's diagnosis in words."""

from typing import Any

from fastapi import APIRouter

from app import wording
from app.client import DeskClient
from core.diagnosis import Diagnosis


def add_doctor(router: APIRouter, client: DeskClient) -> None:
    """The route under /ui."""

    @router.get("/doctor")
    async def doctor() -> list[dict[str, Any]]:
        return [diagnosis_view(each) for each in await client.doctor()]


def diagnosis_view(found: Diagnosis) -> dict[str, Any]:
    """One card of the Connection panel."""
    return {
        "provider": found.provider,
        "name": wording.provider_name(found.kind, found.provider),
        **found.model_dump(
            include={"url", "state", "code", "message", "evidence", "hint", "command"}
        ),
    }
