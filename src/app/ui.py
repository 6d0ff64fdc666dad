"""What the page's own scripts ask for: same-origin JSON under /ui, answered through the client.

The browser never holds the API's token, and gets words where it would only have numbers.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field

from app import wording
from app.agents_ui import add_agents
from app.client import DeskClient
from app.compare_ui import add_comparisons
from app.doctor_ui import add_doctor
from app.downloads_ui import add_downloads
from app.flight_ui import add_flights
from app.learned_ui import add_learned
from app.leftovers_ui import add_leftovers
from app.load_settings_ui import add_load_settings
from app.recipes_ui import add_recipes
from app.refusals import ServerUnreachable
from app.replies import Reply
from app.routing_ui import add_routing
from app.runs_ui import add_runs
from app.settings_ui import add_settings
from app.switching import add_switching
from app.tools_ui import add_tools
from core.chat import Parameters
from core.chats import Chat
from core.errors import DeskError, NotFound, RequestError
from core.hardware import HardwareSnapshot
from core.jobs import JobInfo
from core.pulse import Pulse


class ChatChange(Reply):
    """What a person changed about a chat."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    agent_id: str | None = None
    model_id: str | None = None
    parameters: Parameters | None = None
    head_id: str | None = None


class TurnAsked(Reply):
    """A message to send, or an answer to make again. Without a chat, one is made."""

    chat_id: str | None = None
    content: str | None = None
    model_id: str | None = None
    agent_id: str | None = None
    parameters: Parameters | None = None
    parent_id: str | None = None


