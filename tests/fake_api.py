"""A scripted API in memory, for looking at the page and for testing its client over real HTTP.

`python -m tests.fake_api [port [prefix]]` serves it together with the page on one port.
"""

import asyncio
import json
import math
import sys
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from core.agents import Agent
from core.builtin_agents import BUILTIN_AGENTS
from core.chat import Parameters
from core.chats import Chat, Message, ModelTruth, Problem, TurnStats
from core.errors import DeskError, LoadFailed
from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.jobs import Job, JobInfo, JobService
from core.models import Capabilities, Instance, ModelInfo, ProviderHealth

MAX_CHARS = 400_000
ANSWER = """Coalescing works because the browser paints at most 60 times a second, so sending 200 \
updates is wasted work.

### The idea
1. Collect tokens as they arrive
2. Flush on a **50 ms** timer
3. Send *only* the live message

```python
async def coalesce(tokens, hz=20):
    buf, last = "", 0.0
    async for t in tokens:
        buf += t
        if time.monotonic() - last >= 1 / hz:
            yield buf  # one update
            buf, last = "", time.monotonic()
    if buf:
        yield buf
```

| approach | lag p95 | browser CPU |
|---|---|---|
| every token | 36 s | 100 % |
| coalesced | 67 ms | 78 % |
| split + coalesced | 82 ms | 48 % |

Anything above `20 Hz` is invisible to the reader, and the rest of the page stays responsive.
"""
THOUGHT = (
    "The person asks about updates. I should say why many small updates cost so much, then show"
    " a short function, then numbers. A table makes the difference plain."
)


class World:
    """Everything the fake remembers. `rate` is tokens a second."""

    def __init__(self, *, rate: float = 60.0, load_seconds: float = 4.0) -> None:
        self.rate = rate
        self.load_seconds = load_seconds
        self.gpus = 1
        self.embedded = False
        self.thinks = True
        self.fail_next: Problem | None = None
        self.jobs = JobService()
        self.agents: dict[str, Agent] = {agent.id: agent for agent in BUILTIN_AGENTS}
        self.models: dict[str, ModelInfo] = {model.full_name: model for model in _models()}
        self.chats: dict[str, Chat] = {}
        self.messages: dict[str, dict[str, Message]] = {}
        self.chat_revisions: dict[str, int] = {}
        self.models_revision = 1
        self.chats_revision = 1
        self.requests: list[tuple[str, str, Any]] = []

    def touch(self, chat_id: str) -> None:
        self.chat_revisions[chat_id] = self.chat_revisions.get(chat_id, 0) + 1
        self.chats_revision += 1

    def new_chat(self, *, title: str = "", age_days: float = 0.0, **more: Any) -> Chat:
        at = time.time() - age_days * 86400
        chat = Chat(id=uuid.uuid4().hex, title=title, created_at=at, updated_at=at, **more)
        self.chats[chat.id] = chat
        self.messages[chat.id] = {}
        self.touch(chat.id)
        return chat

    def put(self, message: Message) -> None:
        self.messages[message.chat_id][message.id] = message
        self.touch(message.chat_id)

    def branch(self, chat: Chat) -> list[Message]:
        messages = self.messages[chat.id]
        found = []
        at = chat.head_id
        while at is not None:
            message = messages[at]
            siblings = [m.id for m in messages.values() if m.parent_id == message.parent_id]
            found.append(message.model_copy(update={"siblings": tuple(siblings)}))
            at = message.parent_id
        return found[::-1]

    def set_model(self, name: str, **changes: Any) -> None:
        self.models[name] = self.models[name].model_copy(update=changes)
        self.models_revision += 1

    def change_chat(self, chat_id: str, **changes: Any) -> Chat:
        self.chats[chat_id] = self.chats[chat_id].model_copy(update=changes)
        self.touch(chat_id)
        return self.chats[chat_id]


def _models() -> list[ModelInfo]:
    return [
        ModelInfo(
            id="qwen/qwen2.5-7b",
            provider="lmstudio",
            name="Qwen2.5 7B Instruct",
            state="loaded",
            instances=(Instance(id="qwen/qwen2.5-7b", context_length=8192),),
            size_bytes=4_680_000_000,
            quantization="Q4_K_M",
            parameters="7B",
            context_length=32768,
            capabilities=Capabilities(tools=True),
        ),
        ModelInfo(
            id="meta/llama-3.1-8b",
            provider="lmstudio",
            name="Llama 3.1 8B",
            size_bytes=5_730_000_000,
            quantization="Q5_K_M",
            parameters="8B",
            context_length=131072,
        ),
        ModelInfo(
            id="microsoft/phi-4-mini",
            provider="lmstudio",
            name="Phi-4 mini",
            size_bytes=4_080_000_000,
            quantization="Q8_0",
            parameters="3.8B",
            context_length=16384,
            capabilities=Capabilities(reasoning=True, tools=True),
        ),
    ]


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


