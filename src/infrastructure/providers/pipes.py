"""The shortest way to a plain HTTP server: for answers that are passed on as they come.

aiohttp's client costs half as much again per streamed token (docs/performance.md). This one does
nothing but POST: its own protocol, llhttp's parser, and kept-alive connections.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import cast
from urllib.parse import urlsplit

import httptools
from pydantic import SecretStr

from infrastructure.http import CONNECT_SECONDS, KEEPALIVE_SECONDS

CONNECT_SLICES = 3
# So much may wait for a slow reader; beyond it the server is not read either.
MAX_WAITING_BYTES = 256 * 1024


class NotReached(Exception):
    """There is no connection to be had."""


class Headers(Mapping[str, str]):
    """As the server sent them; look-ups ignore case, and of several of one name the last counts."""

    def __init__(self, given: list[tuple[bytes, bytes]]) -> None:
        self._by_name = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in given}

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


class Pipes:
    """Connections to one server. Close with `close`."""

    def __init__(
        self,
        base_url: str,
        token: SecretStr | None,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`base_url` must be `http://…`; `errors` words what goes wrong while an answer is read."""
        self.errors = errors
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._prefix = parts.path
        lines = [
            f"Host: {parts.netloc}",
            "User-Agent: lmdesk",
            "Accept: */*",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
        ]
        if token is not None:
            lines.append(f"Authorization: Bearer {token.get_secret_value()}")
        self._head = "\r\n".join(lines).encode("ascii")
        self._idle: list[Pipe] = []
        self._open: set[Pipe] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def post(self, path: str, body: bytes) -> "Pipe":
        """Send, and return when the headers are there. Raises NotReached or ConnectionError."""
        head = b"POST %b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n" % (
            f"{self._prefix}{path}".encode("ascii"),
            self._head,
            len(body),
        )
        while True:
            pipe = self._kept()
            kept = pipe is not None
            if pipe is None:
                pipe = await self._connect()
            try:
                await pipe.send(head + body)
            except ConnectionError:
                # The server may drop an idle connection in the moment we use it.
                if kept and not pipe.heard:
                    continue
                raise
            return pipe

    def close(self) -> None:
        """Break off what is open."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for pipe in list(self._open):
            pipe.abort()

    async def _connect(self) -> "Pipe":
        loop = asyncio.get_running_loop()
        connecting = asyncio.create_task(
            loop.create_connection(lambda: Pipe(self), self._host, self._port)
        )
        try:
            # In slices: our own loop, busy for a second, must not look like a server that is away.
            for _ in range(CONNECT_SLICES):
                await asyncio.wait({connecting}, timeout=CONNECT_SECONDS / CONNECT_SLICES)
                if connecting.done():
                    break
            else:
                raise NotReached(f"no connection within {CONNECT_SECONDS:g} s")
            _, pipe = connecting.result()
        except BaseException as error:
            connecting.cancel()
            connecting.add_done_callback(_hang_up)
            if isinstance(error, OSError):
                raise NotReached(str(error)) from error
            raise
        self._open.add(pipe)
        return pipe

    def _kept(self) -> "Pipe | None":
        """The connection used last, if the server will not have dropped it by now."""
        while self._idle:
            pipe = self._idle.pop()
            if not pipe.lost and time.monotonic() - pipe.idle_since < KEEPALIVE_SECONDS:
                return pipe
            pipe.abort()
        return None

    def keep(self, pipe: "Pipe") -> None:
        """For a pipe whose answer was read to its end."""
        pipe.idle_since = time.monotonic()
        self._idle.append(pipe)
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(KEEPALIVE_SECONDS, self._drop_old)

    def forget(self, pipe: "Pipe") -> None:
        """For a pipe that has ended."""
        self._open.discard(pipe)

    def _drop_old(self) -> None:
        self._sweep = None
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        fresh = [pipe for pipe in self._idle if not pipe.lost and pipe.idle_since > oldest]
        for pipe in set(self._idle) - set(fresh):
            pipe.abort()
        self._idle = fresh
        if fresh:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(KEEPALIVE_SECONDS, self._drop_old)


def _hang_up(connecting: "asyncio.Task[tuple[asyncio.Transport, Pipe]]") -> None:
    """For a connection that came when nobody waited for it any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].abort()


class Pipe(asyncio.Protocol):
    """One connection, and the answer that is coming over it."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self.lost = False
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._given: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._complete = False
        self._stays = False
        self._closed = False
        self._until_closed = False
        self._error: Exception | None = None
        self.heard = False
        """Whether anything came since the request."""
        self.status = 0
        self.headers: Mapping[str, str] = Headers([])

    # -- for the one who asks --------------------------------------------------------------------

    async def send(self, raw: bytes) -> None:
        """Ask, and wait for the headers of the answer. Raises ConnectionError."""
        self._begin()
        assert self._transport is not None
        self._transport.write(raw)
        try:
            while not self.status:
                if self._error is not None:
                    raise self._error
                if self.lost:
                    raise ConnectionResetError("closed before an answer came")
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.abort()
            raise

    async def read(self) -> bytes:
        """What has arrived since; empty at the end. Raises ProviderError."""
        while not self._pieces:
            if self._complete:
                return b""
            if self._error is not None:
                with self._pipes.errors():
                    raise self._error
            # Not in a coroutine of its own: this is awaited for every token.
            self._waiter = self._loop.create_future()
            await self._waiter
        pieces = self._pieces
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._waiting = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return raw

    def close(self) -> None:
        """Done with the answer: the connection is kept if all of it came, else ended at once."""
        if self._closed:
            return
        self._closed = True
        if self._complete and self._stays and not self.lost:
            self._pipes.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        """End the connection now, which stops the server's work."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- called by the loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._complete:  # nobody asked for it: what comes next here would be misread
            self._stays = False
            self.abort()
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = self._error or ConnectionAbortedError(f"not HTTP: {error}")
            self.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pipes.forget(self)
        if self._until_closed and exc is None:
            self._complete = True
        if not self._complete and self._error is None:
            self._error = ConnectionResetError("closed before the answer was complete")
        self._wake()

    # -- called by the parser --------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._given.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; the real one follows
            self._given = []
            return
        self.headers = Headers(self._given)
        if self.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("the answer is packed, although that was not asked for")
        chunked = "chunked" in self.headers.get("transfer-encoding", "")
        self._until_closed = not chunked and "content-length" not in self.headers
        self.status = status

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._waiting += len(body)
        if self._waiting > MAX_WAITING_BYTES and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
            self._stays = self._parser.should_keep_alive()  # it knows only now
