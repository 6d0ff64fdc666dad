"""Real sockets for tests: ASGI apps, fixed answers, and raw bytes that no framework would send."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import uvicorn

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Return when the condition holds; fail when it does not within the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.01)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _QuietServer(uvicorn.Server):
    """Leaves the signals to the test runner."""

    @property
    def listening(self) -> bool:
        return self.started


@asynccontextmanager
async def serve(app: Asgi, *, port: int = 0) -> AsyncGenerator[str]:
    """The app on a real socket of this loop, with WebSockets if it says so; its base URL."""
    # The protocol by its name: only then does asyncio send at once instead of waiting for more.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio" if getattr(app, "websocket", False) else "none",
            http="httptools",
            server_header=False,
            backlog=1024,
        )
        server = _QuietServer(config)
        # `_serve` is `serve` without the signal handlers.
        running = asyncio.create_task(server._serve([listener]))
        try:
            await until(lambda: server.listening or running.done())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            _break_off(server)
            await running
            # Somebody may have come in before the door was shut.
            _break_off(server)
            await until(lambda: not server.server_state.connections)


def _break_off(server: uvicorn.Server) -> None:
    """Like a process that ends: what is open breaks off."""
    for connection in list(server.server_state.connections):
        connection.transport.abort()


def pages(routes: dict[str, tuple[int, str, bytes]], *, other: tuple[int, str, bytes]) -> Asgi:
    """A server of fixed answers, path → (status, content type, body)."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        status, kind, body = routes.get(scope["path"], other)
        await start(send, kind, status=status)
        await part(send, body, more=False)

    return app


@asynccontextmanager
async def raw_server(
    handle: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[str]:
    """A socket server that gets each request's head; what it writes goes out as it is."""

    handlers: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        handlers.add(me)
        try:
            await answered(reader, writer)
        finally:
            handlers.discard(me)
            writer.transport.abort()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _content_length(head)
                await reader.readexactly(length)
                await handle(head, writer)
                if writer.is_closing():
                    break
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        # Like a process that ends: what is open breaks off.
        for handler in list(handlers):
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


class Passage:
    """A way to a server on which WebSockets can fall silent without ending, as in a laptop's sleep."""

    def __init__(self) -> None:
        self.url = ""
        self._frozen: set[asyncio.Event] = set()
        self._sockets: set[asyncio.Event] = set()

    def freeze(self) -> None:
        """Nothing passes any more on the WebSockets open now; new ones are not affected."""
        self._frozen |= self._sockets

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while raw := await reader.read(65536):
                if b"upgrade: websocket" in raw.lower():
                    self._sockets.add(way)
                if way in self._frozen:
                    continue
                writer.write(raw)
                await writer.drain()
        if way not in self._frozen:
            writer.close()


@asynccontextmanager
async def passage(url: str) -> AsyncGenerator[Passage]:
    """A passage to the server at this base URL."""
    made = Passage()
    port = int(url.rpartition(":")[2])
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.Event()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        tasks.add(asyncio.create_task(made.carry(reader, far_writer, way)))
        tasks.add(asyncio.create_task(made.carry(far_reader, writer, way)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)


def http_json(body: object) -> bytes:
    """A whole raw answer."""
    raw = orjson.dumps(body)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(raw)
    ) + raw


EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def http_chunk(raw: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def start(send: Send, kind: str, *, status: int = 200) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def json_reply(send: Send, status: int, body: Any) -> None:
    await start(send, "application/json; charset=utf-8", status=status)
    await part(send, orjson.dumps(body), more=False)


class Watch:
    """Knows when the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self.gone = asyncio.create_task(self._disconnect(receive))

    @property
    def is_gone(self) -> bool:
        return self.gone.done()

    async def unless_gone(self, event: asyncio.Event) -> bool:
        """True when the event came; False when the client left first."""
        if event.is_set():
            return not self.is_gone
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({waiting, self.gone}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return not self.is_gone

    def close(self) -> None:
        self.gone.cancel()

    @staticmethod
    async def _disconnect(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