def problem(status: int, code: str, detail: str, hint: str = "", **more: Any) -> JSONResponse:
    body = {"status": status, "code": code, "detail": detail, "hint": hint, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


def _no_chat() -> JSONResponse:
    return problem(404, "chat_not_found", "There is no such chat.", "It may have been deleted.")


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


async def load_model(world: World, job: Job, name: str) -> None:
    job.emit("model_load.start", model_id=name)
    world.set_model(name, state="loading")
    begun = time.monotonic()
    try:
        for step in range(51):
            stage = "reading weights" if step < 38 else "warming up"
            job.enter("loading", step / 50, exact=True, stage=stage)
            job.emit("model_load.progress", progress=step / 50, exact=True, stage=stage)
            await asyncio.sleep(world.load_seconds / 50)
        if world.fail_next is not None:
            failure, world.fail_next = world.fail_next, None
            raise LoadFailed(failure.message, hint=failure.hint)
    except BaseException:
        world.set_model(name, state="not-loaded")
        raise
    model = world.models[name]
    world.set_model(name, state="loaded", instances=(Instance(id=model.id, context_length=8192),))
    job.emit("model_load.end", model_id=name, load_time_seconds=time.monotonic() - begun)


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
            return _no_chat()
        return {"chat": chat.model_dump(), "messages": [m.model_dump() for m in world.branch(chat)]}

    @app.patch("/api/v1/chats/{chat_id}")
    async def change(chat_id: str, request: Request) -> Any:
        if chat_id not in world.chats:
            return _no_chat()
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


def start_turn(world: World, chat_id: str, asked: dict[str, Any]) -> Any:
    chat = world.chats.get(chat_id)
    if chat is None:
        return _no_chat()
    content = asked.get("content")
    if content is not None and len(content) > MAX_CHARS:
        return problem(
            413, "message_too_long", "This message is too long for any model.", "Shorten it."
        )
    if chat.running_job_id:
        return problem(409, "turn_running", "An answer is already being written in this chat.")
    name = asked.get("model_id") or chat.model_id or next(iter(world.models))
    now = time.time()
    parent = asked.get("parent_id")
    if content is not None:
        user = Message(
            id=uuid.uuid4().hex,
            chat_id=chat_id,
            role="user",
            content=content,
            created_at=now,
            parent_id=parent if "parent_id" in asked else chat.head_id,
        )
        world.put(user)
        parent = user.id
    job = Job("turn", chat_id=chat_id, message_id=uuid.uuid4().hex, model_id=name)
    answer = Message(
        id=str(job.message_id),
        chat_id=chat_id,
        parent_id=parent,
        role="assistant",
        status="writing",
        job_id=job.id,
        model=ModelTruth(asked=name),
        created_at=now,
    )
    world.put(answer)
    world.change_chat(
        chat_id,
        head_id=answer.id,
        running_job_id=job.id,
        updated_at=now,
        model_id=name,
        agent_id=asked.get("agent_id") or chat.agent_id,
        title=chat.title or (content or "")[:48],
    )
    world.jobs.start(job, lambda job: write(world, job, answer, name))
    return {"job_id": job.id, "message_id": answer.id, "user_message_id": parent}


async def write(world: World, job: Job, answer: Message, name: str) -> None:
    begun = time.monotonic()
    text = {"content": "", "reasoning": ""}
    tokens, first, status, failure = 0, 0.0, "done", None
    try:
        if not world.models[name].loaded:
            await load_model(world, job, name)
        job.enter("reading", 0.0)
        job.emit("prompt_processing.start")
        for step in range(5):
            job.enter("reading", step / 4)
            job.emit("prompt_processing.progress", progress=step / 4)
            await asyncio.sleep(0.12)
        job.emit("prompt_processing.end")
        if world.fail_next is not None:
            failure, world.fail_next = world.fail_next, None
            raise LoadFailed(failure.message, hint=failure.hint)
        first = time.monotonic() - begun
        for kind, words in (("reasoning", THOUGHT if world.thinks else ""), ("content", ANSWER)):
            job.enter("thinking" if kind == "reasoning" else "writing")
            for word in words.split(" ") if words else ():
                text[kind] += word + " "
                tokens += 1
                job.text("reasoning.delta" if kind == "reasoning" else "message.delta", word + " ")
                await asyncio.sleep(1 / world.rate)
    except DeskError as error:
        status, failure = "failed", Problem(code=error.code, message=error.message, hint=error.hint)
        raise
    except asyncio.CancelledError:
        status = job.ending[0] if job.ending else "interrupted"
        raise
    finally:
        seconds = max(time.monotonic() - begun - first, 0.001)
        world.put(
            answer.model_copy(
                update={
                    **text,
                    "status": status,
                    "problem": failure,
                    "reason": job.ending[1] if job.ending else "stop",
                    "model": ModelTruth(asked=name, answered=name.partition(":")[2]),
                    "stats": TurnStats(
                        input_tokens=42,
                        output_tokens=tokens,
                        tokens_per_second=tokens / seconds,
                        time_to_first_token_seconds=first,
                    )
                    if tokens
                    else None,
                }
            )
        )
        world.change_chat(answer.chat_id, running_job_id=None)
        job.result["message"] = world.messages[answer.chat_id][answer.id].model_dump()


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


def providers(world: World) -> list[ProviderHealth]:
    return [
        ProviderHealth(
            provider="lmstudio",
            kind="lmstudio",
            state="unreachable" if world.embedded else "ready",
            url="http://127.0.0.1:1234",
            message="LM Studio answers with 3 models.",
        )
    ]


def sample(world: World, at: float) -> HardwareSnapshot:
    def wave(low: float, high: float, speed: float) -> float:
        return low + (high - low) * (0.5 + 0.5 * math.sin(at * speed))

    gpus = tuple(
        Gpu(
            index=index,
            name="NVIDIA GeForce RTX 4090",
            utilization_percent=wave(5, 90, 0.5),
            memory_used=int(wave(14.5, 15.2, 0.1) * 2**30),
            memory_total=24 * 2**30,
            temperature_celsius=61,
            power_watts=wave(80, 310, 0.5),
            power_limit_watts=450,
        )
        for index in range(world.gpus)
    )
    driver = GpuDriver(state="ok", message="", version="560.35")
    if not gpus:
        driver = GpuDriver(
            state="no_driver", message="No NVIDIA GPU here. CPU and memory are shown."
        )
    return HardwareSnapshot(
        at=at,
        cpu_percent=wave(8, 40, 0.9),
        cpu_count=16,
        memory_used=int(13.1 * 2**30),
        memory_total=32 * 2**30,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=driver,
    )


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


def furnished() -> World:
    """A world with a past, to look at."""
    world = World()
    titles = [
        ("Draft release notes for 2.4", 0.05),
        ("Kubernetes probe settings", 0.1),
        ("Summarise the Q3 board pack", 1.1),
        ("Regex for ISO timestamps", 1.2),
        ("Trip plan: Lisbon in May", 3),
        ("Postgres index bloat", 4),
        ("Explain KV cache paging", 5),
        ('A <b>bold</b> & tricky "title" that is really much too long for the sidebar', 20),
    ]
    for title, age in titles:
        chat = world.new_chat(title=title, age_days=age, model_id="lmstudio:qwen/qwen2.5-7b")
        add_exchange(world, chat, f"Tell me about: {title}", ANSWER)
    chat = world.new_chat(
        title="Why coalesce streamed tokens?", model_id="lmstudio:qwen/qwen2.5-7b"
    )
    add_exchange(
        world,
        chat,
        "Why is my chat slow when the model is fast?",
        "Your model emits **200 tokens a second**, and every token makes the page re-render the "
        "whole conversation. The model is not the bottleneck, the `render` is.\n\nTwo changes fix "
        "it:\n\n- send updates at a fixed rate, e.g. 20 a second\n- keep finished messages out of "
        "the update",
    )
    return world


def add_exchange(world: World, chat: Chat, question: str, answer: str) -> Message:
    """A question and its answer at the end of the chat."""
    head = world.chats[chat.id].head_id
    at = world.chats[chat.id].updated_at
    asked = Message(
        id=uuid.uuid4().hex,
        chat_id=chat.id,
        parent_id=head,
        role="user",
        content=question,
        created_at=at,
    )
    told = Message(
        id=uuid.uuid4().hex,
        chat_id=chat.id,
        parent_id=asked.id,
        role="assistant",
        content=answer,
        reasoning=THOUGHT,
        created_at=at,
        model=ModelTruth(asked="lmstudio:qwen/qwen2.5-7b"),
        stats=TurnStats(
            input_tokens=30,
            output_tokens=172,
            tokens_per_second=61.4,
            time_to_first_token_seconds=0.42,
        ),
    )
    world.put(asked)
    world.put(told)
    world.change_chat(chat.id, head_id=told.id)
    return told


def main(port: int, root_path: str) -> None:
    """Serve the furnished world and the page over it."""
    import uvicorn

    from app.page import mount_page

    app = fake_api(furnished())
    page = mount_page(app, api_url=f"http://127.0.0.1:{port}", root_path=root_path)
    uvicorn.run(page, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    asked = sys.argv[1:]
    main(int(asked[0]) if asked else 7871, asked[1] if asked[1:] else "")