class DeskRoute(APIRoute):
    """Failures go to the page's scripts in one shape, whatever handlers the app around has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except DeskError as error:
                return _problem(error)
            except RequestValidationError:
                return _problem(RequestError("That value cannot be used here."))

        return answer


def _problem(error: DeskError) -> JSONResponse:
    status = 503 if isinstance(error, ServerUnreachable) else 400
    if isinstance(error, NotFound):
        status = 404
    body = {"code": error.code, "message": error.message, "hint": error.hint, **error.extra()}
    return JSONResponse(body, status)


def desk_routes(client: DeskClient) -> APIRouter:
    """All of /ui but the static files."""
    router = APIRouter(prefix="/ui", route_class=DeskRoute, include_in_schema=False)
    _add_watching(router, client)
    _add_chats(router, client)
    add_agents(router, client)
    add_switching(router, client)
    add_routing(router, client)
    add_recipes(router, client)
    add_comparisons(router, client)
    add_runs(router, client)
    add_load_settings(router, client)
    add_learned(router, client)
    add_flights(router, client)
    add_doctor(router, client)
    add_downloads(router, client)
    add_leftovers(router, client)
    add_settings(router, client)
    add_tools(router, client)
    return router


def _add_watching(router: APIRouter, client: DeskClient) -> None:
    @router.get("/pulse")
    async def pulse(chat_id: str | None = None) -> dict[str, Any]:
        return pulse_view(await client.pulse(chat_id))

    @router.get("/history")
    async def history(seconds: Annotated[int, Query(ge=1, le=3600)] = 60) -> list[dict[str, Any]]:
        past = await client.hardware_history(seconds=seconds)
        return [hardware_view(sample) for sample in past.samples]

    @router.post("/jobs/{job_id}/stop")
    async def stop(job_id: str) -> dict[str, Any]:
        return (await client.stop_job(job_id)).model_dump()

    @router.get("/jobs/{job_id}")
    async def job(job_id: str) -> dict[str, Any]:
        return (await client.job(job_id)).model_dump()


def _add_chats(router: APIRouter, client: DeskClient) -> None:
    @router.get("/chats")
    async def chats(
        q: str = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0)] = 0,
        utc_offset: Annotated[int, Query(ge=-1000, le=1000)] = 0,
    ) -> dict[str, Any]:
        page = await client.chats(query=q, limit=limit, offset=offset)
        now = time.time()
        return {
            "chats": [
                chat_view(chat, now=now, utc_offset=utc_offset, mode_used=page.mode_used)
                for chat in page.chats
            ],
            "how": wording.searched(page),
            "total": page.total,
            "next_offset": page.next_offset,
        }

    @router.patch("/chats/{chat_id}")
    async def change(chat_id: str, asked: ChatChange) -> dict[str, Any]:
        chat = await client.update_chat(
            chat_id,
            title=asked.title,
            agent_id=asked.agent_id,
            model_id=asked.model_id,
            parameters=asked.parameters,
            head_id=asked.head_id,
        )
        return chat.model_dump()

    @router.delete("/chats/{chat_id}")
    async def delete(chat_id: str) -> Response:
        await client.delete_chat(chat_id)
        return Response(status_code=204)

    @router.post("/chats/{chat_id}/restore")
    async def restore(chat_id: str) -> dict[str, Any]:
        return (await client.restore_chat(chat_id)).model_dump()

    @router.post("/turns")
    async def turn(asked: TurnAsked) -> dict[str, Any]:
        return await start_turn(client, asked)


async def start_turn(client: DeskClient, asked: TurnAsked) -> dict[str, Any]:
    """Start the turn; a chat made for a turn that is refused is taken back."""
    chat_id = asked.chat_id
    if chat_id is None:
        chat = await client.create_chat(agent_id=asked.agent_id, model_id=asked.model_id)
        chat_id = chat.id
    try:
        if asked.chat_id is None and asked.parameters is not None:
            await client.update_chat(chat_id, parameters=asked.parameters)
        started = await client.start_turn(
            chat_id,
            content=asked.content,
            model_id=asked.model_id,
            agent_id=asked.agent_id,
            parent_id=asked.parent_id,
            as_first="parent_id" in asked.model_fields_set and asked.parent_id is None,
        )
    except DeskError:
        if asked.chat_id is None:
            await client.delete_chat(chat_id)
        raise
    return {"chat_id": chat_id, **started.model_dump()}


def chat_view(
    chat: Chat, *, now: float, utc_offset: int, mode_used: str | None = None
) -> dict[str, Any]:
    """A row of the sidebar: under its day, or under how a search found it."""
    day = wording.day_group(chat.updated_at, now=now, utc_offset_minutes=utc_offset)
    found = "With these words" if chat.score is None else "Similar in meaning"
    return {
        "id": chat.id,
        "title": chat.title or "New chat",
        "group": found if mode_used == "semantic" else day,
        "running": chat.running_job_id is not None,
        "snippet": chat.snippet,
    }


def pulse_view(pulse: Pulse) -> dict[str, Any]:
    """The pulse with its words."""
    state, words, detail = wording.providers_state(pulse.providers)
    return {
        "at": pulse.at,
        "version": pulse.version,
        "models_revision": pulse.models_revision,
        "chats_revision": pulse.chats_revision,
        "provider": {"state": state, "words": words, "detail": detail},
        "embedded_in_use": pulse.embedded_in_use,
        "picks_loaded": pulse.picks_loaded,
        "default_model": pulse.default_model,
        "hardware": hardware_view(pulse.hardware) if pulse.hardware else None,
        "jobs": [job_view(job, now=pulse.at) for job in pulse.jobs if job.state == "running"],
        "chat": pulse.chat.model_dump() if pulse.chat else None,
    }


def job_view(job: JobInfo, *, now: float) -> dict[str, Any]:
    """A running job: where it is in words, and since how many seconds nothing has moved in it."""
    return {
        **job.model_dump(include={"id", "kind", "chat_id", "model_id", "phase", "progress"}),
        "words": wording.phase(job.phase, progress=job.progress, exact=job.exact, stage=job.stage),
        "stage": wording.sentence_case(job.stage) if job.stage else None,
        "waits_for": wording.waits_for(job),
        "exact": job.exact,
        "age": max(0.0, now - job.created_at),
        "left": wording.time_left(job, now=now),
        "late": wording.is_late(job, now=now),
        "still": max(0.0, now - (job.moved_at or now)),
    }


def hardware_view(sample: HardwareSnapshot) -> dict[str, Any]:
    """The gauges: each with its share (0 to 1, null when unknown) and its words."""
    gauges: list[dict[str, Any]] = []
    for gpu in sample.gpus:
        number = f" {gpu.index}" if len(sample.gpus) > 1 else ""
        busy = gpu.utilization_percent
        gauges.append(
            {
                "key": f"gpu{gpu.index}",
                "label": f"GPU{number}",
                "share": None if busy is None else busy / 100,
                "words": "–" if busy is None else f"{busy:.0f} %",
                "detail": gpu.message or wording.gpu_detail(gpu),
                "title": gpu.name,
            }
        )
        gauges.append(
            _memory_gauge(f"vram{gpu.index}", f"VRAM{number}", gpu.memory_used, gpu.memory_total)
        )
    gauges.append(
        {
            "key": "cpu",
            "label": "CPU",
            "share": sample.cpu_percent / 100,
            "words": f"{sample.cpu_percent:.0f} %",
            "detail": "",
            "title": f"{sample.cpu_count} cores",
        }
    )
    gauges.append(_memory_gauge("ram", "RAM", sample.memory_used, sample.memory_total))
    note = "" if sample.gpus or sample.driver.state == "ok" else sample.driver.message
    return {"gauges": gauges, "note": note}


def _memory_gauge(key: str, label: str, used: int | None, total: int | None) -> dict[str, Any]:
    known = used is not None and bool(total)
    return {
        "key": key,
        "label": label,
        "share": used / total if known and used is not None and total else None,
        "words": f"{wording.memory(used or 0)}\u2009/\u2009{wording.memory(total or 0)} GB"
        if known
        else "–",
        "detail": "",
        "title": "",
    }
