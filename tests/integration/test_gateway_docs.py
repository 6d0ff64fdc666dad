"""Every example of docs/gateway.md, run as it stands there against a desk."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import yaml

from api.gateway.door import LIST, POST_ROUTES
from tests.gateway import Door, loaded, scripted

pytestmark = pytest.mark.anyio

DOCUMENT = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"
DEADLINE = 60.0


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with scripted(tmp_path, loaded()) as running:
        yield running


async def run(*command: str, door: Door, **more: str) -> str:
    """What the command prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*", **more},
    )
    async with asyncio.timeout(DEADLINE):
        out, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    return out.decode()


async def test_the_python_examples_run(door: Door) -> None:
    first, second = (each.replace(ADDRESS, door.url) for each in examples("python"))

    printed = await run(sys.executable, "-c", first, door=door)
    assert "lmstudio:qwen/qwen3-4b\n" in printed
    assert printed.endswith("".join(f"{n} " for n in range(20)))

    printed = await run(sys.executable, "-c", second, door=door)
    assert printed.startswith("lmstudio:qwen/qwen3-4b auto:coding\n0 1 2 ")


async def test_the_curl_example_runs(door: Door) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    example = examples("sh")[0].replace(ADDRESS, door.url)

    answer = orjson.loads(await run("sh", "-c", example, door=door))

    assert answer["choices"][0]["message"]["content"].startswith("0 1 2 ")


async def test_the_variables_are_enough_for_openais_package(door: Door) -> None:
    lines = examples("sh")[1].replace(ADDRESS, door.url).replace("export ", "").split()
    code = "from openai import OpenAI; print([m.id for m in OpenAI().models.list()])"

    printed = await run(
        sys.executable, "-c", code, door=door, **dict(line.split("=", 1) for line in lines)
    )

    assert "'lmstudio:qwen/qwen3-4b'" in printed


async def test_the_editors_settings_lead_to_a_model_that_answers(door: Door) -> None:
    (entry,) = yaml.safe_load(examples("yaml")[0])["models"]

    assert entry["apiBase"] == f"{ADDRESS}/v1"
    answer = await door.http.post(
        entry["apiBase"].replace(ADDRESS, door.url) + "/chat/completions",
        headers={"authorization": f"Bearer {entry['apiKey']}"},
        json={"model": entry["model"], "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert answer.status_code == 200


async def test_the_error_shown_is_the_one_that_comes(door: Door) -> None:
    shown = orjson.loads(examples("json")[0])

    answer = await door.http.post("/v1/completions", json={"model": "qwen3", "prompt": "x"})

    assert answer.status_code == 404
    assert answer.json() == shown


def test_every_route_is_documented() -> None:
    for route in (LIST, *POST_ROUTES):
        assert f"`{'GET' if route == LIST else 'POST'} {route}`" in DOCUMENT
