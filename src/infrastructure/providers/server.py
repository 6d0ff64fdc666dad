"""One server over HTTP: control calls, streams, and its failures in our words. Every adapter's base."""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
import orjson
from pydantic import SecretStr

from core.errors import ProviderUnreachable
from core.ports import RawAnswer
from infrastructure.http import Reply, new_client, provider_errors, read_reply
from infrastructure.providers.pipes import NotReached, Pipes

CONTROL_SECONDS = 10.0
LOOK_SECONDS = 1.0
# A server may close a pooled connection in the moment we use it; that shows at once, unlike a
# server that breaks down over the request.
STALE_SECONDS = 0.5
_JSON = {"Content-Type": "application/json"}


class HttpServer:
    """Its connections. Opened on first use, inside the running loop; close with `aclose`."""

    def __init__(
        self,
        base_url: str,
        *,
        token: SecretStr | None,
        who: str,
        start_hint: str = "",
        seconds: float = CONTROL_SECONDS,
    ) -> None:
        """`who` opens the sentences about it; `start_hint` is what to do when nothing answers.

        `seconds` is how long a control call may take that says nothing else.
        """
        self.base_url = base_url
        self.who = who
        self.seconds = seconds
        self._start_hint = start_hint
        self._token = token
        self._client: aiohttp.ClientSession | None = None
        self._pipes: Pipes | None = None

    @property
    def token(self) -> SecretStr | None:
        """What every request carries; None where no token is set."""
        return self._token

    async def get(self, path: str, *, seconds: float | None = None) -> Reply:
        """The whole answer, whatever its status."""
        return await self._whole("GET", path, None, self.seconds if seconds is None else seconds)

    async def post(self, path: str, body: dict[str, Any], *, seconds: float | None) -> Reply:
        """The whole answer, whatever its status; `seconds` None waits for as long as it takes."""
        return await self._whole("POST", path, body, seconds)

    async def delete(self, path: str, body: dict[str, Any], *, seconds: float | None) -> Reply:
        """The whole answer, whatever its status."""
        return await self._whole("DELETE", path, body, seconds)

    async def open(
        self,
        path: str,
        body: dict[str, Any] | bytes | None,
        *,
        method: str = "POST",
        seconds: float | None = None,
    ) -> "Stream":
        """Send and return when the headers are there. The caller closes the stream."""
        with self.errors():
            async with asyncio.timeout(seconds):
                response = await self._request(method, path, body)
        return Stream(self, response)

    async def forward(self, path: str, body: bytes) -> RawAnswer:
        """As `open`, by the shortest way: for answers that are passed on as they come."""
        if not self.base_url.startswith("http://"):
            return await self.open(path, body)
        if self._pipes is None:
            self._pipes = Pipes(self.base_url, self._token, self.errors)
        try:
            with self.errors():
                return await self._pipes.post(path, body)
        except NotReached as error:
            self.forget()
            raise ProviderUnreachable(
                f"{self.who} does not answer at {self.base_url}.", hint=self._start_hint
            ) from error

    def forget(self) -> None:
        """Nothing answered: another server, or another version, may take its place."""

    async def aclose(self) -> None:
        """Close what is open; a later call opens anew."""
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            pipes.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _whole(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float | None
    ) -> Reply:
        with self.errors():
            async with asyncio.timeout(seconds):
                response = await self._request(method, path, body)
                try:
                    return await read_reply(response)
                finally:
                    # Gives a connection that was read to its end back, and closes another.
                    response.release()

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | bytes | None
    ) -> aiohttp.ClientResponse:
        started = time.monotonic()
        try:
            return await self._send(method, path, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            new = isinstance(error, aiohttp.ClientConnectorError)
            if new or time.monotonic() - started > STALE_SECONDS:
                raise
        return await self._send(method, path, body)

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | bytes | None
    ) -> aiohttp.ClientResponse:
        # A redirect is never followed: it would carry the token to another place.
        return await self.opened().request(
            method,
            self.base_url + path,
            data=orjson.dumps(body) if isinstance(body, dict) else body,
            headers=None if body is None else _JSON,
            allow_redirects=False,
        )

    def opened(self) -> aiohttp.ClientSession:
        """The client, for what goes beyond the calls here."""
        if self._client is None:
            self._client = new_client(self._token)
        return self._client

    @contextmanager
    def errors(self) -> Generator[None]:
        """Foreign exceptions in our words; a server that went away may come back as another."""
        try:
            with provider_errors(self.who, url=self.base_url, hint=self._start_hint):
                yield
        except ProviderUnreachable:
            self.forget()
            raise


class Stream:
    """An answer that is still coming."""

    def __init__(self, server: HttpServer, response: aiohttp.ClientResponse) -> None:
        self._server = server
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._look = self._loop.call_later(LOOK_SECONDS, self._look_at_connection)

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """As the server sent them."""
        return self._response.headers

    @property
    def is_events(self) -> bool:
        """Whether it is a stream of events, as asked; else read the `reply`."""
        return self._response.status == 200 and self._response.content_type == "text/event-stream"

    async def read(self, *, seconds: float | None = None) -> bytes:
        """What has arrived since; empty at the end."""
        try:
            if seconds is None:
                return await self._response.content.readany()
            async with asyncio.timeout(seconds):
                return await self._response.content.readany()
        except RuntimeError as error:
            # How aiohttp says that the connection had gone before it was read from again.
            with self._server.errors():
                raise aiohttp.ClientPayloadError(str(error)) from error
        except Exception:
            # Entered only now: as context managers around every token they cost as much as reading it.
            with self._server.errors():
                raise

    async def reply(self) -> Reply:
        """The whole answer, for when it is not a stream of events."""
        with self._server.errors():
            async with asyncio.timeout(self._server.seconds):
                return await read_reply(self._response)

    def close(self) -> None:
        """Close the connection at once, which stops the server's work; never waits for it."""
        self._look.cancel()
        self._response.close()

    def _look_at_connection(self) -> None:
        """aiohttp drops a connection on malformed chunks, but leaves the reader waiting for ever."""
        connection = self._response.connection
        if connection is None:
            return  # read to its end
        transport = connection.transport
        if transport is None or transport.is_closing():
            self._response.content.set_exception(aiohttp.ClientPayloadError("malformed body"))
        else:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_at_connection)
