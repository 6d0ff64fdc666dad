"""LM Studio's WebSockets: found out once per server, opened on demand, each method used only while it answers."""

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, Literal

from core.errors import DeskError, ProviderUnreachable
from infrastructure.providers.lmstudio.server import Server
from infrastructure.providers.lmstudio.socket import (
    CallSilent,
    CallWarned,
    Channel,
    NoSocket,
    Socket,
    SocketError,
    SocketLost,
)

Namespace = Literal["llm", "embedding", "system"]
DETECT_SECONDS = 2.0
OPEN_SECONDS = 5.0
CALL_SECONDS = 10.0
# A server that said nothing may only have been busy; one that said no meant it.
SILENCE_COUNTS_SECONDS = 60.0


class MethodMissing(Exception):
    """The server does not have this call, or no WebSocket at all: there is another way, or none."""


class Sockets:
    """The WebSockets of one server. Close with `aclose`; a later call opens anew."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._identity = server.identity
        self._sockets: dict[Namespace, Socket] = {}
        self._opening: dict[Namespace, asyncio.Lock] = {}
        self._proven: set[tuple[Namespace, str]] = set()
        self._missing: dict[tuple[Namespace, str], float] = {}
        self._absent_until = 0.0
        self._detecting: asyncio.Task[bool] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self.version: str | None = None
        """What the server calls itself, once it was asked."""

    async def there(self, *, patience: float | None = None) -> bool:
        """Whether the server speaks WebSocket; asked at most once per server, in 2 seconds.

        With `patience` it is False after so many seconds without an answer; a later call knows more.
        """
        self._renew()
        if self.version is not None:
            return True
        if self._absent_until > time.monotonic():
            return False
        if self._detecting is None or self._detecting.done():
            self._detecting = asyncio.create_task(self._detect(), name="lmstudio websocket?")
        detecting = self._detecting
        await asyncio.wait({detecting}, timeout=patience)
        return detecting.done() and not detecting.cancelled() and detecting.result()

    async def call(
        self,
        namespace: Namespace,
        endpoint: str,
        parameter: object = None,
        *,
        seconds: float | None = None,
    ) -> Any:
        """The result. Raises MethodMissing, CallRefused or ProviderUnreachable."""
        await self._expect(namespace, endpoint)
        try:
            result = await self._twice(namespace, endpoint, parameter, seconds or CALL_SECONDS)
        except SocketLost as error:
            raise self.lost() from error
        except (CallWarned, CallSilent, NoSocket) as error:
            raise self.miss(namespace, endpoint, error) from error
        self._proven.add((namespace, endpoint))
        return result

    async def channel(self, namespace: Namespace, endpoint: str, parameter: object) -> Channel:
        """A new channel; the caller forgets it. Raises MethodMissing, CallRefused, ProviderUnreachable."""
        await self._expect(namespace, endpoint)
        try:
            try:
                return await (await self._socket(namespace)).channel(endpoint, parameter)
            except SocketLost:
                return await (await self._socket(namespace)).channel(endpoint, parameter)
        except SocketLost as error:
            raise self.lost() from error
        except (CallSilent, NoSocket) as error:
            raise self.miss(namespace, endpoint, error) from error

    def proven(self, namespace: Namespace, endpoint: str) -> None:
        """The server has answered this on a channel."""
        self._proven.add((namespace, endpoint))

    def miss(self, namespace: Namespace, endpoint: str, error: SocketError) -> MethodMissing:
        """Remember that a method did not answer, as far as the error proves it."""
        method = (namespace, endpoint)
        if method not in self._proven and not (isinstance(error, CallWarned) and not error.certain):
            silent = isinstance(error, CallSilent)
            until = time.monotonic() + SILENCE_COUNTS_SECONDS if silent else math.inf
            self._missing[method] = until
        return MethodMissing(f"{namespace}.{endpoint}")

    def errand(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that goes on when whoever wanted it has left; ended by `aclose`."""
        task = asyncio.create_task(work, name="lmstudio errand")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    def lost(self) -> ProviderUnreachable:
        """The error for a connection that broke; the server may come back as another."""
        words = self._server.wording
        self._server.forget()
        return ProviderUnreachable(
            f"{words.who} closed the connection at {self._server.base_url}.", hint=words.start
        )

    async def aclose(self) -> None:
        """Close all connections and end all work of theirs."""
        tasks: list[asyncio.Task[Any]] = list(self._errands)
        if self._detecting is not None:
            tasks.append(self._detecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.version = None
        sockets, self._sockets = list(self._sockets.values()), {}
        for socket in sockets:
            await socket.close()

    async def _expect(self, namespace: Namespace, endpoint: str) -> None:
        if not await self.there():
            raise MethodMissing("no WebSocket")
        if self._missing.get((namespace, endpoint), 0.0) > time.monotonic():
            raise MethodMissing(f"{namespace}.{endpoint}")

    async def _detect(self) -> bool:
        self._absent_until = time.monotonic() + SILENCE_COUNTS_SECONDS
        try:
            async with asyncio.timeout(DETECT_SECONDS):
                said = await self._twice("system", "version", None, DETECT_SECONDS)
        except (TimeoutError, CallSilent, SocketLost):
            return False  # it may only be busy: worth another question later
        except DeskError:
            self._absent_until = 0.0  # nobody is there at all: the next who asks will see
            return False
        except SocketError:
            said = None
        version = said.get("version") if isinstance(said, dict) else None
        if isinstance(version, str):
            self.version = version
            return True
        self._absent_until = math.inf
        return False

    async def _twice(
        self, namespace: Namespace, endpoint: str, parameter: object, seconds: float
    ) -> Any:
        """A dead connection is replaced and the call made again: all calls here can bear it."""
        try:
            socket = await self._socket(namespace)
            return await socket.call(endpoint, parameter, seconds=seconds)
        except SocketLost:
            socket = await self._socket(namespace)
            return await socket.call(endpoint, parameter, seconds=seconds)

    async def _socket(self, namespace: Namespace) -> Socket:
        async with self._opening.setdefault(namespace, asyncio.Lock()):
            socket = self._sockets.get(namespace)
            if socket is not None and socket.usable:
                return socket
            if socket is not None:
                del self._sockets[namespace]
                await socket.close()
            socket = await self._server.socket(namespace, seconds=OPEN_SECONDS)
            self._sockets[namespace] = socket
            return socket

    def _renew(self) -> None:
        """Know nothing about a server that may be another by now; what is open still is."""
        if self._identity == self._server.identity:
            return
        self._identity = self._server.identity
        self.version = None
        self._absent_until = 0.0
        self._missing.clear()
        self._proven.clear()
