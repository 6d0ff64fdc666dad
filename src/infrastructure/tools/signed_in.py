"""The MCP client's OAuth, kept in bounds: which addresses it may ask, and when it may begin.

The client itself discovers, registers, proves (PKCE) and refreshes. Importing this takes a second,
for that client: whoever needs it imports it when it is needed.
"""

import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl, BaseModel

from core.tool_entries import ServerEntry
from infrastructure.tools.remote import AddressRefused
from infrastructure.tools.sign_in_places import sign_in_problem

UNAUTHORIZED = 401


class Bounded(httpx2.Auth):
    """Drives the client's sign-in; each address it asks on the way is looked at first."""

    def __init__(
        self, provider: OAuthClientProvider, entry: ServerEntry, challenge: str = ""
    ) -> None:
        """`challenge` is how the server asked for a sign-in at a call; it may not ask at a ping."""
        silence()
        self._provider = provider
        self._entry = entry
        self._challenge = challenge

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        flow = self._provider.async_auth_flow(request)
        try:
            outgoing = await anext(flow)
            while True:
                if outgoing is not request:
                    look_at(outgoing, self._entry)
                response = yield outgoing
                if outgoing is request and self._asked_for_more(response):
                    headers = {"www-authenticate": self._challenge}
                    response = httpx2.Response(UNAUTHORIZED, headers=headers, request=request)
                    self._challenge = ""  # once: the next answer is one to a new key
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    def _asked_for_more(self, response: httpx2.Response) -> bool:
        """Whether the challenge counts, and not this answer to a ping."""
        further = "insufficient_scope" in self._challenge
        return bool(self._challenge) and (response.status_code != UNAUTHORIZED or further)


def parts_of(tokens: OAuthToken) -> dict[str, Any]:
    """Tokens as they are kept: with the time they end, which outlives us."""
    lifetime = tokens.expires_in
    return {
        "tokens": dumped(tokens),
        "expires_at": None if lifetime is None else time.time() + lifetime,
    }


def dumped(value: BaseModel | None) -> Any:
    """As it is kept."""
    return None if value is None else value.model_dump(mode="json", exclude_none=True)


def look_at(request: httpx2.Request, entry: ServerEntry) -> None:
    """Raises AddressRefused where the sign-in asks for an address that must not be reached."""
    if problem := sign_in_problem(str(request.url), entry):
        raise AddressRefused(problem)


def client_metadata(return_to: str) -> OAuthClientMetadata:
    """Who we say we are."""
    return OAuthClientMetadata(
        client_name="LM Desk",
        redirect_uris=[AnyUrl(return_to)],
        # What runs on a person's own machine can keep no secret from them.
        token_endpoint_auth_method="none",
    )


def silence() -> None:
    """The client logs its failures with what it was sent, and a key may be in that."""
    logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL + 1)
