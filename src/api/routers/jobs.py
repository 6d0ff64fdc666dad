"""Jobs: watching and stopping whatever takes long."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse

from api.services import Desk
from api.sse import stream_job
from core.jobs import JobInfo, JobKind, JobState

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
@router.get("/", include_in_schema=False)
async def list_jobs(
    desk: Desk, state: JobState | None = None, kind: JobKind | None = None
) -> list[JobInfo]:
    """Newest first."""
    return [desk.jobs.info(job) for job in desk.jobs.list(state=state, kind=kind)]


@router.get("/{job_id}")
async def read_job(job_id: str, desk: Desk) -> JobInfo:
    """One job."""
    return desk.jobs.info(desk.jobs.get(job_id))


@router.get("/{job_id}/events")
async def job_events(
    job_id: str,
    desk: Desk,
    after: Annotated[int | None, Query(ge=0)] = None,
    merge_ms: Annotated[int, Query(ge=0, le=10_000)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> StreamingResponse:
    """The events as Server-Sent Events, from the start or behind the number given."""
    job = desk.jobs.get(job_id)
    seen = after if after is not None else last_event_id or 0
    return stream_job(job, after=seen, merge_ms=merge_ms)


@router.post("/{job_id}/stop")
async def stop_job(job_id: str, desk: Desk) -> JobInfo:
    """Stop it; answers once it has ended. What was made so far is kept."""
    return (await desk.jobs.stop(job_id)).info
