"""The gateway over real sockets with the official `openai` client, before scripted servers."""

import asyncio
import time
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from api.gateway import request, signs
from tests.frames import chunk, ending
from tests.gateway import HI, loaded, plain_client, run_door, scripted
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, until

pytestmark = pytest.mark.anyio

KEY = "qwen/qwen3-4b"
NAME = f"lmstudio:{KEY}"


def numbers(count: int) -> str:
    return "".join(f"{n} " for n in range(count))


async def text_of(stream: Any) -> str:
    pieces = [part.choices[0].delta.content or "" async for part in stream if part.choices]
    return "".join(pieces)


async def listen(stream: Any, heard: list[str]) -> None:
    """Each piece of text as it comes."""
    async for part in stream:
        if part.choices:
            heard.append(part.choices[0].delta.content or "")


async def test_the_list_has_every_model_by_its_full_name(tmp_path: Path) -> None:
    async with scripted(tmp_path, ScriptedLMStudio()) as door:
        listed = await door.client.models.list()

        ids = [model.id for model in listed.data]
        assert NAME in ids
        assert "lmstudio:text-embedding-nomic" in ids
        one = await door.client.models.retrieve(NAME)
        assert one.id == NAME
        assert one.owned_by == "lmstudio"


async def test_an_answer_comes_whole_and_says_who_gave_it(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded()) as door:
        raw = await door.client.chat.completions.with_raw_response.create(model=NAME, messages=HI)

        answer = raw.parse()
        assert answer.choices[0].message.content == numbers(20)
        assert answer.usage
        assert answer.usage.completion_tokens == 20
        assert answer.model == KEY  # as the server says it
        assert raw.headers["x-lmdesk-model"] == NAME
        assert raw.headers["x-lmdesk-provider"] == "lmstudio"
        assert raw.headers["x-lmdesk-route"] == "asked"
        assert raw.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in raw.headers


async def test_a_stream_comes_token_by_token_and_untouched(tmp_path: Path) -> None:
    server = loaded(tokens=200, rate=2000)
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)

        assert await text_of(stream) == numbers(200)
        asked = server.requests("/v1/chat/completions")[0].body
        assert asked == {"model": KEY, "messages": HI, "stream": True}


async def test_a_bare_name_is_enough_where_it_is_unique(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded()) as door:
        raw = await door.client.chat.completions.with_raw_response.create(model=KEY, messages=HI)

        assert raw.headers["x-lmdesk-model"] == NAME


async def test_a_loaded_copy_is_asked_by_its_own_name(tmp_path: Path) -> None:
    server = ScriptedLMStudio(models=[ScriptedModel(KEY, instances={f"{KEY}:2": 8192})])
    async with scripted(tmp_path, server) as door:
        await door.client.chat.completions.create(model=NAME, messages=HI)

        assert server.requests("/v1/chat/completions")[0].body["model"] == f"{KEY}:2"


async def test_vectors_come_from_an_embedding_model(tmp_path: Path) -> None:
    server = ScriptedLMStudio(
        models=[ScriptedModel("nomic", type="embedding", instances={"nomic": 2048})]
    )
    async with scripted(tmp_path, server) as door:
        answer = await door.client.embeddings.create(
            model="lmstudio:nomic", input=["one"], encoding_format="float"
        )

        assert answer.data[0].embedding == [0.0, 1.0]
        with pytest.raises(openai.BadRequestError, match="makes embeddings"):
            await door.client.chat.completions.create(model="lmstudio:nomic", messages=HI)


# -- what is wrong with a request ------------------------------------------------------------------


async def test_an_unknown_model_is_not_found_and_the_closest_ones_are_named(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded()) as door:
        with pytest.raises(openai.NotFoundError, match=NAME) as caught:
            await door.client.chat.completions.create(model="lmstudio:qwen/qwen3-4", messages=HI)

        body: Any = caught.value.body
        assert body["code"] == "model_not_found"
        assert body["param"] == "model"
        assert body["candidates"] == [NAME]
        with pytest.raises(openai.NotFoundError):
            await door.client.models.retrieve("nothing/like-it")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "bad_json"),
        (b"[1]", "bad_json"),
        (b'"model"', "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b"", "bad_json"),
        (b"{}", "missing_model"),
        (b'{"model": null}', "missing_model"),
        (b'{"model": 7}', "missing_model"),
        (b'{"model": "  "}', "missing_model"),
        (b'{"model": "\\ud800"}', "bad_json"),
        (b"[" * 100_000, "bad_json"),
    ],
)
async def test_a_request_that_cannot_be_read_is_refused_in_words(
    tmp_path: Path, raw: bytes, code: str
) -> None:
    async with scripted(tmp_path, loaded()) as door:
        for path in ("chat/completions", "completions", "embeddings", "responses"):
            answer = await door.http.post(f"/v1/{path}", content=raw)

            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["code"] == code
            assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "MAX_BODY_BYTES", 1000)
    async with scripted(tmp_path, loaded()) as door:
        answer = await door.http.post("/v1/chat/completions", content=b" " * 200_000)

        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "message_too_long"


