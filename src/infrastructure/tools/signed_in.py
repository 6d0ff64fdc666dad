"""The MCP client's OAuth, kept in bounds: which addresses it may ask, and when it may begin.

The client itself discovers, registers, proves (PKCE) and refreshes. Importing this takes a second,
for that client: whoever needs it imports it when it is needed.
"""

import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, BaseModel

from core.tool_entries import ServerEntry
from infrastructure.tools.addresses import is_local, url_problem
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.remote import AddressRefused

UNAUTHORIZED = 401
_Model = TypeVar("_Model", bound=BaseModel)
# In the past, whatever the clock says.
_LONG_AGO = 1.0


def sign_in_problem(url: str, entry: ServerEntry) -> str:
    """Why an address that a server's sign-in names must not be used; empty where it may."""
    if problem := url_problem(url, allow_private=entry.allow_private):
        return problem
    host, own = urlsplit(url).hostname or "", urlsplit(entry.url).hostname or ""
    if is_local(host) and not is_local(own):
        return f"{host} is this machine, which a server elsewhere must not send LM Desk to."
    return ""


class Bounded(httpx2.Auth):
    """Drives the client's sign-in; each address it asks on the way is looked at first."""

    def __init__(self, provider: OAuthClientProvider, entry: ServerEntry) -> None:
        silence()
        self._provider = provider
        self._entry = entry

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
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()


class SignedIn(httpx2.Auth):
    """Sends the access token along, and has the client refresh it; it never begins a sign-in."""

    def __init__(self, entry: ServerEntry, keys: KeyFile, kept: Mapping[str, Any]) -> None:
        silence()
        self._entry = entry
        self._provider = provider = OAuthClientProvider(
            entry.url, client_metadata(str(kept["return_to"])), _Storage(entry, keys, kept)
        )
        # The client keeps these in memory alone; without them it would refresh at the wrong place.
        context = provider.context
        context.oauth_metadata = _model(OAuthMetadata, kept.get("metadata"))
        context.protected_resource_metadata = _model(
            ProtectedResourceMetadata, kept.get("resource")
        )
        context.auth_server_url = kept.get("auth_server")
        context.token_expiry_time = kept.get("expires_at")

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        for is_last in (False, True):
            flow = self._provider.async_auth_flow(request)
            try:
                outgoing = await anext(flow)
                while outgoing is not request:  # the token is old, so a refresh comes first
                    look_at(outgoing, self._entry)
                    response = yield outgoing
                    outgoing = await flow.asend(response)
            finally:
                # Further on it would hold other calls back until this one is answered, and would
                # begin a sign-in nobody asked for.
                await flow.aclose()
            response = yield request
            if is_last or response.status_code != UNAUTHORIZED or not self._ages(request):
                return

    def _ages(self, request: httpx2.Request) -> bool:
        """Have the token that was refused refreshed; whether there may be another one."""
        context = self._provider.context
        if not context.can_refresh_token():
            return False
        now = context.current_tokens
        # Another call may have had it refreshed meanwhile.
        if now is not None and request.headers.get("authorization") == f"Bearer {now.access_token}":
            context.token_expiry_time = _LONG_AGO
        return True


class _Storage:
    """What the client reads and writes of one server's keys."""

    def __init__(self, entry: ServerEntry, keys: KeyFile, kept: Mapping[str, Any]) -> None:
        self._entry = entry
        self._keys = keys
        self._kept = kept

    async def get_tokens(self) -> OAuthToken | None:
        return _model(OAuthToken, self._kept.get("tokens"))

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._kept = {**self._kept, **parts_of(tokens)}
        await self._keys.put(self._entry.name, self._entry.url, **parts_of(tokens))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return _model(OAuthClientInformationFull, self._kept.get("client"))

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        await self._keys.put(self._entry.name, self._entry.url, client=dumped(client_info))


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


def _model(kind: type[_Model], value: Any) -> _Model | None:
    return None if value is None else kind.model_validate(value)
