"""The page's client against an API over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from app.client import DeskClient
from app.refusals import ServerUnreachable, as_error
from app.replies import JobEvent
from core import errors
from core.chat import Parameters
from tests.fake_api import ANSWER, World, fake_api

pytestmark = pytest.mark.anyio

MODEL = "lmstudio:qwen/qwen2.5-7b"
OTHER = "lmstudio:meta/llama-3.1-8b"


@asynccontextmanager
async def serving(app: FastAPI, port: int = 0) -> AsyncGenerator[str]:
    """The app on a port of its own."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, ws="none"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listening.close()


@asynccontextmanager
async def desk(world: World, *, token: str | None = None) -> AsyncGenerator[DeskClient]:
    async with serving(fake_api(world)) as url:
        client = DeskClient(url, token=SecretStr(token) if token else None)
        try:
            yield client
        finally:
            await client.aclose()
            await world.jobs.aclose()


def quick() -> World:
    return World(rate=5000, load_seconds=0.05)


async def test_answers_come_as_the_cores_own_types() -> None:
    async with desk(quick()) as client:
        models = await client.models()
        assert models[0].full_name == MODEL
        assert models[0].instances[0].context_length == 8192
        assert [model.full_name for model in await client.loaded_models()] == [MODEL]
        assert [model.name for model in await client.search_models("phi")] == ["Phi-4 mini"]
        assert (await client.agents())[0].starters
        assert (await client.hardware_history(seconds=5)).samples[0].cpu_count == 16
        assert (await client.providers_health())[0].state == "ready"


async def test_a_turn_streams_its_text_up_to_its_end() -> None:
    async with desk(quick()) as client:
        chat = await client.create_chat(model_id=MODEL)
        started = await client.start_turn(chat.id, content="Why?")
        events = [event async for event in client.job_events(started.job_id, merge_ms=20)]
        text = "".join(e.data["content"] for e in events if e.type == "message.delta")
        assert text.split() == ANSWER.split()
        assert events[-1].type == "job.end"
        numbers = [event.number for event in events if event.number is not None]
        assert numbers == sorted(set(numbers))
        conversation = await client.conversation(chat.id)
        assert [message.role for message in conversation.messages] == ["user", "assistant"]
        pulse = await client.pulse(chat.id)
        assert pulse.chat is not None
        assert pulse.chat.running_job_id is None


async def test_events_resume_behind_the_number_seen() -> None:
    async with desk(quick()) as client:
        chat = await client.create_chat(model_id=MODEL)
        started = await client.start_turn(chat.id, content="Why?")
        everything = [event async for event in client.job_events(started.job_id)]
        middle = next(e for e in everything if e.type == "message.delta")
        assert middle.number is not None
        rest = [event async for event in client.job_events(started.job_id, after=middle.number)]
        assert rest[0].number == middle.number + 1 or rest[0].number is not None
        assert all((event.number or 0) > middle.number for event in rest)


async def test_a_lost_connection_is_taken_up_again_without_loss_or_doubling() -> None:
    world = World(rate=200)
    api = fake_api(world)
    words: list[str] = []

    async def read(client: DeskClient, job_id: str) -> list[JobEvent]:
        found = []
        async for event in client.job_events(job_id, merge_ms=10):
            found.append(event)
            if event.type == "message.delta":
                words.append(event.data["content"])
        return found

    async with serving(api) as url:
        port = int(url.rpartition(":")[2])
        client = DeskClient(url)
        chat = await client.create_chat(model_id=MODEL)
        started = await client.start_turn(chat.id, content="Why?")
        reader = asyncio.create_task(read(client, started.job_id))
        async with asyncio.timeout(20):
            while not words:
                await asyncio.sleep(0.01)
    # The server is gone; the job, which is not the server's, goes on.
    async with serving(api, port):
        async with asyncio.timeout(30):
            found = await reader
        await client.aclose()
    assert found[-1].type == "job.end"
    assert "".join(words).split() == ANSWER.split()