async def test_unknown_routes_and_wrong_methods_are_told_apart(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded()) as door:
        unknown = await door.http.post("/v1/images/generations", json={})
        wrong = await door.http.get("/v1/chat/completions")
        preflight = await door.http.options("/v1/models")

        assert unknown.status_code == 404
        assert "/v1/chat/completions" in unknown.json()["error"]["message"]
        assert wrong.status_code == preflight.status_code == 405
        assert wrong.headers["allow"] == "POST"


async def test_what_the_server_refuses_reaches_the_client_in_its_words(tmp_path: Path) -> None:
    server = loaded()
    error = {"message": "temperature must be positive", "type": "invalid", "param": "temperature"}
    server.chat_error = (400, {"error": error})
    async with scripted(tmp_path, server) as door:
        with pytest.raises(openai.BadRequestError, match="temperature must be positive") as caught:
            await door.client.chat.completions.create(model=NAME, messages=HI, temperature=-1)

        body: Any = caught.value.body
        assert body["param"] == "temperature"
        assert len(server.requests("/v1/chat/completions")) == 1


@pytest.mark.parametrize(
    "words",
    [
        "The request exceeds the available context size, try increasing it",
        "Trying to keep the first 9000 tokens when context the overflows. context length of 4096",
    ],
)
@pytest.mark.parametrize("status", [200, 400])
async def test_a_conversation_that_does_not_fit_has_openais_code(
    tmp_path: Path, words: str, status: int
) -> None:
    server = loaded()
    server.chat_error = (status, {"error": {"message": words}})
    async with scripted(tmp_path, server) as door:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                await door.client.chat.completions.create(model=NAME, messages=HI, stream=stream)

            assert caught.value.code == "context_length_exceeded"


async def test_a_route_the_provider_lacks_is_named(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded()) as door:
        with pytest.raises(openai.APIStatusError, match=r"lmstudio does not serve /v1/resp") as got:
            await door.client.responses.create(model=NAME, input="Hi")

        assert got.value.status_code == 501
        # Repeating it changes nothing, and the client is told.
        assert got.value.response.headers["x-should-retry"] == "false"


async def test_a_server_that_is_gone_is_a_503_and_one_that_fails_a_502(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    async with run_door(tmp_path / "a", lmstudio_url=gone) as door:
        with pytest.raises(openai.APIStatusError) as unreachable:
            await door.client.chat.completions.create(model=NAME, messages=HI)
        assert unreachable.value.status_code == 503
        assert "retry-after" in unreachable.value.response.headers

    server = loaded()
    server.chat_error = (500, {"error": {"message": "CUDA error"}})
    async with scripted(tmp_path / "b", server) as door:
        with pytest.raises(openai.APIStatusError, match="CUDA error") as failed:
            await door.client.chat.completions.create(model=NAME, messages=HI)
        assert failed.value.status_code == 502


async def test_a_stream_that_begins_with_an_error_becomes_a_status(tmp_path: Path) -> None:
    server = loaded()
    server.frames = [b'event: error\ndata: {"error": {"message": "out of memory"}}\n\n']
    async with scripted(tmp_path, server) as door:
        with pytest.raises(openai.APIStatusError, match="out of memory") as caught:
            await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)

        assert caught.value.status_code == 502


# -- who may ask -----------------------------------------------------------------------------------


async def test_the_guard_stands_before_the_gateway(tmp_path: Path) -> None:
    async with scripted(tmp_path, loaded(), token="a-long-enough-token") as door:
        with pytest.raises(openai.AuthenticationError, match="token"):
            await door.client.models.list()
        async with plain_client(door.url, "a-long-enough-token") as client:
            assert (await client.models.list()).data
        nobody = await door.http.get("/metrics")
        assert nobody.status_code == 401


