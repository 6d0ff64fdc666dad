"""Calls to a model's process, against a process that behaves as llama.cpp does at its worst."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infrastructure.engine.catalogue import Model
from infrastructure.engine.gguf import read_header
from infrastructure.engine.instance import Instance
from infrastructure.engine.process import ChildProcess, ChildSettings
from infrastructure.engine.upstream import Answer, exchange, new_session
from tests import tinygguf

pytestmark = pytest.mark.anyio

STREAMED = b'data: {"word": 1}\n\ndata: [DONE]\n\n'


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a first request as if more could follow, and hangs up on the second."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    if b"/stream" in head:
        writer.write(
            b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(STREAMED), STREAMED)
        )
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    await reader.read(1)
    writer.close()


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncGenerator[Instance]:
    path = tinygguf.parrot(tmp_path / "parrot.gguf")
    settings = ChildSettings(id="parrot", path=str(path), context_length=512, file_bytes=1)
    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    child = ChildProcess(settings)
    child.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    model = Model("parrot", path, read_header(path), name="Parrot", publisher="us", size_bytes=1)
    yield Instance(id="parrot", model=model, child=child, ttl_seconds=None, load_seconds=0)
    server.close()
    await server.wait_closed()


async def test_a_call_right_behind_a_streamed_answer_is_not_lost(instance: Instance) -> None:
    async with new_session() as session:
        for _ in range(3):
            async with AsyncExitStack() as stack:
                answer = await Answer.open(stack, session, instance, "/stream", {})
                assert [event async for event in answer.events()] == [{"word": 1}]
            assert await exchange(session, instance, "/plain", {}) == {}
