"""What the Compare view asks: comparisons, their columns with words and figures, and new questions."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app import compare_words
from app.client import DeskClient
from app.replies import Reply
from core.comparisons import ComparisonInfo, ComparisonPage


class CompareAsked(Reply):
    """A comparison to start. The API says what is wrong with it."""

    content: str = ""
    columns: tuple[dict[str, Any], ...] = ()
    order: str | None = None


class RoundAsked(Reply):
    """A further question; without one, the last one again."""

    content: str | None = None
    columns: tuple[int, ...] | None = None
    order: str | None = None


class StopAsked(Reply):
    """One column, or all."""

    column: int | None = None


def add_comparisons(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/comparisons."""
    _add_asking(router, client)
    _add_keeping(router, client)


def _add_asking(router: APIRouter, client: DeskClient) -> None:
    @router.get("/comparisons")
    async def comparisons(
        q: str = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        return page_view(await client.comparisons(query=q, limit=limit, offset=offset))

    @router.post("/comparisons")
    async def start(asked: CompareAsked) -> dict[str, Any]:
        return comparison_view(await client.start_comparison(asked.model_dump(exclude_none=True)))

    @router.get("/comparisons/{comparison_id}")
    async def read(comparison_id: str) -> dict[str, Any]:
        return comparison_view(await client.comparison(comparison_id))

    @router.get("/comparisons/of/{chat_id}")
    async def whose(chat_id: str) -> dict[str, str | None]:
        """The comparison whose column this chat is, so that a link never shows a hidden chat."""
        return {"id": (await client.conversation(chat_id)).chat.comparison_id}

    @router.post("/comparisons/{comparison_id}/turns")
    async def ask(comparison_id: str, asked: RoundAsked) -> dict[str, Any]:
        body = asked.model_dump(exclude_none=True)
        return comparison_view(await client.ask_columns(comparison_id, body))

    @router.post("/comparisons/{comparison_id}/stop")
    async def stop(comparison_id: str, asked: StopAsked) -> dict[str, Any]:
        return comparison_view(await client.stop_comparison(comparison_id, asked.column))


def _add_keeping(router: APIRouter, client: DeskClient) -> None:
    @router.post("/comparisons/{comparison_id}/columns/{number}/keep")
    async def keep(comparison_id: str, number: int) -> dict[str, Any]:
        return comparison_view(await client.keep_column(comparison_id, number))

    @router.delete("/comparisons/{comparison_id}")
    async def delete(comparison_id: str) -> Response:
        await client.delete_comparison(comparison_id)
        return Response(status_code=204)

    @router.post("/comparisons/{comparison_id}/restore")
    async def restore(comparison_id: str) -> dict[str, Any]:
        return comparison_view(await client.restore_comparison(comparison_id))


def page_view(page: ComparisonPage) -> dict[str, Any]:
    """The list, the one asked last first."""
    listed = [
        {
            "id": each.id,
            "title": each.title,
            "models": [column.model_id for column in each.columns],
            "agents": [column.agent_id for column in each.columns],
            "questions": each.questions,
            "running": each.running,
            "at": each.updated_at,
        }
        for each in page.comparisons
    ]
    return {"comparisons": listed, "total": page.total, "next_offset": page.next_offset}


def comparison_view(info: ComparisonInfo) -> dict[str, Any]:
    """All of a comparison but its answers, which are painted from its chats."""
    named = compare_words.names(info)
    return {
        "id": info.id,
        "title": info.title,
        "running": info.job_id is not None,
        "questions": len(info.rounds),
        "order": info.rounds[-1].order if info.rounds else None,
        "note": compare_words.note(info, named),
        "columns": [_column_view(info, place, named) for place in range(len(info.columns))],
    }


def _column_view(info: ComparisonInfo, place: int, named: dict[int, str]) -> dict[str, Any]:
    column, now = info.columns[place], info.now[place]
    parameters = column.parameters.model_dump(exclude_none=True) if column.parameters else {}
    return {
        "number": column.number,
        "agent_id": column.agent_id,
        "model_id": column.model_id,
        "parameters": parameters,
        "chat_id": column.chat_id,
        "kept": column.kept,
        "name": named[column.number],
        "tab": compare_words.tab(column.number, named),
        "state": now.state,
        "words": compare_words.STATES[now.state],
        "waits": compare_words.waits(now, named),
        "room": compare_words.room(now),
        "round": now.round,
        "message_id": now.message_id,
        "job_id": now.job_id,
        # Not in its chat yet: shown all the same, with what it waits for.
        "question": now.question if now.message_id is None else None,
        "problem": now.problem.model_dump() if now.problem else None,
        "figures": compare_words.figures(info, now),
        "measured": now.stats is not None,
    }