async def test_pages_and_names_of_elsewhere_are_refused_in_the_clients_shape(
    tmp_path: Path,
) -> None:
    async with scripted(tmp_path, loaded()) as door:
        page = await door.http.post(
            "/v1/chat/completions",
            json={"model": NAME, "messages": HI},
            headers={"origin": "https://elsewhere.example"},
        )
        name = await door.http.get("/v1/models", headers={"host": "elsewhere.example"})

        assert page.status_code == 403
        assert page.json()["error"]["code"] == "cross_origin"
        assert name.status_code == 421
        assert name.json()["error"]["code"] == "host_not_allowed"


# -- loads, leases, and clients that go -------------------------------------------------------------


async def test_a_model_is_loaded_first_and_the_stream_shows_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(signs, "NEXT_SECONDS", 0.05)
    server = ScriptedLMStudio()
    server.load_may_go.clear()
    async with scripted(tmp_path, server) as door:
        body = {"model": NAME, "messages": HI, "stream": True}
        async with door.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-lmdesk-model"] == NAME
            lines = answer.aiter_lines()
            first = await anext(lines)
            while not first.startswith(": loading"):
                first = await anext(lines)
            assert first.endswith(" %")
            server.load_may_go.set()
            rest = [line async for line in lines]

        assert "data: [DONE]" in rest
        del server.models[KEY].instances[KEY]
        server.load_may_go.clear()
        asked = asyncio.create_task(
            door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        )
        stream = await asked  # the comment lines have opened it
        server.load_may_go.set()
        assert await text_of(stream) == numbers(20)


async def test_a_model_in_use_is_not_unloaded_and_the_request_is_a_job(tmp_path: Path) -> None:
    server = loaded(tokens=100_000, rate=100)
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        await anext(aiter(stream))

        jobs = (await door.http.get("/api/v1/jobs", params={"kind": "request"})).json()
        assert [job["model_id"] for job in jobs] == [NAME]
        refused = await door.http.post("/api/v1/models/unload", json={"model_id": NAME})
        assert refused.status_code == 409
        # A page is not told of each request of each program.
        assert (await door.http.get("/api/v1/pulse")).json()["jobs"] == []
        plan = await door.http.get("/api/v1/models/plan", params={"model_id": NAME})
        users = [r["chats"] for r in plan.json()["residents"] if r["model_id"] == NAME]
        assert {user["title"] for each in users for user in each} <= {"another program"}

        await stream.close()
        await until(lambda: not door.desk.jobs.list(kind="request"))
        assert door.desk.library.leased_by(await door.desk.library.resolve(NAME)) == []


async def test_an_eviction_by_somebody_else_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    server = loaded(tokens=100_000, rate=100)
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        heard: list[str] = []
        reading = asyncio.create_task(listen(stream, heard))
        await until(lambda: heard)
        server.models[KEY].instances.clear()
        with pytest.raises(openai.APIError, match="taken out of memory") as caught:
            await reading

        assert caught.value.code == "model_unloaded"
        assert numbers(100_000).startswith("".join(heard))
        await until(lambda: server.open == 0)


async def test_stopping_the_job_ends_the_stream_and_the_connection_upstream(tmp_path: Path) -> None:
    server = loaded(tokens=100_000, rate=100)
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        await anext(aiter(stream))
        job = door.desk.jobs.list(kind="request")[0]

        stopped = await door.http.post(f"/api/v1/jobs/{job.id}/stop")

        assert stopped.status_code == 200
        with pytest.raises(openai.APIError, match="stopped"):
            await text_of(stream)
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("frames", [None, [], [chunk({"role": "assistant"})]])
async def test_a_client_that_leaves_ends_the_request_upstream_at_once(
    tmp_path: Path, frames: list[bytes] | None
) -> None:
    server = loaded(tokens=100_000, rate=100)
    server.frames = frames
    server.hangs = True
    async with scripted(tmp_path, server) as door:
        took = []
        for number in range(5):
            writer = await ask_raw(door.url, {"model": NAME, "messages": HI, "stream": True})
            await until(lambda: server.open == 1)
            began = time.monotonic()
            writer.transport.abort()
            await until(lambda number=number: server.aborted == number + 1)
            took.append(time.monotonic() - began)

        assert min(took) < 0.1
        await until(lambda: door.meter.left == 5)
        assert door.meter.of("lmstudio").failures == 0
        assert door.desk.jobs.list(kind="request") == []


