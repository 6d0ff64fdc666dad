"""HTTP to remote tool servers: only to addresses that were looked at, and nowhere else."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from types import TracebackType

import anyio
import httpcore2
import httpx2
from httpcore2 import AnyIOBackend, AsyncConnectionPool, AsyncNetworkBackend, AsyncNetworkStream

from infrastructure.tools.addresses import address_problem, unwrapped
from infrastructure.tools.aside import Aside
from infrastructure.tools.sign_in_places import leads_here

CONNECT_SECONDS = 10.0
# Far more than any description of a sign-in, or sentence of a refusal.
MAX_ASIDE_BYTES = 1024 * 1024


class AddressRefused(Exception):
    """The name leads where a tool server must not be. The text says where."""


class _LookingBackend(AsyncNetworkBackend):
    """Connects to exactly the address it looked at, so that a name cannot change in between."""

    def __init__(self, *, allow_private: bool, only_here: str | None = None) -> None:
        self._allow_private = allow_private
        self._only_here = only_here
        self._below = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        for address in await self._allowed(host, port):
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._below.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
        raise httpcore2.ConnectError(f"Nothing answers at {host}, port {port}.")

    async def _allowed(self, host: str, port: int) -> list[str]:
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} is not known: {error.strerror}.") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            # One bad address among good ones is a trick too.
            literal = ip_address(address.partition("%")[0])
            if problem := address_problem(literal, host, self._allow_private):
                raise AddressRefused(problem)
            if unwrapped(literal).is_loopback and not self._may_lead_here(host):
                raise AddressRefused(f"{host} leads to this machine ({literal}).")
        return addresses

    def _may_lead_here(self, host: str) -> bool:
        own = self._only_here
        return own is None or leads_here(own) or host.lower() == own

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        raise AddressRefused("a socket file is no tool server.")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's own, on the careful backend; neither proxies nor `.netrc` are looked at."""

    def __init__(self, *, allow_private: bool, only_here: str | None) -> None:
        super().__init__(trust_env=False)
        self._pool = AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=3,  # most servers close after five, and a call sent then is lost
            network_backend=_LookingBackend(allow_private=allow_private, only_here=only_here),
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, also for one who is cancelled meanwhile.

        The pool holds its closing together against anyio's cancels only, not against a task's.
        """
        closing = asyncio.create_task(super().aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise


class _Small(httpx2.AsyncByteStream):
    """An answer that is not read without end."""

    def __init__(self, below: httpx2.AsyncByteStream, host: str) -> None:
        self._below = below
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._below:
            size += len(part)
            if size > MAX_ASIDE_BYTES:
                raise AddressRefused(f"{self._host} answers without end.")
            yield part

    async def aclose(self) -> None:
        await self._below.aclose()


async def keep_small(response: httpx2.Response) -> None:
    """Bound an answer that is none of the protocol's: a refusal, or a part of a sign-in."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Small(response.stream, response.request.url.host)


def remote_client(
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    heard: Callable[[httpx2.Response], Awaitable[None]] | None = None,
    auth: httpx2.Auth | None = None,
    only_here: str | None = None,
) -> httpx2.AsyncClient:
    """A client for one server; close it. The MCP client follows no redirect to another origin.

    `heard` gets every answer's head. `only_here`, in a sign-in, is the server's own host: no other
    may lead to this machine, unless that is where the server is.
    """
    # It logs whole addresses, and a secret may be in one.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return httpx2.AsyncClient(
        auth=auth,
        event_hooks={"response": [heard] if heard else []},
        transport=Aside(_Transport(allow_private=allow_private, only_here=only_here)),
        headers={"User-Agent": "lmdesk", **headers},
        # How long an answer may take is for the caller of a tool to say.
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        trust_env=False,
    )
