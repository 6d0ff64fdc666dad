"""The gateway before several providers: many requests at once, and providers that die."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from api.routers import metrics
from tests.frames import chunk
from tests.gateway import HI, Door, loaded, run_door
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import EVENTS_HEAD, http_chunk, http_json, raw_server, serve, until

pytestmark = pytest.mark.anyio

ALPHA, BETA = "lmstudio:alpha", "second:beta"


def numbers(count: int) -> str:
    return "".join(f"{n} " for n in range(count))


async def read(stream: Any) -> tuple[str, set[str]]:
    """The text, and the models that the server says wrote it."""
    text, models = "", set()
    async for part in stream:
        models.add(part.model)
        if part.choices:
            text += part.choices[0].delta.content or ""
    return text, models


async def test_two_hundred_requests_over_three_providers_each_get_their_own_model(
    tmp_path: Path,
) -> None:
    servers = {
        "lmstudio": loaded("one/a", "one/b"),
        "second": loaded("two/a", "two/b"),
        "third": loaded("three/a", "three/b", profile="v1"),
    }
    async with AsyncExitStack() as stack:
        urls = {n: await stack.enter_async_context(serve(s)) for n, s in servers.items()}
        providers = {
            "second": {"kind": "lmstudio", "base_url": urls["second"]},
            "third": {"kind": "openai", "base_url": urls["third"]},
        }
        door = await stack.enter_async_context(
            run_door(tmp_path, lmstudio_url=urls["lmstudio"], providers=providers)
        )
        names = [f"{p}:{key}" for p, server in servers.items() for key in server.models]
        assert len(names) == 6

        async def ask(number: int) -> None:
            name, count = names[number % 6], 20 + number
            raw = await door.client.chat.completions.with_raw_response.create(
                model=name, messages=HI, stream=number % 3 > 0, max_tokens=count
            )
            assert raw.headers["x-lmdesk-model"] == name
            assert raw.headers["x-lmdesk-route"] == "asked"
            key = name.partition(":")[2]
            if number % 3 == 0:
                answer: Any = raw.parse()
                assert answer.model == key
                assert answer.choices[0].message.content == numbers(count)
            else:
                assert await read(raw.parse()) == (numbers(count), {key})

        for server in servers.values():
            server.tokens = 300
            server.rate = 400
        async with asyncio.timeout(120):
            await asyncio.gather(*(ask(number) for number in range(200)))

        asked = [len(server.requests("/v1/chat/completions")) for server in servers.values()]
        assert sum(asked) == 200
        assert {counts.running for counts in door.meter.providers.values()} == {0}
        assert sum(counts.failures for counts in door.meter.providers.values()) == 0
        assert door.desk.jobs.list(kind="request") == []
        for name in names:
            assert door.desk.library.leased_by(await door.desk.library.resolve(name)) == []


# -- who answers instead ---------------------------------------------------------------------------


@asynccontextmanager
async def two(
    tmp_path: Path, first_url: str, second: ScriptedLMStudio, **more: Any
) -> AsyncGenerator[Door]:
    """`alpha` at the first address; `beta`, which may answer for it, at the second."""
    async with serve(second) as url:
        settings: dict[str, Any] = {
            "lmstudio_url": first_url,
            "providers": {"second": {"kind": "lmstudio", "base_url": url}},
            "models": {"preferences": {"general": ["second:beta"], "coding": ["second:beta"]}},
        }
        async with run_door(tmp_path, **settings, **more) as door:
            await door.desk.library.models()
            yield door


@pytest.mark.parametrize("stream", [True, False])
async def test_a_killed_provider_is_replaced_before_the_first_token(
    tmp_path: Path, stream: bool
) -> None:
    async with AsyncExitStack() as alive:
        first = await alive.enter_async_context(serve(loaded("alpha")))
        async with two(tmp_path, first, loaded("beta")) as door:
            whole = await door.client.chat.completions.create(model=ALPHA, messages=HI)
            assert whole.model == "alpha"
            await alive.aclose()  # its process is gone

            began = time.monotonic()
            raw = await door.client.chat.completions.with_raw_response.create(
                model=ALPHA, messages=HI, stream=stream
            )
            got = raw.parse()
            if stream:
                assert await read(got) == (numbers(20), {"beta"})
            else:
                assert got.choices[0].message.content == numbers(20)

            assert time.monotonic() - began < 2
            assert raw.headers["x-lmdesk-model"] == BETA
            assert raw.headers["x-lmdesk-provider"] == "second"
            assert raw.headers["x-lmdesk-route"] == f"fallback:{ALPHA}"
            assert door.meter.fallbacks == 1
            # Once its list is known to be gone, it is no different.
            raw = await door.client.chat.completions.with_raw_response.create(
                model=ALPHA, messages=HI
            )
            assert raw.headers["x-lmdesk-route"] == f"fallback:{ALPHA}"


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [chunk({"role": "assistant", "content": ""})],
        [b'data: {"error": {"message": "CUDA error: out of memory"}}\n\n'],
        [b"data: "],
    ],
)
async def test_a_stream_that_dies_before_its_first_token_is_written_by_the_next(
    tmp_path: Path, frames: list[bytes]
) -> None:
    first = loaded("alpha")
    first.frames = frames
    async with serve(first) as url, two(tmp_path, url, loaded("beta")) as door:
        raw = await door.client.chat.completions.with_raw_response.create(
            model=ALPHA, messages=HI, stream=True
        )

        assert raw.headers["x-lmdesk-model"] == BETA
        assert await read(raw.parse()) == (numbers(20), {"beta"})


async def test_after_the_first_token_nobody_else_goes_on(tmp_path: Path) -> None:
    written = asyncio.Event()

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/chat/completions" not in head:
            entry = {"type": "llm", "key": "alpha", "loaded_instances": [{"id": "alpha"}]}
            listed = {"models": [entry | {"size_bytes": 1, "format": "gguf"}]}
            writer.write(http_json({"lmstudio": True} if b"greeting" in head else listed))
            return
        writer.write(EVENTS_HEAD + http_chunk(chunk({"content": "Hel"})))
        await writer.drain()
        await written.wait()
        writer.write(http_chunk(chunk({"content": "lo"}))[:30])
        writer.transport.close()

    second = loaded("beta")
    async with raw_server(handle) as url, two(tmp_path, url, second) as door:
        stream = await door.client.chat.completions.create(model=ALPHA, messages=HI, stream=True)
        heard: list[str] = []

        async def listen() -> None:
            async for part in stream:
                heard.append(part.choices[0].delta.content or "")
                written.set()

        with pytest.raises(openai.APIError, match="before its answer was complete"):
            await listen()

        assert heard == ["Hel"]
        assert second.requests("/v1/chat/completions") == []
        assert door.meter.fallbacks == 0


@pytest.mark.parametrize(("status", "moves"), [(500, True), (429, True), (401, True), (400, False)])
async def test_only_what_another_may_do_better_goes_to_another(
    tmp_path: Path, status: int, moves: bool
) -> None:
    first, second = loaded("alpha"), loaded("beta")
    first.chat_error = (status, {"error": {"message": "no", "type": "some_error"}})
    async with serve(first) as url, two(tmp_path, url, second) as door:
        if moves:
            answer = await door.client.chat.completions.create(model=ALPHA, messages=HI)
            assert answer.model == "beta"
        else:
            with pytest.raises(openai.BadRequestError):
                await door.client.chat.completions.create(model=ALPHA, messages=HI)
            assert second.requests("/v1/chat/completions") == []


async def test_what_the_one_instead_refuses_is_what_the_client_hears(tmp_path: Path) -> None:
    first, second = loaded("alpha"), loaded("beta")
    first.chat_error = (500, {"error": "broken"})
    second.chat_error = (400, {"error": {"message": "bad schema", "type": "some_error"}})
    async with serve(first) as url, two(tmp_path, url, second) as door:
        with pytest.raises(openai.BadRequestError, match="bad schema") as caught:
            await door.client.chat.completions.create(model=ALPHA, messages=HI)

        assert caught.value.response.headers["x-lmdesk-model"] == BETA


async def test_when_nobody_answers_the_first_ones_error_names_the_others(tmp_path: Path) -> None:
    first, second = loaded("alpha"), loaded("beta")
    first.chat_error = second.chat_error = (500, {"error": "broken"})
    async with serve(first) as url, two(tmp_path, url, second) as door:
        with pytest.raises(openai.APIStatusError, match=f"lmstudio failed: broken.*{BETA}") as got:
            await door.client.chat.completions.create(model=ALPHA, messages=HI)

        assert got.value.status_code == 502
        assert got.value.code == "provider_failed"
        assert "x-lmdesk-model" not in got.value.response.headers


async def test_vectors_of_another_model_never_stand_in(tmp_path: Path) -> None:
    def server(key: str) -> ScriptedLMStudio:
        return ScriptedLMStudio(
            models=[ScriptedModel(key, type="embedding", instances={key: 2048})]
        )

    async with AsyncExitStack() as alive:
        first = await alive.enter_async_context(serve(server("alpha")))
        async with two(tmp_path, first, server("beta")) as door:
            await alive.aclose()
            with pytest.raises(openai.APIStatusError) as caught:
                await door.client.embeddings.create(model=ALPHA, input="x", encoding_format="float")
            assert caught.value.status_code == 503

            raw = await door.client.embeddings.with_raw_response.create(
                model="auto", input="x", encoding_format="float"
            )
            assert raw.headers["x-lmdesk-model"] == BETA
            assert raw.headers["x-lmdesk-route"] == "auto:embedding"


# -- the choice is left to us ----------------------------------------------------------------------


async def test_auto_chooses_by_the_task_and_says_so(tmp_path: Path) -> None:
    first = loaded("alpha")
    async with serve(first) as url, two(tmp_path, url, loaded("beta")) as door:
        question: Any = [{"role": "user", "content": "Write a Python function that sorts a list."}]
        raw = await door.client.chat.completions.with_raw_response.create(
            model="auto", messages=question
        )
        assert raw.headers["x-lmdesk-model"] == BETA
        assert raw.headers["x-lmdesk-route"] == "auto:coding"
        assert "auto" in [model.id for model in (await door.client.models.list()).data]

        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        seen: Any = [{"role": "user", "content": [{"type": "text", "text": "What?"}, picture]}]
        with pytest.raises(openai.BadRequestError, match="sees pictures") as caught:
            await door.client.chat.completions.create(model="auto", messages=seen)
        assert caught.value.code == "no_model_fits"


async def test_who_waits_in_line_is_told_and_who_finds_it_full_comes_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.gateway.signs.FIRST_SECONDS", 0.02)
    server = loaded("alpha", tokens=100_000, rate=100)
    async with serve(server) as url:
        providers = {"small": {"kind": "lmstudio", "base_url": url, "parallel": 1}}
        async with run_door(tmp_path, providers=providers) as door:
            body = {"model": "small:alpha", "messages": HI, "stream": True}
            running = await door.client.chat.completions.create(**body)
            await anext(aiter(running))
            async with door.http.stream("POST", "/v1/chat/completions", json=body) as waiting:
                assert await anext(waiting.aiter_lines()) == ": queued at place 1"

                door.desk.library.gate("small").line._bound = 1
                with pytest.raises(openai.RateLimitError) as caught:
                    await door.client.chat.completions.create(model="small:alpha", messages=HI)
                assert int(caught.value.response.headers["retry-after"]) >= 1
            await running.close()
            await until(lambda: server.open == 0)


async def test_metrics_count_each_provider_by_itself(tmp_path: Path) -> None:
    async with serve(loaded("alpha")) as url, two(tmp_path, url, loaded("beta")) as door:
        await door.client.chat.completions.create(model=ALPHA, messages=HI)
        await door.client.chat.completions.create(model=BETA, messages=HI)

        text = (await door.http.get("/metrics")).text
        for name in ("lmstudio", "second"):
            assert f'lmdesk_gateway_requests_total{{provider="{name}"}} 1\n' in text
            assert f'lmdesk_provider_models{{provider="{name}"}} 1\n' in text
        helped = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(helped) == len(set(helped))
        assert metrics._escaped('a"b\\c\n') == 'a\\"b\\\\c\\n'


async def test_a_body_is_handed_on_with_nothing_but_the_model_changed(tmp_path: Path) -> None:
    server = loaded("alpha")
    body = {
        "model": ALPHA,
        "messages": [{"role": "user", "content": "Grüße \u0000 😀"}],
        "seed": 2**53 + 1,
        "temperature": 0.1,
        "logit_bias": {"5": -100},
        "something_new": [None, True, {"deep": []}],
    }
    async with serve(server) as url, run_door(tmp_path, lmstudio_url=url) as door:
        await door.http.post("/v1/chat/completions", content=orjson.dumps(body))

        assert server.requests("/v1/chat/completions")[0].body == {**body, "model": "alpha"}
