"""Loads and turns of the fake API: slow, stoppable, and in jobs like the real ones."""

import asyncio
import time
import uuid
from typing import Any

from starlette.responses import JSONResponse

from core.chats import Message, ModelTruth, Problem, TurnStats
from core.errors import DeskError, LoadFailed
from core.jobs import Job
from core.models import Instance
from tests.fake_api.world import ANSWER, THOUGHT, World

MAX_CHARS = 400_000


def problem(status: int, code: str, detail: str, hint: str = "", **more: Any) -> JSONResponse:
    body = {"status": status, "code": code, "detail": detail, "hint": hint, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


def no_chat() -> JSONResponse:
    return problem(404, "chat_not_found", "There is no such chat.", "It may have been deleted.")


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


def start_turn(world: World, chat_id: str, asked: dict[str, Any]) -> Any:
    chat = world.chats.get(chat_id)
    if chat is None:
        return no_chat()
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
