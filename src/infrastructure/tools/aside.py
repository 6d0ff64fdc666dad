"""What is told to a remote tool server without an answer to wait for, such as a cancel, goes aside."""

import asyncio
import json
import logging
from types import TracebackType

import httpx2

log = logging.getLogger(__name__)

# Whoever has not taken it by then never will.
ASIDE_SECONDS = 10.0
# Such messages are short; a longer one is a request.
_MAX_BYTES = 64 * 1024
# What is asked next may count on it.
_IN_TURN = "notifications/initialized"


class Aside(httpx2.AsyncBaseTransport):
    """Sends such messages beside the others.

    The MCP client sends nothing before they are taken, so a server that is deaf to a cancel would
    keep every later call waiting.
    """

    def __init__(self, below: httpx2.AsyncBaseTransport) -> None:
        self._below = below
        self._sending: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not await _expects_nothing(request):
            return await self._below.handle_async_request(request)
        sending = asyncio.create_task(self._send(request))
        self._sending.add(sending)
        sending.add_done_callback(self._sent)
        return httpx2.Response(202)

    async def _send(self, request: httpx2.Request) -> None:
        async with asyncio.timeout(ASIDE_SECONDS):
            response = await self._below.handle_async_request(request)
            await response.aclose()

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            # The next request says what is wrong there.
            log.debug("a message was not taken: %s", type(error).__name__)

    async def __aenter__(self) -> "Aside":
        await self._below.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            await self._give_up()
        finally:
            await self._below.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        """Give up what nobody took."""
        try:
            await self._give_up()
        finally:
            await self._below.aclose()

    async def _give_up(self) -> None:
        for sending in self._sending:
            sending.cancel()
        if self._sending:
            await asyncio.wait(self._sending)


async def _expects_nothing(request: httpx2.Request) -> bool:
    """Whether this is a message without an answer: a notification, or an answer of ours."""
    kind = request.headers.get("content-type", "")
    if request.method != "POST" or not kind.startswith("application/json"):
        return False
    if int(request.headers.get("content-length", _MAX_BYTES)) >= _MAX_BYTES:
        return False
    try:
        message = json.loads(await request.aread())
    except ValueError:
        return False
    if not isinstance(message, dict) or "jsonrpc" not in message:
        return False
    return message.get("method") != _IN_TURN and not ("id" in message and "method" in message)
