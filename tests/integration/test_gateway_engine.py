"""The gateway before the real engine, with the official client: what programs do all day."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import tinygguf
from tests.gateway import HI, Door, run_door
from tests.llama_server import llama_server
from tests.sockets import free_port, until

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.endless(folder / "slow.gguf", ballast_mib=96, name="slow")
    tinygguf.tool_caller(folder / "tools.gguf")
    tinygguf.embedder(folder / "embed.gguf")
    settings = {
        "embedded": "always",
        "models_dir": folder,
        "lmstudio_url": f"http://127.0.0.1:{free_port()}",
    }
    async with run_door(tmp_path_factory.mktemp("data"), **settings) as running:
        async with asyncio.timeout(60):
            while "embedded:slow" not in [m.id for m in (await running.client.models.list()).data]:
                await running.desk.library.refresh(max_age=1.0)
        yield running


async def test_a_chat_loads_its_model_and_answers(door: Door) -> None:
    answer = await door.client.chat.completions.create(model="embedded:parrot", messages=HI)

    assert answer.choices[0].message.content == "Hello from the tiny test model."
    assert (await door.desk.library.resolve("embedded:parrot")).loaded


async def test_a_stream_has_the_whole_text_and_the_usage(door: Door) -> None:
    stream = await door.client.chat.completions.create(
        model="embedded:parrot", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    parts = [part async for part in stream]

    text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    assert text == "Hello from the tiny test model."
    assert parts[-1].usage
    assert parts[-1].usage.completion_tokens > 0


async def test_tools_are_called_and_their_answers_are_read(door: Door) -> None:
    question: Any = [{"role": "user", "content": "Weather in Paris?"}]
    first = await door.client.chat.completions.create(
        model="embedded:tools", messages=question, tools=[WEATHER]
    )
    calls = first.choices[0].message.tool_calls
    assert calls
    call: Any = calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}

    answer: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said: Any = first.choices[0].message.model_dump(exclude_none=True)
    second = await door.client.chat.completions.create(
        model="embedded:tools", messages=[*question, said, answer], tools=[WEATHER]
    )
    assert second.choices[0].message.content == "It is sunny now."


async def test_tool_calls_come_over_a_stream_too(door: Door) -> None:
    stream = await door.client.chat.completions.create(
        model="embedded:tools", messages=HI, tools=[WEATHER], stream=True
    )
    arguments, names = "", []
    async for part in stream:
        for call in part.choices[0].delta.tool_calls or [] if part.choices else []:
            assert call.function
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""

    assert names == ["get_weather"]
    assert json.loads(arguments) == {"city": "Paris"}


async def test_a_json_schema_binds_the_answer(door: Door) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good"]}, "sure": {"enum": [True]}},
        "required": ["mood", "sure"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = await door.client.chat.completions.create(
        model="embedded:parrot", messages=HI, response_format=wanted, max_tokens=100
    )

    content = answer.choices[0].message.content
    assert content
    assert json.loads(content) == {"mood": "good", "sure": True}


async def test_a_text_goes_on_and_texts_become_vectors(door: Door) -> None:
    text = await door.client.completions.create(
        model="embedded:slow", prompt="la", max_tokens=5, temperature=0
    )
    assert text.choices[0].text.strip().startswith(("la", "le", "lu"))

    vectors = await door.client.embeddings.create(model="embedded:embed", input=["one", "two"])
    assert [len(each.embedding) for each in vectors.data] == [288, 288]


async def test_errors_of_the_engine_have_the_clients_classes(door: Door) -> None:
    with pytest.raises(openai.NotFoundError, match="embedded:parrot"):
        await door.client.chat.completions.create(model="embedded:parot", messages=HI)
    with pytest.raises(openai.BadRequestError):
        await door.client.chat.completions.create(
            model="embedded:parrot",
            messages=HI,
            response_format={"type": "json_object"},
        )
    long: Any = [{"role": "user", "content": "much too long " * 20_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        await door.client.chat.completions.create(model="embedded:parrot", messages=long)
    assert caught.value.code == "context_length_exceeded"


async def test_leaving_stops_the_model(door: Door) -> None:
    stream = await door.client.chat.completions.create(
        model="embedded:slow", messages=HI, stream=True, max_tokens=4000
    )
    await anext(aiter(stream))
    model = await door.desk.library.resolve("embedded:slow")
    assert door.desk.library.leased_by(model)
    refused = await door.http.post("/api/v1/models/unload", json={"model_id": "embedded:slow"})
    assert refused.status_code == 409

    await stream.close()

    await until(lambda: not door.desk.library.leased_by(model))
    provider: Any = door.desk.library.provider("embedded")
    async with asyncio.timeout(20):
        while (doing := await provider.processing("slow")) is None or doing.status != "idle":
            await asyncio.sleep(0.05)


async def test_automatic_takes_a_model_that_is_there(door: Door) -> None:
    raw = await door.client.chat.completions.with_raw_response.create(
        model="auto", messages=HI, max_tokens=5
    )

    assert raw.headers["x-lmdesk-provider"] == "embedded"
    assert raw.headers["x-lmdesk-route"].startswith("auto:")


async def test_responses_work_where_the_server_has_them(tmp_path: Path) -> None:
    model = tinygguf.parrot(tmp_path / "parrot.gguf")
    async with llama_server("-m", str(model), "-c", "2048", "--jinja") as url:
        settings: dict[str, Any] = {
            "providers": {"peer": {"kind": "llamacpp", "base_url": url}},
            "lmstudio_url": f"http://127.0.0.1:{free_port()}",
        }
        async with run_door(tmp_path / "data", **settings) as door:
            listed = [model.id for model in (await door.client.models.list()).data]
            (name,) = [each for each in listed if each.startswith("peer:")]

            raw = await door.client.responses.with_raw_response.create(model=name, input="Hi")
            assert raw.parse().output_text == "Hello from the tiny test model."
            assert raw.headers["x-lmdesk-model"] == name

            stream = await door.client.responses.create(model=name, input="Hi", stream=True)
            kinds, text = [], ""
            async for event in stream:
                kinds.append(event.type)
                text += event.delta if event.type == "response.output_text.delta" else ""
            assert text == "Hello from the tiny test model."
            assert kinds[-1] == "response.completed"
            assert door.meter.of("peer").failures == 0
