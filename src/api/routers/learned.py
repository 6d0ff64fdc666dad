"""What this machine learned of its models, and measuring one on request."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.responses import JSONResponse

from api.routers.models import ModelName
from api.services import Desk
from api.sse import stream_job, wants_events
from core.jobs import JobInfo
from core.speeds import LearnedModel

# Included before the routes of single models, whose paths would match these too.
router = APIRouter(prefix="/models", tags=["models"])

MAX_COMPARED = 50


class WantedBenchmark(ModelName):
    """What to measure."""

    context_length: int | None = Field(default=None, ge=128, le=10_000_000)
    """Load it with this context for the benchmark; else as it is, or as it is loaded usually."""


@router.get("/learned")
async def learned(
    desk: Desk, model: Annotated[list[str] | None, Query(max_length=MAX_COMPARED)] = None
) -> tuple[LearnedModel, ...]:
    """What is known of all models, or of these, by model and context; the newest first."""
    return desk.learned.table(model or ())


@router.get("/compare")
async def compare(
    desk: Desk, model: Annotated[list[str], Query(min_length=1, max_length=MAX_COMPARED)]
) -> list[LearnedModel]:
    """The same of these models (any name of theirs) in the order asked for."""
    names = [(await desk.library.resolve(name)).full_name for name in model]
    rows = desk.learned.table(names)
    return sorted(rows, key=lambda row: names.index(row.model_id))


@router.post("/benchmark", response_model=JobInfo, status_code=202)
async def benchmark(body: WantedBenchmark, desk: Desk, request: Request) -> Response:
    """A job that measures how fast the model reads and writes here, in about a minute."""
    model = await desk.library.resolve(body.model_id)
    job = desk.benchmarks.start(model, body.context_length)
    if wants_events(request):
        return stream_job(job)
    return JSONResponse(job.info.model_dump(mode="json"), 202)
