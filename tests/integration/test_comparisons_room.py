"""Comparisons with the real engine: models that do not fit beside each other take turns in memory."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import tinygguf
from tests.desk import DeskUnderTest, run_desk

pytestmark = pytest.mark.anyio

AT = "/api/v1/comparisons"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("left", "right", "third"):
        tinygguf.parrot(folder / f"{name}.gguf", name=name, ballast_mib=512)
    return folder


async def compared(desk: DeskUnderTest, *models: str) -> dict[str, Any]:
    """Asked of these models, to the end."""
    body = {"content": "Hi", "columns": [{"model_id": f"embedded:{each}"} for each in models]}
    started = await desk.post(AT, json=body)
    assert started.status_code == 202, started.text
    async with asyncio.timeout(120):
        while (now := (await desk.get(f"{AT}/{started.json()['id']}")).json())["job_id"]:
            await asyncio.sleep(0.1)
    return dict(now)


async def test_the_next_columns_model_takes_the_place_of_the_one_before(
    tmp_path: Path, models_dir: Path
) -> None:
    async with run_desk(
        tmp_path, embedded="always", models_dir=models_dir, engine_memory_budget="900MiB"
    ) as desk:
        now = await compared(desk, "left", "right")

        assert [each["state"] for each in now["now"]] == ["done", "done"], now
        assert [each["made_room"] for each in now["now"]] == [[], ["left"]]
        assert all(each["stats"]["load_time_seconds"] for each in now["now"])
        loaded = (await desk.get("/api/v1/models/loaded")).json()
        assert [model["id"] for model in loaded] == ["right"]


async def test_a_model_that_is_no_column_is_never_taken_out(
    tmp_path: Path, models_dir: Path
) -> None:
    async with run_desk(
        tmp_path, embedded="always", models_dir=models_dir, engine_memory_budget="900MiB"
    ) as desk:
        await desk.post("/api/v1/models/load", json={"model_id": "embedded:third"})
        now = await compared(desk, "left", "third")

        assert [each["state"] for each in now["now"]] == ["done", "done"]
        assert now["now"][0]["made_room"] == ["third"]  # a column itself
        now = await compared(desk, "left", "right")
        assert [each["state"] for each in now["now"]] == ["failed", "failed"]
        assert now["now"][0]["problem"]["hint"]
        loaded = (await desk.get("/api/v1/models/loaded")).json()
        assert [model["id"] for model in loaded] == ["third"]
