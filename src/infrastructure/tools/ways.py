"""The ways to a tool server: through the pipes of a child, or over streamable HTTP."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import httpx2
from mcp.client import streamable_http

from infrastructure.tools.child import Child
from infrastructure.tools.remote import keep_small, remote_client
from infrastructure.tools.renewing import SignedIn

MAX_EVENT_BYTES = 64 * 1024 * 1024
MAX_CHALLENGE = 4000


class Way(Protocol):
    """How a server is reached."""

    def streams(self) -> AbstractAsyncContextManager[Any]:
        """What the client reads from and writes to."""
        ...

    def why(self) -> str:
        """What is known about why it does not work; empty where nothing is."""
        ...

    def last_words(self) -> str:
        """The end of its log, once it is gone; empty where there is none."""
        ...

    @property
    def lost(self) -> bool:
        """Its last answer came from what is no tool server, or no longer ours."""
        ...

    @property
    def wants_sign_in(self) -> bool:
        """It wants a person to sign in, or to do so again."""
        ...

    @property
    def challenge(self) -> str:
        """How it asked for that, in its own words; empty where it did not."""
        ...

    @property
    def ended(self) -> anyio.Event: ...


class ChildWay:
    """Through the pipes of a child."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.lost = False
        self.wants_sign_in = False
        self.challenge = ""
        self.ended = child.ended

    def streams(self) -> AbstractAsyncContextManager[Any]:
        return self._child.streams()

    def why(self) -> str:
        child = self._child
        if child.too_long:
            return "It wrote an answer without end."
        words = []
        if child.code is not None:
            how = f"status {child.code}" if child.code >= 0 else f"signal {-child.code}"
            words.append(f"Its process ended with {how}.")
        if child.noise:
            words.append(
                "It writes other things than the protocol to its standard output, "
                f"such as {child.noise[0]!r}; logs belong on standard error."
            )
        return " ".join(words)

    def last_words(self) -> str:
        return self._child.log.last_words()


class RemoteWay:
    """Over streamable HTTP."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        allow_private: bool,
        auth: SignedIn | None = None,
    ) -> None:
        self._url = url
        self._auth = auth
        self._headers = headers
        self._allow_private = allow_private
        self._status = 200
        self._asks = False
        self.challenge = ""
        self.ended = anyio.Event()

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[Any]:
        async with (
            remote_client(
                self._headers,
                allow_private=self._allow_private,
                heard=self._heard,
                auth=self._auth,
            ) as client,
            streamable_http.streamable_http_client(
                self._url, http_client=client, max_sse_event_size=MAX_EVENT_BYTES
            ) as streams,
        ):
            yield streams

    async def _heard(self, response: httpx2.Response) -> None:
        # What the protocol answers may be long, wherever on the server it comes from.
        if not response.is_success:
            await keep_small(response)
        # Many servers have nothing to say on GET, and are fine.
        if response.request.method == "POST":
            self._status = response.status_code
            self._asks = self._is_about_a_person(response)
            if self._asks:
                self.challenge = response.headers.get("www-authenticate", "")[:MAX_CHALLENGE]

    def _is_about_a_person(self, response: httpx2.Response) -> bool:
        asks = response.headers.get("www-authenticate", "").lower()
        if any(name.lower() == "authorization" for name in self._headers):
            return False  # the key somebody wrote down is the wrong one
        return (response.status_code == 401 and asks.startswith("bearer")) or (
            response.status_code == 403 and "insufficient_scope" in asks
        )

    @property
    def wants_sign_in(self) -> bool:
        return self._asks and not self._trouble

    @property
    def _trouble(self) -> str:
        return self._auth.trouble if self._auth is not None else ""

    def why(self) -> str:
        if self._trouble:
            return self._trouble
        if self._status in (401, 403):
            return f"It wants a key, or a better one, in its headers (status {self._status})."
        if self._status in (404, 405):
            return f"No tool server answers at this path (status {self._status})."
        return f"It answered with status {self._status}." if self.lost else ""

    def last_words(self) -> str:
        return ""

    @property
    def lost(self) -> bool:
        return self._status >= 400
