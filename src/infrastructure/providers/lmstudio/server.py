"""One LM Studio-compatible server: HTTP, WebSockets, and which API it turned out to have."""

import asyncio
from typing import Literal

import aiohttp
from pydantic import SecretStr

from core.errors import ProviderTimeout
from infrastructure.http import MAX_BODY_BYTES, NotHttp
from infrastructure.providers.lmstudio.socket import (
    CLOSE_SECONDS,
    CallSilent,
    NoSocket,
    Socket,
    authenticated,
    credentials,
)
from infrastructure.providers.server import CONTROL_SECONDS, HttpServer
from infrastructure.providers.wording import Wording

Flavour = Literal["api/v1", "api/v0", "v1"]
# A silent peer is asked whether it still is there, by the protocol's own ping.
PING_SECONDS = 20.0


class Server(HttpServer):
    """What is at LM Studio's address."""

    def __init__(
        self,
        base_url: str,
        *,
        token: SecretStr | None,
        wording: Wording,
        ours: bool = False,
        seconds: float = CONTROL_SECONDS,
    ) -> None:
        """`ours`: it is the engine that this program started, whose processes are on this machine."""
        super().__init__(
            base_url, token=token, who=wording.who, start_hint=wording.start, seconds=seconds
        )
        self.wording = wording
        self.ours = ours
        self.flavour: Flavour | None = None
        """What was detected; forgotten when the server stops answering, as after an upgrade."""
        self.identity = 0
        """Counts the servers that may have been at this address: grows with every `forget`."""

    async def socket(self, namespace: str, *, seconds: float) -> Socket:
        """A new authenticated WebSocket; the caller closes it. Raises SocketError or ProviderError."""
        client = self.opened()
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
