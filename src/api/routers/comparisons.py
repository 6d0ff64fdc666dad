"""Comparisons: one question put to several agents and models, side by side."""

from typing import Annotated

from fastapi import APIRouter, Query, status
from pydantic import Field

from api.paging import Offset
from api.services import Desk
from core.comparisons import ComparisonDraft, ComparisonInfo, ComparisonPage, RoundDraft
from core.value import Value

router = APIRouter(prefix="/comparisons", tags=["comparisons"])


class Stop(Value):
    """What to stop."""

    column: int | None = Field(default=None, ge=1)
    """None: all that is under way, or waits."""


@router.post("", status_code=status.HTTP_202_ACCEPTED)
@router.post("/", status_code=status.HTTP_202_ACCEPTED, include_in_schema=False)
async def start_comparison(body: ComparisonDraft, desk: Desk) -> ComparisonInfo:
    """Ask all columns. Each is a chat, answered by the API whoever watches."""
    return await desk.comparisons.start(body)


@router.get("")
@router.get("/", include_in_schema=False)
async def list_comparisons(
    desk: Desk,
    q: Annotated[str, Query(max_length=500)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Offset = 0,
) -> ComparisonPage:
    """The one asked last first; `q` are words of the question."""
    return await desk.comparisons.page(query=q, limit=limit, offset=offset)


@router.get("/{comparison_id}")
async def read_comparison(comparison_id: str, desk: Desk) -> ComparisonInfo:
    """Its columns, its questions, and how each column's last answer is doing."""
    return await desk.comparisons.read(comparison_id)


@router.post("/{comparison_id}/turns", status_code=status.HTTP_202_ACCEPTED)
async def ask_again(comparison_id: str, body: RoundDraft, desk: Desk) -> ComparisonInfo:
    """A further question for all or some columns; without one, the last one again."""
    return await desk.comparisons.ask(comparison_id, body)


@router.post("/{comparison_id}/stop")
async def stop_comparison(
    comparison_id: str, desk: Desk, body: Stop | None = None
) -> ComparisonInfo:
    """Stop all columns, or one of them; answers once they have ended."""
    return await desk.comparisons.stop(comparison_id, body.column if body else None)


@router.post("/{comparison_id}/columns/{number}/keep")
async def keep_column(comparison_id: str, number: int, desk: Desk) -> ComparisonInfo:
    """Make the column's chat an ordinary one, which stays when the comparison goes."""
    return await desk.comparisons.keep(comparison_id, number)


@router.delete("/{comparison_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_comparison(comparison_id: str, desk: Desk) -> None:
    """Hide it, with the columns that were not kept; `restore` brings them back for 30 days."""
    await desk.comparisons.delete(comparison_id)


@router.post("/{comparison_id}/restore")
async def restore_comparison(comparison_id: str, desk: Desk) -> ComparisonInfo:
    """Undo a delete."""
    return await desk.comparisons.restore(comparison_id)
