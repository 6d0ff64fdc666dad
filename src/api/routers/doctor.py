"""The connection doctor: what is the matter with the way to each provider, found out now."""

import asyncio

from fastapi import APIRouter

from api.services import Desk
from core.diagnosis import Diagnosis, diagnosed

router = APIRouter(tags=["doctor"])


@router.get("/doctor")
@router.get("/doctor/", include_in_schema=False)
async def connections(desk: Desk) -> list[Diagnosis]:
    """One diagnosis for each provider, within six seconds. Nothing is run and nothing changed."""
    desk.watch.someone_looks()
    return list(await asyncio.gather(*(diagnosed(p) for p in desk.library.providers)))
