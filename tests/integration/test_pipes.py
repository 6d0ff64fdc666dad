"""The lean client against raw sockets: whatever a server does, an answer is whole or an error."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import DeskError, ProviderProtocolError, ProviderUnreachable
from core.ports import RawAnswer
from infrastructure.providers import pipes
from infrastructure.providers.server import HttpServer
from tests.sockets import EVENTS_HEAD, free_port, http_chunk, raw_server, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def at(url: str, token: str | None = None) -> AsyncGenerator[HttpServer]:
    server = HttpServer(url, token=SecretStr(token) if token else None, who="The server")
    try:
        yield server
    finally:
        await server.aclose()


async def whole(answer: RawAnswer) -> bytes:
    raw = b""
    try:
        while piece := await answer.read():
            raw += piece
        return raw
    finally:
        answer.close()


class Writing:
    """Writes given bytes to each request, and remembers what was asked over which connection."""

    def __init__(self, *answers: bytes, ends: bool = False, bytewise: bool = False) -> None:
        self.answers = list(answers)
        self.ends = ends
        self.bytewise = bytewise
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.heads.append(head)
        self.writers.append(writer)
        raw = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        step = 1 if self.bytewise else max(len(raw), 1)
        for at_byte in range(0, len(raw), step):
            writer.write(raw[at_byte : at_byte + step])
            await writer.drain()
            await asyncio.sleep(0)
        if self.ends:
            writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = EVENTS_HEAD + http_chunk(b"data: 1\n\n") + http_chunk(b"data: 2\n\n") + b"0\r\n\r\n"


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK, b"hello"),
        (CHUNKED, b"data: 1\n\ndata: 2\n\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_an_answer_arrives_however_it_is_cut(raw: bytes, body: bytes, bytewise: bool) -> None:
    writing = Writing(raw, bytewise=bytewise)
    async with raw_server(writing) as url, at(url, "secret") as server:
        for _ in range(3):
            answer = await server.forward("/v1/x", b"{}")

            assert await whole(answer) == body
            assert answer.headers.get("CONTENT-type", "").split("/")[0] in ("text", "")
        head = writing.heads[0]
        assert head.startswith(b"POST /v1/x HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer secret\r\n" in head
        assert b"\r\nContent-Length: 2\r\n" in head
        assert len(set(writing.writers)) == 1 or raw.startswith(b"HTTP/1.1 204")


async def test_without_a_length_the_body_lasts_until_the_server_closes() -> None:
    writing = Writing(b"HTTP/1.1 200 OK\r\n\r\nhello", ends=True)
    async with raw_server(writing) as url, at(url) as server:
        assert await whole(await server.forward("/", b"{}")) == b"hello"
        assert await whole(await server.forward("/", b"{}")) == b"hello"


async def test_a_kept_connection_that_was_dropped_meanwhile_is_replaced() -> None:
    writing = Writing(OK, ends=True)
    async with raw_server(writing) as url, at(url) as server:
        for _ in range(4):
            assert await whole(await server.forward("/", b"{}")) == b"hello"


async def test_an_answer_nobody_asked_for_is_given_to_nobody() -> None:
    writing = Writing(OK + OK.replace(b"hello", b"wrong"), OK)
    async with raw_server(writing) as url, at(url) as server:
        assert await whole(await server.forward("/", b"{}")) == b"hello"
        assert await whole(await server.forward("/", b"{}")) == b"hello"
        assert len(set(writing.writers)) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        EVENTS_HEAD + http_chunk(b"data: 1\n\n"),
        EVENTS_HEAD + b"5\r\nhel",
        EVENTS_HEAD + http_chunk(b"data: 1\n\n") + b"no chunk\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(raw: bytes) -> None:
    async with raw_server(Writing(raw, ends=True)) as url, at(url) as server:
        with pytest.raises((ProviderUnreachable, ProviderProtocolError)) as caught:
            await whole(await server.forward("/", b"{}"))

        assert caught.value.message.startswith(("The server", "What answers"))


async def test_nobody_there_is_said_so_at_once() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with at(url) as server:
        began = time.monotonic()
        with pytest.raises(ProviderUnreachable, match="does not answer at"):
            await server.forward("/", b"{}")

        assert time.monotonic() - began < 2


async def test_closing_ends_the_connection_at_once() -> None:
    gone = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(EVENTS_HEAD + http_chunk(b"data: 1\n\n"))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()
        writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with at(url) as server:
        answer = await server.forward("/", b"{}")
        assert await answer.read() == b"data: 1\n\n"
        answer.close()
        answer.close()
        async with asyncio.timeout(5):
            await gone.wait()
    listening.close()


async def test_a_connection_that_comes_when_its_caller_has_just_gone_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()
        writer.close()

    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def and_stop(*args: Any, **named: Any) -> Any:
        made = await connect(*args, **named)
        asking.cancel()
        return made

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with at(url) as server:
        monkeypatch.setattr(loop, "create_connection", and_stop)
        asking = asyncio.create_task(server.forward("/", b"{}"))
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await gone.wait()
    listening.close()


async def test_a_server_faster_than_its_reader_has_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipes, "MAX_WAITING_BYTES", 1000)
    written = 0

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(EVENTS_HEAD)
        for _ in range(1000):
            writer.write(http_chunk(b"x" * 65536))
            await writer.drain()
            written += 65536
        writer.write(b"0\r\n\r\n")

    async with raw_server(handle) as url, at(url) as server:
        answer = await server.forward("/", b"{}")
        assert isinstance(answer, pipes.Pipe)
        transport = answer._transport
        assert transport is not None
        await until(lambda: not transport.is_reading())
        assert written < 65_536_000
        # From here on the server gets rid of no more than the system holds for both ends.
        assert len(await whole(answer)) == 65_536_000
        assert written == 65_536_000


async def test_many_answers_at_once_do_not_mix() -> None:
    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ")[1]
        writer.write(EVENTS_HEAD)
        for _ in range(20):
            writer.write(http_chunk(path))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async with raw_server(handle) as url, at(url) as server:

        async def ask(number: int) -> None:
            for _ in range(3):
                assert (
                    await whole(await server.forward(f"/{number}", b"{}")) == b"/%d" % number * 20
                )

        await asyncio.gather(*(ask(number) for number in range(100)))


async def test_closing_the_server_breaks_off_what_is_open() -> None:
    async with raw_server(Writing(EVENTS_HEAD)) as url:
        async with at(url) as server:
            answer = await server.forward("/", b"{}")
            reading = asyncio.create_task(answer.read())
            await asyncio.sleep(0)
        with pytest.raises(DeskError):
            await reading
