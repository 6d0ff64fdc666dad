"""The last model after a restart, over real sockets and the real database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.desk import run_desk
from tests.servers import ScriptedLMStudio
from tests.sockets import serve, until

pytestmark = pytest.mark.anyio

QWEN = "qwen/qwen3-4b"


@pytest.mark.parametrize("on_start", ["last", "reconnect", "nothing"])
async def test_the_last_model_comes_back_only_if_asked_to(tmp_path: Path, on_start: str) -> None:
    studio = ScriptedLMStudio()
    async with serve(studio) as url:
        async with run_desk(tmp_path, lmstudio_url=url) as desk:
            wanted = {"model_id": QWEN, "context_length": 2048}
            answer = await desk.post("/api/v1/models/load", json=wanted)
            assert answer.json()["success"] is True
            # Kept once the machine was sampled again.
            await until(lambda: _kept(tmp_path))
        studio.models[QWEN].instances.clear()

        async with run_desk(tmp_path, lmstudio_url=url, on_start=on_start) as desk:
            if on_start == "last":
                await until(lambda: studio.models[QWEN].instances)
                assert list(studio.models[QWEN].instances.values()) == [2048]
            else:
                assert (await desk.get("/api/v1/models/loaded")).json() == []
                assert (await desk.get("/api/v1/jobs")).json() == []
            told = (await desk.get("/api/v1/pulse")).json()
            assert told["picks_loaded"] is (on_start != "nothing")


def _kept(folder: Path) -> bool:
    with closing(sqlite3.connect(next(folder.glob("*.db")), timeout=5)) as database:
        return bool(database.execute("select count(*) from loads").fetchone()[0])
