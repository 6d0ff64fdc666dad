"""Runs: agents at work with tools, watched, asked about, stopped and read again."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, status
from starlette.responses import JSONResponse, StreamingResponse

from api.paging import Offset
from api.services import Desk
from api.sse import HEADERS, MEDIA_TYPE, frame, stream_job, wants_events
from core.eventlog import Event
from core.runs import AllowedTool, Decision, RunDraft, RunInfo, RunPage
from core.tools import ToolImage
from core.value import Value

router = APIRouter(prefix="/runs", tags=["runs"])


class RunReceipt(Value):
    """A run that was started."""

    run_id: str
    job_id: str
    """The same: a run is a job."""
    model_id: str


class WholeResult(Value):
    """All that a call gave back."""

    text: str
    is_error: bool
    images: tuple[ToolImage, ...]
    structured: dict[str, Any] | None


@router.post("", status_code=status.HTTP_202_ACCEPTED, response_model=RunReceipt)
@router.post(
    "/",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=RunReceipt,
    include_in_schema=False,
)
async def start_run(body: RunDraft, desk: Desk, request: Request) -> Response:
    """Give a model a task and tools. It works in the API, whoever watches."""
    job = await desk.runs.start(body)
    if wants_events(request):
        return stream_job(job, headers={"X-Run-Id": job.id})
    receipt = {"run_id": job.id, "job_id": job.id, "model_id": job.model_id}
    return JSONResponse(receipt, status.HTTP_202_ACCEPTED)


@router.get("")
@router.get("/", include_in_schema=False)
async def list_runs(
    desk: Desk,
    chat_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Offset = 0,
) -> RunPage:
    """Newest first, without their steps."""
    return await desk.runs.page(chat_id=chat_id, limit=limit, offset=offset)


@router.get("/allowed")
async def list_allowed(desk: Desk) -> list[AllowedTool]:
    """What people let run for good, the newest first."""
    return desk.runs.allowed.listed()


@router.delete("/allowed/{server}", status_code=status.HTTP_204_NO_CONTENT)
async def forget_allowed(server: str, desk: Desk, tool: str | None = None) -> None:
    """Ask about it again: about one tool, or, without one, about what was said of all of them."""
    await desk.runs.allowed.forget(server, tool)


@router.get("/{run_id}")
async def read_run(run_id: str, desk: Desk) -> RunInfo:
    """As it is now: its steps, what waits for you, what it cost."""
    return await desk.runs.read(run_id)


@router.delete("/{run_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_run(run_id: str, desk: Desk) -> None:
    """Stop it, if it is under way, and hide it; `restore` brings it back for an hour or more."""
    await desk.runs.delete(run_id)


@router.post("/{run_id}/restore")
async def restore_run(run_id: str, desk: Desk) -> RunInfo:
    """Undo a delete."""
    return await desk.runs.restore(run_id)


@router.get("/{run_id}/events")
async def run_events(
    run_id: str,
    desk: Desk,
    after: Annotated[int | None, Query(ge=0)] = None,
    merge_ms: Annotated[int, Query(ge=0, le=10_000)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> StreamingResponse:
    """The events as Server-Sent Events, also of a run from before a restart."""
    seen = after if after is not None else last_event_id or 0
    await desk.runs.read(run_id)
    if (job := desk.runs.job(run_id)) is not None:
        return stream_job(job, after=seen, merge_ms=merge_ms)
    events = await desk.runs.past_events(run_id, after=seen)
    return StreamingResponse(_frames(events), media_type=MEDIA_TYPE, headers=HEADERS)


@router.get("/{run_id}/calls/{call_id}/result")
async def call_result(run_id: str, call_id: str, desk: Desk) -> WholeResult:
    """All that a call gave back, however long, with its pictures."""
    result = await desk.runs.result(run_id, call_id)
    return WholeResult(
        text=result.text,
        is_error=result.is_error,
        images=result.images,
        structured=dict(result.structured) if result.structured is not None else None,
    )


@router.post("/{run_id}/approvals/{call_id}")
async def decide(run_id: str, call_id: str, body: Decision, desk: Desk) -> dict[str, bool]:
    """Let a call run, as it is or with other arguments, or keep it from running."""
    desk.runs.decide(run_id, call_id, body)
    return {"ok": True}


@router.post("/{run_id}/stop")
async def stop_run(run_id: str, desk: Desk) -> RunInfo:
    """Stop it; answers once it has ended. What was done so far is kept."""
    return await desk.runs.stop(run_id)


async def _frames(events: list[Event]) -> AsyncGenerator[bytes]:
    for event in events:
        yield frame(event)