async def test_a_server_that_stays_away_is_said_so() -> None:
    async with serving(fake_api(quick())) as url:
        client = DeskClient(url)
        await client.models()
    with pytest.raises(ServerUnreachable) as caught:
        await client.models()
    assert caught.value.code == "server_unreachable"
    await client.aclose()


async def test_refusals_keep_code_sentence_hint_and_candidates() -> None:
    async with desk(quick()) as client:
        with pytest.raises(errors.ModelNotFound) as missing:
            await client.start_load("lmstudio:nope")
        assert missing.value.candidates == (MODEL,)
        assert missing.value.hint == f"Did you mean {MODEL}?"
        with pytest.raises(errors.ChatNotFound):
            await client.conversation("nope")
        chat = await client.create_chat()
        with pytest.raises(errors.MessageTooLong) as long:
            await client.start_turn(chat.id, content="x" * 400_001)
        assert long.value.message == "This message is too long for any model."


async def test_a_running_model_is_unloaded_only_by_force() -> None:
    world = World(rate=20)
    async with desk(world) as client:
        chat = await client.create_chat()
        started = await client.start_turn(chat.id, content="Why?", model_id=MODEL)
        with pytest.raises(errors.ModelInUse) as caught:
            await client.unload(MODEL)
        assert caught.value.chats == (chat.id,)
        assert (await client.unload(MODEL, force=True)).success
        assert (await client.job(started.job_id)).state == "interrupted"


async def test_a_load_reports_its_progress_and_can_be_stopped() -> None:
    async with desk(World(load_seconds=30)) as client:
        job = await client.start_load(OTHER)
        async for event in client.job_events(job.id):
            if event.type == "model_load.progress":
                break
        assert (await client.stop_job(job.id)).state == "stopped"
        assert not [m for m in await client.models() if m.full_name == OTHER and m.loaded]


async def test_chats_are_found_renamed_deleted_and_brought_back() -> None:
    async with desk(quick()) as client:
        chat = await client.create_chat(title="Lisbon in May")
        await client.create_chat(title="Postgres")
        page = await client.chats(query="lisbon")
        assert [found.id for found in page.chats] == [chat.id]
        renamed = await client.update_chat(
            chat.id, title="Porto", parameters=Parameters(temperature=0.1)
        )
        assert (renamed.title, renamed.parameters.temperature) == ("Porto", 0.1)
        assert (
            await client.update_chat(chat.id, parameters=Parameters())
        ).parameters == Parameters()
        await client.delete_chat(chat.id)
        assert (await client.chats()).total == 1
        assert (await client.restore_chat(chat.id)).deleted_at is None


async def test_an_edit_of_the_first_message_becomes_its_sibling() -> None:
    async with desk(quick()) as client:
        chat = await client.create_chat()
        for content, as_first in (("one", False), ("two", True)):
            started = await client.start_turn(chat.id, content=content, as_first=as_first)
            assert [e async for e in client.job_events(started.job_id)]
        first = (await client.conversation(chat.id)).messages[0]
        assert (first.content, len(first.siblings)) == ("two", 2)


async def test_the_token_goes_along_and_shows_nowhere() -> None:
    world = quick()
    async with desk(world, token="secret-word") as client:
        await client.models()
        assert world.requests[0][2]["authorization"] == "Bearer secret-word"
        assert "secret-word" not in repr(vars(client))


def test_a_code_of_a_newer_server_stays_what_it_is() -> None:
    error = as_error(418, b'{"code": "teapot", "detail": "Short and stout.", "hint": "Pour."}')
    assert (error.code, error.message, error.hint) == ("teapot", "Short and stout.", "Pour.")


def test_an_answer_that_is_no_problem_document_still_becomes_a_sentence() -> None:
    error = as_error(502, b"<html>Bad gateway</html>")
    assert error.code == "http_502"
    assert "502" in error.message


def test_a_value_that_cannot_be_keeps_the_name_of_its_field() -> None:
    error = as_error(422, b'{"code": "bad_parameter", "detail": "Too hot.", "parameter": "heat"}')
    assert isinstance(error, errors.BadParameter)
    assert error.extra() == {"parameter": "heat"}
