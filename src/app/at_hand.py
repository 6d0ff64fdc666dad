"""The LM Desk at hand: the one that runs, or, where none does, one that this process becomes."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import httpx

from api.settings import Settings
from app.doorway import House
from app.serve import CannotListen, is_lmdesk, listen, serving

# A desk that somebody just started is ready within a minute.
LOOK_SECONDS = 0.2
START_LOOKS = 300
# uvicorn's servers close idle connections after five.
KEEPALIVE_SECONDS = 3.0


class DeskAtHand(httpx.AsyncBaseTransport):
    """Carries requests to it, wherever it is by now. Close it to end a desk of this process.

    Several programs may each start one of these, and a person LM Desk itself: the first one takes
    the port, the others join it, and when it ends the next one that is asked for something takes
    its place.
    """

    def __init__(
        self, settings: Settings, building: Callable[[Settings, str], Callable[[], House]]
    ) -> None:
        """`building` is given the settings and the address that the desk will have."""
        # Started by a program and not by a person, it is there for this machine alone.
        self._settings = settings.model_copy(update={"host": "127.0.0.1"})
        self._building = building
        self._way = httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS)
        )
        self._own = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._url: httpx.URL | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises DeskError when no desk runs and none can be started here."""
        try:
            return await self._way.handle_async_request(_towards(await self.url(), request))
        except httpx.ConnectError:
            self._url = None
        return await self._way.handle_async_request(_towards(await self.url(), request))

    async def aclose(self) -> None:
        await self._way.aclose()
        await self._own.aclose()

    async def url(self) -> httpx.URL:
        """Where a desk answers that is ready. Raises DeskError."""
        async with self._turn:
            if self._url is None:
                self._url = httpx.URL(await self._joined() or await self._become())
            return self._url

    # -- inside ----------------------------------------------------------------------------------

    async def _joined(self) -> str | None:
        url = self._settings.url()
        if not await anyio.to_thread.run_sync(is_lmdesk, url):
            return None
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(START_LOOKS):
                if not await _starts(client, url):
                    break
                await anyio.sleep(LOOK_SECONDS)
        return url

    async def _become(self) -> str:
        try:
            taken = listen(self._settings)
        except CannotListen:
            # Another one may have become it in this very moment.
            if url := await self._joined():
                return url
            taken = listen(self._settings.model_copy(update={"port": 0}))
        url = self._settings.url(port=taken.getsockname()[1])
        settings = self._settings.model_copy(update={"port": taken.getsockname()[1]})
        async with AsyncExitStack() as opened:
            # Also when it fails: whoever tries next must not find a port that nobody answers at.
            opened.callback(taken.close)
            await opened.enter_async_context(
                serving(settings, taken, self._building(settings, url))
            )
            self._own.push_async_callback(opened.pop_all().aclose)
        return url


async def _starts(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/readyz")).status_code == 503
    except httpx.TransportError:
        return False


def _towards(url: httpx.URL, request: httpx.Request) -> httpx.Request:
    request.url = request.url.copy_with(host=url.host, port=url.port)
    request.headers["host"] = url.netloc.decode()
    return request