async def ask_raw(url: str, body: Any) -> asyncio.StreamWriter:
    """A request on a connection of its own, of whose answer nothing is read."""
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    raw = orjson.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(raw)}"
    writer.write(head.encode() + b"\r\n\r\n" + raw)
    return writer


async def test_a_slow_reader_slows_only_its_own_stream(tmp_path: Path) -> None:
    server = loaded(tokens=50_000)
    async with scripted(tmp_path, server) as door:
        writer = await ask_raw(door.url, {"model": NAME, "messages": HI, "stream": True})
        await until(lambda: server.sent_tokens > 1000)
        server.tokens = 500

        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        assert await text_of(stream) == numbers(500)

        # What nobody reads is not taken from the server either: 50,000 tokens are 11 MB.
        taken, before = server.sent_tokens, -1
        async with asyncio.timeout(20):
            while taken != before:
                for _ in range(5):
                    await door.client.chat.completions.create(model=NAME, messages=HI)
                taken, before = server.sent_tokens, taken
        assert server.open == 1
        assert taken < 50_000
        writer.transport.abort()
        await until(lambda: server.open == 0)


# -- what is counted -------------------------------------------------------------------------------


async def test_requests_tokens_and_failures_are_counted_by_provider(tmp_path: Path) -> None:
    server = loaded(tokens=30)
    async with scripted(tmp_path, server) as door:
        await door.client.chat.completions.create(model=NAME, messages=HI)
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        await text_of(stream)
        server.chat_error = (400, {"error": {"message": "no", "type": "invalid"}})
        with pytest.raises(openai.BadRequestError):
            await door.client.chat.completions.create(model=NAME, messages=HI)
        server.chat_error = (500, {"error": "broken"})
        with pytest.raises(openai.InternalServerError):
            await door.client.chat.completions.create(model=NAME, messages=HI)
        with pytest.raises(openai.NotFoundError):
            await door.client.chat.completions.create(model="nothing", messages=HI)

        answer = await door.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.text.splitlines()
        assert 'lmdesk_gateway_requests_total{provider="lmstudio"} 4' in lines
        assert 'lmdesk_gateway_failures_total{provider="lmstudio"} 1' in lines
        assert 'lmdesk_gateway_tokens_total{provider="lmstudio",direction="output"} 60' in lines
        assert 'lmdesk_gateway_tokens_total{provider="lmstudio",direction="input"} 14' in lines
        assert 'lmdesk_gateway_first_byte_seconds_count{provider="lmstudio"} 2' in lines
        assert "lmdesk_gateway_refused_total 1" in lines
        assert 'lmdesk_jobs_running{kind="request"} 0' in lines
        assert 'lmdesk_provider_up{provider="lmstudio"} 1' in lines


# -- a provider that dies --------------------------------------------------------------------------


async def test_a_stream_that_breaks_off_ends_with_an_error_and_keeps_what_came(
    tmp_path: Path,
) -> None:
    server = loaded()
    # The second event is cut in its middle.
    server.frames = [chunk({"content": "kept"}), chunk({"content": "lost"})[:40]]
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)
        heard: list[str] = []
        with pytest.raises(openai.APIError, match="before it was complete") as caught:
            await listen(stream, heard)

        assert heard == ["kept"]
        assert caught.value.code == "provider_protocol"
        assert door.meter.of("lmstudio").failures == 1


async def test_a_last_event_without_its_blank_line_is_handed_on(tmp_path: Path) -> None:
    server = loaded()
    server.frames = [chunk({"content": "all"}), b"data: [DONE]\n"]
    async with scripted(tmp_path, server) as door:
        stream = await door.client.chat.completions.create(model=NAME, messages=HI, stream=True)

        assert await text_of(stream) == "all"
        assert door.meter.of("lmstudio").failures == 0


async def test_events_in_pieces_arrive_whole(tmp_path: Path) -> None:
    server = loaded()
    whole = b"".join([*(chunk({"content": f"{n} "}) for n in range(50)), *ending("m", 50)])
    server.frames = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    async with scripted(tmp_path, server) as door:
        body = {"model": NAME, "messages": HI, "stream": True}
        async with door.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]

        assert b"".join(pieces) == whole
