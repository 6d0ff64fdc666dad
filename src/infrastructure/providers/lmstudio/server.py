"""One LM Studio-compatible server: control calls, streams, and which API it turned out to have."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import aiohttp
import orjson
from pydantic import SecretStr

from core.errors import ProviderTimeout, ProviderUnreachable
from infrastructure.http import (
    MAX_BODY_BYTES,
    NotHttp,
    Reply,
    new_client,
    provider_errors,
    read_reply,
)
from infrastructure.providers.lmstudio.socket import (
    CLOSE_SECONDS,
    CallSilent,
    NoSocket,
    Socket,
    authenticated,
    credentials,
)
from infrastructure.providers.lmstudio.wording import Wording

Flavour = Literal["api/v1", "api/v0", "v1"]
CONTROL_SECONDS = 10.0
LOOK_SECONDS = 1.0
# A silent peer is asked whether it still is there, by the protocol's own ping.
PING_SECONDS = 20.0
_JSON = {"Content-Type": "application/json"}


class Server:
    """Its connections. Opened on first use, inside the running loop; close with `aclose`."""

    def __init__(self, base_url: str, *, token: SecretStr | None, wording: Wording) -> None:
        self.base_url = base_url
        self.wording = wording
        self.flavour: Flavour | None = None
        """What was detected; forgotten when the server stops answering, as after an upgrade."""
        self.identity = 0
        """Counts the servers that may have been at this address: grows with every `forget`."""
        self._token = token
        self._client: aiohttp.ClientSession | None = None

    @property
    def token(self) -> SecretStr | None:
        """What every request carries; None where no token is set."""
        return self._token

    async def get(self, path: str, *, seconds: float = CONTROL_SECONDS) -> Reply:
        """The whole answer, whatever its status."""
        return await self._whole("GET", path, None, seconds)

    async def post(self, path: str, body: dict[str, Any], *, seconds: float | None) -> Reply:
        """The whole answer, whatever its status; `seconds` None waits for as long as it takes."""
        return await self._whole("POST", path, body, seconds)

    async def open(
        self, path: str, body: dict[str, Any], *, seconds: float | None = None
    ) -> "Stream":
        """Send and return when the headers are there. The caller closes the stream."""
        with self.errors():
            async with asyncio.timeout(seconds):
                response = await self._request("POST", path, body)
        return Stream(self, response)

    async def socket(self, namespace: str, *, seconds: float) -> Socket:
        """A new authenticated WebSocket; the caller closes it. Raises SocketError or ProviderError."""
        client = self._opened()
        try:
            with self.errors():
                async with asyncio.timeout(seconds):
                    ws = await client.ws_connect(
                        f"{self.base_url}/{namespace}",
                        heartbeat=PING_SECONDS,
                        max_msg_size=MAX_BODY_BYTES,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    )
        except ProviderTimeout as error:
            raise CallSilent(f"{namespace}: no WebSocket within {seconds:g} s") from error
        except NotHttp as error:
            raise NoSocket(f"{namespace} is no WebSocket") from error
        return await authenticated(ws, credentials(self._token), seconds=seconds)

    def forget(self) -> None:
        """Another server, or another version, may have taken the place of the one we knew."""
        self.flavour = None
        self.identity += 1

    async def aclose(self) -> None:
        """Close what is open; a later call opens anew."""
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
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> aiohttp.ClientResponse:
        # A redirect is never followed: it would carry the token to another place.
        return await self._opened().request(
            method,
            self.base_url + path,
            data=None if body is None else orjson.dumps(body),
            headers=None if body is None else _JSON,
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._client is None:
            self._client = new_client(self._token)
        return self._client

    @contextmanager
    def errors(self) -> Generator[None]:
        """Foreign exceptions in our words; a server that went away may come back as another."""
        try:
            with provider_errors(self.wording.who, url=self.base_url, hint=self.wording.start):
                yield
        except ProviderUnreachable:
            self.forget()
            raise


class Stream:
    """An answer that is still coming."""

    def __init__(self, server: Server, response: aiohttp.ClientResponse) -> None:
        self._server = server
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._look = self._loop.call_later(LOOK_SECONDS, self._look_at_connection)

    @property
    def status(self) -> int:
        return self._response.status

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
        except Exception:
            # Entered only now: as context managers around every token they cost as much as reading it.
            with self._server.errors():
                raise

    async def reply(self) -> Reply:
        """The whole answer, for when it is not a stream of events."""
        with self._server.errors():
            async with asyncio.timeout(CONTROL_SECONDS):
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
