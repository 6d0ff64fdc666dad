"""Flights through the real API and the real database, with a scripted LM Studio behind it."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from core.chats import Message
from core.flight import FlightRecord
from core.trace import MachineTrace
from infrastructure.storage import open_store, sqlite_url
from infrastructure.storage.opening import MIGRATIONS
from tests.desk import DeskUnderTest
from tests.integration.test_api import QWEN, desk_on
from tests.servers import TOKEN, ScriptedLMStudio, ScriptedModel, chunk, ending
from tests.sockets import until

pytestmark = pytest.mark.anyio

CHAT_PATH = "/v1/chat/completions"


def rows(folder: Path) -> list[tuple[str, bytes]]:
    with closing(sqlite3.connect(folder / "lmdesk.db")) as raw:
        return raw.execute("SELECT message_id, record FROM flights").fetchall()


async def answered(desk: DeskUnderTest, chat: str, content: str, **more: Any) -> dict[str, Any]:
    """The flight of an answer that was waited for."""
    receipt = await desk.ask(chat, content, model_id=QWEN, **more)
    await desk.events(receipt["job_id"])
    return await flight_of(desk, receipt["message_id"])


async def flight_of(desk: DeskUnderTest, message_id: str) -> dict[str, Any]:
    answer = await desk.get(f"/api/v1/messages/{message_id}/flight")
    assert answer.status_code == 200, answer.text
    flight: dict[str, Any] = answer.json()
    return flight


async def written(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """The rows, once there are so many."""
    deadline = time.monotonic() + 20
    while len(found := rows(folder)) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert len(found) == count
    return found


async def test_an_answer_has_a_flight_with_what_was_really_sent_and_said(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(rate=100)
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        await answered(desk, chat, "First")
        flight = await answered(desk, chat, "Second", parameters={"temperature": 0.5})
        message = await desk.last_message(chat)
        pending = flight
        kept = await written(tmp_path, 2)
        flight = await flight_of(desk, message["id"])
        first = await flight_of(desk, next(key for key, _ in kept if key != message["id"]))

    asked = studio.requests(CHAT_PATH)[-1]
    assert flight["request"] == {
        "method": "POST",
        "url": pending["request"]["url"],
        "body": asked.body,
    }
    assert flight["request"]["url"].endswith(CHAT_PATH)
    assert asked.body["temperature"] == 0.5
    assert [m["content"] for m in asked.body["messages"]][-1] == "Second"
    response = flight["response"]
    assert (response["status"], response["id"], response["finish_reason"]) == (
        200,
        "chatcmpl-1",
        "stop",
    )
    assert response["usage"] == {"prompt_tokens": 7, "completion_tokens": 20}
    assert response["content"] == message["content"]
    assert (flight["provider"], flight["model"]["instance_id"]) == ("lmstudio", QWEN)
    assert [p["phase"] for p in flight["phases"]][-2:] == ["reading", "writing"]
    assert flight["phases"][-1]["tokens"] == 20
    assert flight["phases"][-1]["seconds"] == pytest.approx(0.2, abs=2)
    assert flight["trace"]["at"]
    assert flight["trace"]["memory_total"] > 0
    loading = next(phase for phase in first["phases"] if phase["phase"] == "loading")
    assert loading["marks"][-1]["progress"] == 1.0
    assert flight["request"] == pending["request"]


async def test_the_file_is_an_attachment_of_a_stable_format_without_any_token(
    tmp_path: Path,
) -> None:
    studio = ScriptedLMStudio(token=TOKEN)
    async with desk_on(studio, tmp_path, lmstudio_token=TOKEN) as desk:
        chat = await desk.chat()
        flight = await answered(desk, chat, f"Is {TOKEN} a good token?")
        address = f"/api/v1/messages/{flight['message_id']}/flight/export"
        before = await desk.get(address)
        await written(tmp_path, 1)
        after = await desk.get(address)

    assert studio.requests(CHAT_PATH)[-1].headers["authorization"] == f"Bearer {TOKEN}"
    for answer in (before, after):
        name = f"flight-{flight['message_id'][:12]}.json"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        file = answer.json()
        assert (file["format"], file["version"]) == ("lmdesk.flight", 1)
        assert file["flight"]["request"]["body"]["messages"][-1]["content"] == (
            "Is [removed] a good token?"
        )
        assert TOKEN not in answer.text
        assert "authorization" not in answer.text.lower()
        assert TOKEN.removeprefix("sk-lm-") not in answer.text
    assert json.loads(after.text)["flight"] == flight | {"trace": after.json()["flight"]["trace"]}


async def test_a_server_that_quotes_the_token_back_does_not_get_it_written_down(
    tmp_path: Path,
) -> None:
    studio = ScriptedLMStudio()
    async with desk_on(studio, tmp_path, lmstudio_token=TOKEN) as desk:
        studio.chat_error = (401, {"error": {"message": f"Bad token: {TOKEN}", "code": "x"}})
        flight = await answered(desk, await desk.chat(), "Hi")
        await written(tmp_path, 1)
        later = await flight_of(desk, flight["message_id"])

    assert flight["status"] == "failed"
    assert flight["response"]["status"] == 401
    assert flight["response"]["body"]["error"]["message"] == "Bad token: [removed]"
    assert TOKEN not in json.dumps([flight, later])


async def test_the_conversation_is_not_written_down_a_second_time(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=3)
    long = " ".join(str(number * 7919) for number in range(40_000))
    async with desk_on(studio, tmp_path) as desk:
        chat = await desk.chat()
        await answered(desk, chat, long)
        flight = await answered(desk, chat, "And?")
        kept = await written(tmp_path, 2)

    assert len(long) > 200_000
    assert max(len(record) for _, record in kept) < 6_000
    assert long in [m["content"] for m in flight["request"]["body"]["messages"]]


async def test_a_stopped_answer_has_a_flight_too(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(tokens=100_000, rate=200)
    async with desk_on(studio, tmp_path) as desk:
        receipt = await desk.ask(await desk.chat(), "Count", model_id=QWEN)
        await until(lambda: studio.sent_tokens > 10)
        running = await flight_of(desk, receipt["message_id"])
        await desk.post(f"/api/v1/jobs/{receipt['job_id']}/stop")
        await written(tmp_path, 1)
        flight = await flight_of(desk, receipt["message_id"])

    assert running["status"] == "writing"
    assert flight["status"] == "stopped"
    assert flight["response"]["complete"] is False
    assert flight["response"]["content"].startswith("0 1 2 ")
    assert flight["phases"][-1]["phase"] == "writing"


async def test_an_error_in_the_stream_is_told_in_the_servers_own_words(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    error = b'event: error\ndata: {"error":{"message":"The model has crashed. Exit code: 9"}}\n\n'
    studio.frames = [chunk({"content": "Hel"}), error]
    async with desk_on(studio, tmp_path) as desk:
        flight = await answered(desk, await desk.chat(), "Hi")

    assert flight["status"] in ("failed", "interrupted")
    assert flight["response"]["error"]["text"] == "The model has crashed. Exit code: 9"
    assert flight["response"]["content"] == "Hel"


async def test_a_stream_that_breaks_off_at_once_leaves_what_was_sent(tmp_path: Path) -> None:
    studio = ScriptedLMStudio(models=[ScriptedModel(QWEN, instances={QWEN: 8192})])
    studio.frames = []
    async with desk_on(studio, tmp_path) as desk:
        flight = await answered(desk, await desk.chat(), "Hi")

    assert flight["status"] == "failed"
    assert flight["request"]["body"]["model"] == QWEN
    assert flight["response"]["complete"] is False


async def test_thinking_and_writing_are_phases_of_their_own(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    studio.frames = [
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": "Yes"}),
        *ending("m", 2),
    ]
    async with desk_on(studio, tmp_path) as desk:
        flight = await answered(desk, await desk.chat(), "Hi")

    assert [p["phase"] for p in flight["phases"]][-3:] == ["reading", "thinking", "writing"]
    assert flight["response"]["reasoning"] == "Hm."


async def test_answers_without_a_record_say_so(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        chat = await desk.chat()
        flight = await answered(desk, chat, "Hi")
        fork = await desk.post(
            f"/api/v1/chats/{chat}/fork", json={"message_id": flight["message_id"]}
        )
        copied = await desk.last_message(fork.json()["id"])
        for message_id in ("nonsense", copied["id"]):
            for end in ("flight", "flight/export"):
                answer = await desk.get(f"/api/v1/messages/{message_id}/{end}")
                assert answer.status_code == 404
                assert answer.json()["code"] == "flight_not_found"


async def test_what_ran_when_the_server_was_stopped_has_its_flight_afterwards(
    tmp_path: Path,
) -> None:
    studio = ScriptedLMStudio(tokens=100_000, rate=200)
    async with desk_on(studio, tmp_path) as desk:
        receipt = await desk.ask(await desk.chat(), "Count", model_id=QWEN)
        await until(lambda: studio.sent_tokens > 10)
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        flight = await flight_of(desk, receipt["message_id"])

    assert (flight["status"], flight["reason"]) == ("interrupted", "server_stopped")
    assert flight["phases"][-1]["phase"] == "writing"


async def test_a_flight_goes_with_its_chat(tmp_path: Path) -> None:
    async with desk_on(ScriptedLMStudio(), tmp_path) as desk:
        chat = await desk.chat()
        flight = await answered(desk, chat, "Hi")
        await written(tmp_path, 1)
        await desk.delete(f"/api/v1/chats/{chat}")
        hidden = await desk.get(f"/api/v1/messages/{flight['message_id']}/flight")
        await desk.post(f"/api/v1/chats/{chat}/restore")
        again = await desk.get(f"/api/v1/messages/{flight['message_id']}/flight")
        await desk.delete(f"/api/v1/chats/{chat}")
    async with open_store(sqlite_url(tmp_path)) as store:
        await store.purge_deleted(before=time.time() + 1)

    assert (hidden.status_code, again.status_code) == (404, 200)
    assert rows(tmp_path) == []


async def test_a_flight_whose_message_is_gone_is_left_out_and_the_others_are_kept(
    tmp_path: Path,
) -> None:
    record = FlightRecord(
        started_at=1,
        seconds=2,
        provider="lmstudio",
        provider_kind="lmstudio",
        phases=(),
        trace=MachineTrace(),
        response={"odd": "\ud83d and ✓"},
    )
    async with open_store(sqlite_url(tmp_path)) as store:
        chat = await store.create_chat()
        message = Message(id="there", chat_id=chat.id, role="assistant", created_at=1.0)
        await store.add_messages([message], head_id="there")
        await store.flights.add_flights([])
        await store.flights.add_flights([("gone", record), ("there", record)])
        await store.flights.add_flights([("there", record)])
        found = await store.flights.flight("there")
        missing = await store.flights.flight("gone")

    assert found is not None
    assert found[0] == chat.id
    assert (found[1].provider, found[1].response) == ("lmstudio", {"odd": "� and ✓"})
    assert missing is None


async def test_a_database_from_before_flights_keeps_its_chats_and_takes_flights(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lmdesk.db"
    await asyncio.to_thread(make_database_0002, path)
    studio = ScriptedLMStudio()
    async with desk_on(studio, tmp_path) as desk:
        old = (await desk.get("/api/v1/chats/c1")).json()
        nothing = await desk.get("/api/v1/messages/m2/flight")
        flight = await answered(desk, "c1", "And now?")

    assert [m["content"] for m in old["messages"]] == ["Old question", "Old answer"]
    assert nothing.json()["code"] == "flight_not_found"
    assert [m["content"] for m in flight["request"]["body"]["messages"]][-3:] == [
        "Old question",
        "Old answer",
        "And now?",
    ]
    assert [key for key, _ in rows(tmp_path)] == [flight["message_id"]]


def make_database_0002(path: Path) -> None:
    """As the version before wrote it, with a chat in it."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(
            "INSERT INTO chats (id, title, parameters, head_id, created_at, updated_at)"
            " VALUES ('c1', 'Old', '{}', 'm2', 1, 1)"
        )
        raw.executemany(
            "INSERT INTO messages (id, chat_id, parent_id, role, content, reasoning, status,"
            " created_at) VALUES (?, 'c1', ?, ?, ?, '', 'done', 1)",
            [("m1", None, "user", "Old question"), ("m2", "m1", "assistant", "Old answer")],
        )
        raw.commit()
