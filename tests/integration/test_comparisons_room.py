"""Comparisons with the real engine: models that do not fit beside each other take turns in memory."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
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
        assert await loaded(desk) == ["right"]


async def test_a_stop_while_room_is_made_ends_the_load_and_brings_back_what_went(
    tmp_path: Path, models_dir: Path
) -> None:
    async with run_desk(
        tmp_path, embedded="always", models_dir=models_dir, engine_memory_budget="900MiB"
    ) as desk:
        body = {
            "content": "Hi",
            "columns": [{"model_id": "embedded:left"}, {"model_id": "embedded:right"}],
        }
        url = f"{AT}/{(await desk.post(AT, json=body)).json()['id']}"
        async with asyncio.timeout(120):
            await held_load(desk, "embedded:right")
            stopped = (await desk.post(f"{url}/stop")).json()
            while await loaded(desk) != ["left"]:
                await asyncio.sleep(0.05)
            jobs = (await desk.get("/api/v1/jobs", params={"state": "running"})).json()

        assert [each["state"] for each in stopped["now"]] == ["done", "stopped"]
        assert [job["kind"] for job in jobs] == []


async def held_load(desk: DeskUnderTest, model_id: str) -> None:
    """Once the model is being loaded: keep it from getting further."""
    while True:
        for job in (await desk.get("/api/v1/jobs", params={"state": "running"})).json():
            if (job["kind"], job["model_id"], job["phase"]) == ("load", model_id, "loading"):
                for process in psutil.Process().children(recursive=True):
                    if process.cmdline()[-1:] and process.cmdline()[-1].endswith("child.py"):
                        process.suspend()
                        return
        await asyncio.sleep(0.01)


async def loaded(desk: DeskUnderTest) -> list[str]:
    return [model["id"] for model in (await desk.get("/api/v1/models/loaded")).json()]


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
        assert await loaded(desk) == ["third"]
