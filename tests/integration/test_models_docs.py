"""Every example of docs/models.md, run as it stands there against a desk."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from api.settings import Settings
from core import breaker, line
from core.models import Instance, ModelInfo
from core.routing import Here, Machine, weighed
from core.speeds import Speed
from tests.gateway import Door, loaded, scripted

pytestmark = pytest.mark.anyio

DOCUMENT = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"
DEADLINE = 60.0


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with scripted(tmp_path, loaded()) as running:
        yield running


async def run(*command: str) -> str:
    """What the command prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
    )
    async with asyncio.timeout(DEADLINE):
        out, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    return out.decode()


async def test_the_curl_examples_run(door: Door) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    preview, stats = [
        orjson.loads(await run("sh", "-c", each.replace(ADDRESS, door.url)))
        for each in examples("sh")
    ]

    assert (preview["kind"], preview["task"]) == ("auto", "coding")
    assert preview["candidates"][0]["reasons"]
    assert set(stats) == {"providers", "names"}


async def test_the_python_example_asks_two_models_at_once(door: Door) -> None:
    (code,) = examples("python")

    printed = await run(sys.executable, "-c", code.replace(ADDRESS, door.url))

    assert re.match(r"lmstudio:\S+: 0 1 2 ", printed)


@pytest.mark.parametrize("example", examples("yaml"))
def test_the_settings_can_be_used_as_they_stand(example: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, **yaml.safe_load(example))

    assert settings.provider_configs()


def points(**facts: Any) -> dict[str, float]:
    """What counts for a model, by its words."""
    here = facts.pop("here", Here())
    machine = facts.pop("machine", Machine())
    task, preferred = facts.pop("task", "general"), facts.pop("preferred", ())
    model = ModelInfo(**{"id": "m", "name": "m", "provider": "p", **facts})
    counted = weighed(
        model, task, preferred=preferred, machine=machine, here=here, remote=facts.get("far", False)
    )
    return {why: value for value, why in counted.points}


def test_the_points_in_the_table_are_those_that_are_given() -> None:
    assert points(preferred=("m",))["number 1 of your preferences"] == 100
    assert points(preferred=tuple("abcdefghijkm"))["number 12 of your preferences"] == 40
    assert points(id="x-coder-8b", task="coding")["made for code"] == 30
    assert points(id="x-coder-8b")["made for code"] == -8
    assert points(id="qwen3-8b", task="analysis")["thinks before it answers"] == 10
    sizes = [points(id=f"m-{size}b")[f"{size}B parameters"] for size in (1, 8, 70)]
    assert [round(each) for each in sizes] == [0, 15, 31]
    assert points(instances=(Instance(id="m"),))["in memory already"] == 25
    slow, quick = Speed(load_seconds=10), Speed(load_seconds=300)
    assert points(here=Here(slow))["loads in about 10 s"] == -5
    assert points(here=Here(quick))["loads in about 300 s"] == -20
    tight = Machine(free=1, total=None)
    assert points(size_bytes=10**9, machine=tight)["others would have to go first"] == -15
    rates = {3: -12, 10: -4, 20: 4, 50: 8}
    for rate, value in rates.items():
        assert points(here=Here(Speed(tokens_per_second=rate)))[f"{rate} tok/s here"] == value
    assert points(here=Here(busy=2))["2 requests at it"] == -10


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"up to {line.MAX_WAITING}, and say so" in DOCUMENT
    assert breaker.FAILURES == 3
    assert "failed three times in a row is left alone for two seconds" in DOCUMENT
    assert (breaker.FIRST_REST_SECONDS, breaker.LONGEST_REST_SECONDS) == (2.0, 60.0)
