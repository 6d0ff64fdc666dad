"""Downloads: looking models up on the hub, and bringing them here."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from api.services import Desk
from api.sse import stream_job, wants_events
from core.download import DownloadInfo
from core.hub import HubModel, Offer
from core.jobs import JobInfo
from core.leftovers import Leftover

router = APIRouter(prefix="/downloads", tags=["downloads"])


class DownloadRequest(BaseModel):
    """What to download."""

    model: str = Field(min_length=3, max_length=1000)
    """`owner/repository`, `owner/repository:Q4_K_M`, or its address at the hub."""
    file: str | None = Field(default=None, max_length=500)
    """One of its GGUF files, where the model does not say it."""
    provider: str | None = Field(default=None, max_length=100)
    """Who keeps it: LM Studio where it answers, else the built-in engine."""


@router.get("")
@router.get("/", include_in_schema=False)
async def list_downloads(desk: Desk) -> list[DownloadInfo]:
    """Running and lately ended ones, newest first."""
    return desk.downloads.list()


@router.post("", response_model=JobInfo, status_code=202)
@router.post("/", include_in_schema=False)
async def download(body: DownloadRequest, desk: Desk, request: Request) -> Response:
    """A job that brings the model; stopping it keeps what arrived, starting it again goes on."""
    job = await desk.downloads.start(body.model, file=body.file, provider=body.provider)
    if wants_events(request):
        return stream_job(job)
    return JSONResponse(job.info.model_dump(mode="json"), 202)


@router.get("/parts")
async def list_parts(desk: Desk) -> list[Leftover]:
    """What broken-off downloads left in the models folder, the newest first."""
    return await desk.downloads.leftovers()


@router.delete("/parts/{name:path}", status_code=204)
async def delete_part(name: str, desk: Desk) -> None:
    """Delete it: the next download of it begins anew."""
    await desk.downloads.remove_leftover(name)


@router.get("/search")
async def search(
    desk: Desk,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=50)] = 20,
) -> list[HubModel]:
    """Repositories on the hub with GGUF files, the most downloaded first."""
    return await desk.downloads.search(q, limit=limit)


@router.get("/files")
async def files(desk: Desk, model: Annotated[str, Query(min_length=3, max_length=1000)]) -> Offer:
    """What a repository has for this machine: sizes, quantizations, and where each would fit."""
    return await desk.downloads.offer(model)
