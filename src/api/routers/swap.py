"""Swaps: what a load would need, the swap itself, and what is in memory."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.responses import JSONResponse

from api.routers.models import WantedLoad
from api.services import Desk
from api.sse import stream_job, wants_events
from core.jobs import JobInfo
from core.memory_map import MemoryMap
from core.plan import SwapPlan
from core.swap import When

# Included before the routes of single models, whose paths would match these too.
router = APIRouter(prefix="/models", tags=["models"])


class PlanRequest(WantedLoad):
    """A load to think through."""

    remembered: bool = True
    """Take what is left out from the model's settings, as a load does."""


class SwapRequest(WantedLoad):
    """And what to unload for it."""

    unload: list[str] = Field(default=[], max_length=100)
    """Names of the models that go."""
    when: When = "idle"
    """`idle` waits for answers being written with them, `now` interrupts those."""


@router.get("/plan")
async def plan_load(desk: Desk, asked: Annotated[PlanRequest, Query()]) -> SwapPlan:
    """What loading this model would need, and what would have to go for it."""
    model = await desk.library.resolve(asked.model_id)
    options = asked.options
    if asked.remembered:
        options = desk.load_settings.over(model, options, takes=desk.library.load_options(model))
    return await desk.planner.plan(model, options)


@router.get("/memory")
async def memory(desk: Desk) -> MemoryMap:
    """What is in this machine's memory: models, other things, and what is free."""
    return await desk.planner.memory_map()


@router.post("/swap", response_model=JobInfo, status_code=202)
async def swap(body: SwapRequest, desk: Desk, request: Request) -> Response:
    """Unload some, load one. A job; if the load fails, what was unloaded comes back."""
    model = await desk.library.resolve(body.model_id)
    unload = [await desk.library.resolve(name) for name in body.unload]
    job = desk.swaps.start(model, unload, when=body.when, options=body.options)
    if wants_events(request):
        return stream_job(job)
    return JSONResponse(job.info.model_dump(mode="json"), 202)
