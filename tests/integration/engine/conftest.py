"""Engines on real sockets with tiny models; one for each module, which is quick enough to share."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests import tinygguf
from tests.engine_fixture import RunningEngine, start_engine

HI = [{"role": "user", "content": "Hi."}]
WEATHER = {
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


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tinygguf.parrot(folder / "parrot.gguf")
    tinygguf.parrot(folder / "acme/talker-GGUF/talker.gguf", ("Acme", " speaks", "."))
    tinygguf.endless(folder / "endless.gguf")
    tinygguf.endless(folder / "slow.gguf", ballast_mib=96, name="slow")
    tinygguf.thinker(folder / "thinker.gguf")
    tinygguf.tool_caller(folder / "tools.gguf")
    tinygguf.embedder(folder / "embed.gguf")
    tinygguf.truncated(folder / "truncated.gguf")
    tinygguf.corrupt(folder / "corrupt.gguf")
    return folder


@pytest.fixture(scope="module")
async def engine(models_dir: Path) -> AsyncIterator[RunningEngine]:
    async with start_engine(models_dir) as running:
        yield running


@pytest.fixture(scope="module")
async def client(engine: RunningEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(engine) as connected:
        yield connected


def connect(engine: RunningEngine) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=engine.url,
        headers=engine.headers,
        timeout=httpx.Timeout(60),
        trust_env=False,
        limits=httpx.Limits(keepalive_expiry=2),
    )


async def loaded(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """Instance id → its config, as the engine reports it."""
    models = (await client.get("/api/v1/models")).json()["models"]
    return {i["id"]: i["config"] for model in models for i in model["loaded_instances"]}


async def unload_all(client: httpx.AsyncClient) -> None:
    for instance_id in await loaded(client):
        await client.post("/api/v1/models/unload", json={"instance_id": instance_id})


async def events(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> list[dict[str, Any] | str]:
    """The data of every event; `[DONE]` as text."""
    async with client.stream("POST", path, json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), (
            await response.aread()
        )
        return [
            line[6:] if line == "data: [DONE]" else orjson.loads(line[6:])
            async for line in response.aiter_lines()
            if line.startswith("data: ")
        ]
