"""The routes of the fake API, as docs/api.md has them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from core.agents import Agent
from core.chat import Parameters
from core.chats import Chat, Problem
from core.diagnosis import Diagnosis, from_health
from core.errors import DeskError
from core.hardware import HardwareSnapshot
from core.jobs import Job, JobInfo
from core.models import ModelInfo, ProviderHealth
from tests.fake_api.machine import providers, sample
from tests.fake_api.work import load_model, no_chat, problem, start_turn
from tests.fake_api.world import World


def fake_api(world: World) -> FastAPI:
    """The API over this world."""
    app = FastAPI()

    @app.exception_handler(DeskError)
    async def refuse(_: Request, error: DeskError) -> JSONResponse:
        return problem(409, error.code, error.message, error.hint)

    @app.middleware("http")
    async def note(request: Request, call_next: Any) -> Any:
        world.requests.append((request.method, request.url.path, dict(request.headers)))
        return await call_next(request)

    _models_routes(app, world)
    _chat_routes(app, world)
    _job_routes(app, world)
    _rest(app, world)
    return app


def _models_routes(app: FastAPI, world: World) -> None:
    @app.get("/api/v1/models/")
    async def models() -> list[ModelInfo]:
        return list(world.models.values())

    @app.get("/api/v1/models/loaded")
    async def loaded() -> list[ModelInfo]:
        return [model for model in world.models.values() if model.loaded]

    @app.get("/api/v1/models/search")
    async def search(q: str) -> list[ModelInfo]:
        return [model for model in world.models.values() if q.lower() in model.name.lower()]

    @app.get("/api/v1/models/providers/health")
    async def health() -> list[ProviderHealth]:
        return providers(world)

    @app.get("/api/v1/doctor")
    async def doctor() -> list[Diagnosis]:
        return [from_health(each) for each in providers(world)]

    @app.post("/api/v1/models/load")
    async def load(request: Request, wait: bool = True) -> Any:
        name = (await request.json())["model_id"]
        if name not in world.models:
            closest = list(world.models)[:1]
            return problem(
                404,
                "model_not_found",
                f"No provider serves a model named '{name}'.",
                f"Did you mean {closest[0]}?",
                candidates=closest,
            )
        job = world.jobs.start(Job("load", model_id=name), lambda job: load_model(world, job, name))
        if not wait:
            return JSONResponse(job.info.model_dump(), 202)
        await job.ended.wait()
        return {"success": True, "message": "Loaded.", "model_id": name}

    @app.post("/api/v1/models/unload")
    async def unload(request: Request) -> Any:
        asked = await request.json()
        name = asked["model_id"]
        users = [j for j in world.jobs.list(state="running", kind="turn") if j.model_id == name]
        if users and not asked.get("force"):
            chats = [job.chat_id for job in users]
            return problem(
                409,
                "model_in_use",
                "An answer is being written with this model.",
                "Stop it first, or unload anyway.",
                chats=chats,
            )
        for job in users:
            await world.jobs.stop(job.id, state="interrupted", reason="model_unloaded")
        await asyncio.sleep(0.4)
        world.set_model(name, state="not-loaded", instances=())
        return {"success": True, "message": "Unloaded.", "model_id": name}


def _chat_routes(app: FastAPI, world: World) -> None:
    @app.get("/api/v1/chats")
    async def chats(q: str = "", limit: int = 50, offset: int = 0) -> dict[str, Any]:
        shown = [c for c in world.chats.values() if c.deleted_at is None]
        if q:
            shown = [c for c in (_matching(world, chat, q) for chat in shown) if c]
        shown.sort(key=lambda chat: -chat.updated_at)
        part = shown[offset : offset + limit]
        end = offset + limit
        return {
            "chats": [chat.model_dump() for chat in part],
            "total": len(shown),
            "next_offset": end if end < len(shown) else None,
        }

    @app.post("/api/v1/chats", status_code=201)
    async def create(request: Request) -> Chat:
        return world.new_chat(**await request.json())

    @app.get("/api/v1/chats/{chat_id}")
    async def read(chat_id: str) -> Any:
        chat = world.chats.get(chat_id)
        if chat is None or chat.deleted_at is not None:
            return no_chat()
        return {"chat": chat.model_dump(), "messages": [m.model_dump() for m in world.branch(chat)]}

    @app.patch("/api/v1/chats/{chat_id}")
    async def change(chat_id: str, request: Request) -> Any:
        if chat_id not in world.chats:
            return no_chat()
        asked = await request.json()
        if "parameters" in asked:
            asked["parameters"] = Parameters(**asked["parameters"])
        return world.change_chat(chat_id, **asked)

    @app.delete("/api/v1/chats/{chat_id}", status_code=204)
    async def delete(chat_id: str) -> Response:
        world.change_chat(chat_id, deleted_at=time.time())
        return Response(status_code=204)

    @app.post("/api/v1/chats/{chat_id}/restore")
    async def restore(chat_id: str) -> Chat:
        return world.change_chat(chat_id, deleted_at=None)

    @app.post("/api/v1/chats/{chat_id}/turns", status_code=202)
    async def turn(chat_id: str, request: Request) -> Any:
        return start_turn(world, chat_id, await request.json())


def _matching(world: World, chat: Chat, q: str) -> Chat | None:
    for message in world.messages[chat.id].values():
        at = message.content.lower().find(q.lower())
        if at >= 0:
            return chat.model_copy(
                update={"snippet": "…" + message.content[max(0, at - 20) : at + 60]}
            )
    return chat if q.lower() in chat.title.lower() else None


def _job_routes(app: FastAPI, world: World) -> None:
    @app.get("/api/v1/jobs")
    async def jobs(state: str | None = None) -> list[JobInfo]:
        return [job.info for job in world.jobs.list(state=state)]  # type: ignore[arg-type]

    @app.get("/api/v1/jobs/{job_id}")
    async def job(job_id: str) -> Any:
        try:
            return world.jobs.get(job_id).info
        except DeskError as error:
            return problem(404, error.code, error.message, error.hint)

    @app.get("/api/v1/jobs/{job_id}/events")
    async def events(job_id: str, after: int = 0, merge_ms: int = 0) -> Any:
        try:
            found = world.jobs.get(job_id)
        except DeskError as error:
            return problem(404, error.code, error.message, error.hint)
        return StreamingResponse(_sse(found, after, merge_ms), media_type="text/event-stream")

    @app.post("/api/v1/jobs/{job_id}/stop")
    async def stop(job_id: str) -> JobInfo:
        return (await world.jobs.stop(job_id)).info


async def _sse(job: Job, after: int, merge_ms: int) -> AsyncGenerator[str]:
    async for batch in job.watch(after=after, merge_seconds=merge_ms / 1000):
        if not batch:
            yield f"data: {json.dumps({'type': 'tick', 'seconds': 1})}\n\n"
        for event in batch:
            yield f"id: {event.number}\ndata: {json.dumps(event.data)}\n\n"


def _rest(app: FastAPI, world: World) -> None:
    @app.get("/api/v1/agents")
    async def agents() -> list[Agent]:
        return list(world.agents.values())

    @app.get("/api/v1/agents/{agent_id}")
    async def agent(agent_id: str) -> Any:
        found = world.agents.get(agent_id)
        return found or problem(404, "agent_not_found", "There is no such agent.")

    @app.get("/api/v1/hardware")
    async def hardware() -> HardwareSnapshot:
        return sample(world, time.time())

    @app.get("/api/v1/hardware/history")
    async def history(seconds: int = 300) -> dict[str, Any]:
        now = time.time()
        samples = [sample(world, now - age).model_dump() for age in range(min(seconds, 300), 0, -1)]
        return {"interval_seconds": 1.0, "samples": samples}

    @app.get("/api/v1/pulse")
    async def pulse(chat_id: str | None = None) -> dict[str, Any]:
        now = time.time()
        chat = world.chats.get(chat_id) if chat_id else None
        return {
            "at": now,
            "version": "0.1.0",
            "hardware": sample(world, now).model_dump(),
            "models_revision": world.models_revision,
            "chats_revision": world.chats_revision,
            "providers": [each.model_dump() for each in providers(world)],
            "embedded_in_use": world.embedded,
            "picks_loaded": True,
            "jobs": [job.info.model_dump() for job in world.jobs.list(state="running")],
            "chat": None
            if chat is None
            else {
                "id": chat.id,
                "revision": world.chat_revisions[chat.id],
                "running_job_id": chat.running_job_id,
            },
        }

    @app.post("/fake/{name}")
    async def script(name: str, request: Request) -> dict[str, str]:
        """Change the world while looking at the page: gpus, embedded, rate, thinks, fail_next."""
        value = await request.json()
        setattr(world, name, Problem(**value) if name == "fail_next" else value)
        return {"set": name}
