"""Calls to servers that were signed in to: they carry a token, which is renewed in time."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import BaseModel

from core.errors import StorageError
from core.tool_entries import ServerEntry
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.remote import AddressRefused, keep_small, remote_client
from infrastructure.tools.sign_in_places import own_host
from infrastructure.tools.signed_in import (
    UNAUTHORIZED,
    client_metadata,
    look_at,
    parts_of,
    silence,
)

log = logging.getLogger(__name__)

RENEWAL_SECONDS = 30.0
# What is under way when LM Desk ends: an answer nobody reads costs the whole sign-in.
LAST_SECONDS = 5.0
# In the past, whatever the clock says.
_LONG_AGO = 1.0
# Not about the key: too slow, too early, too often.
_NOT_NOW = frozenset({408, 425, 429})
_Model = TypeVar("_Model", bound=BaseModel)


class SignedIn(httpx2.Auth):
    """Sends the access token along as it is kept at that moment; it never begins a sign-in."""

    def __init__(self, entry: ServerEntry, renewals: "Renewals") -> None:
        self._entry = entry
        self._renewals = renewals
        self.trouble = ""
        """Why the token could not be renewed, where that is no matter of signing in again."""

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token, is_over = await self._renewals.token(self._entry)
        if token is not None and is_over:
            token, self.trouble = await self._renewals.renewed(self._entry, token)
        if token is not None:
            request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != UNAUTHORIZED or token is None:
            self.trouble = ""
            return
        if is_over:  # it was just renewed, or could not be
            return
        newer, self.trouble = await self._renewals.renewed(self._entry, token)
        if newer is not None and newer != token:
            request.headers["authorization"] = f"Bearer {newer}"
            yield request


class Renewals:
    """Renews tokens, each in a task of its own that all calls share.

    The server takes the old token back as it gives the new one, so nobody who stops waiting may
    keep the new one from being read and kept.
    """

    def __init__(self, keys: KeyFile) -> None:
        silence()
        self._keys = keys
        self._running: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def token(self, entry: ServerEntry) -> tuple[str | None, bool]:
        """The access token there is now, if there is one, and whether its time is over."""
        kept = await self._keys.get(entry.name, entry.url)
        ends = kept.get("expires_at")
        return _access(kept), isinstance(ends, int | float) and time.time() > ends

    async def renewed(self, entry: ServerEntry, refused: str) -> tuple[str | None, str]:
        """The token that counts instead of this one, or this one, or none where nobody is signed in.

        With it why it could not be renewed; empty where it was, or where only signing in helps.
        """
        kept = await self._keys.get(entry.name, entry.url)
        if _access(kept) != refused or not kept["tokens"].get("refresh_token"):
            return _access(kept), ""
        where = (entry.name, entry.url)
        renewal = self._running.get(where)
        if renewal is None:
            renewal = asyncio.create_task(self._renew(entry, kept))
            self._running[where] = renewal
            renewal.add_done_callback(lambda _: self._running.pop(where, None))
        await asyncio.wait({renewal})  # unlike to await it, this leaves it alone when cancelled
        trouble = "LM Desk is ending." if renewal.cancelled() else renewal.result()
        return _access(await self._keys.get(entry.name, entry.url)), trouble

    async def aclose(self) -> None:
        """Nobody calls any more; what is under way gets a moment to end."""
        running = set(self._running.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=LAST_SECONDS)
        for renewal in late:
            renewal.cancel()
        if late:
            await asyncio.wait(late)

    async def _renew(self, entry: ServerEntry, kept: Mapping[str, Any]) -> str:
        try:
            async with asyncio.timeout(RENEWAL_SECONDS):
                trouble = await self._ask(entry, kept)
        except TimeoutError:
            trouble = "the answer took too long."
        except AddressRefused as error:
            trouble = str(error)
        except StorageError as error:
            trouble = error.message
        except httpx2.TransportError:
            trouble = "the place that does so cannot be reached."
        except Exception as error:  # noqa: BLE001 - whatever strangers answer ends this attempt alone
            log.info("a key of %s could not be renewed: %s", entry.name, type(error).__name__)
            trouble = "the answer cannot be used."
        return f"Its key could not be renewed: {trouble}" if trouble else ""

    async def _ask(self, entry: ServerEntry, kept: Mapping[str, Any]) -> str:
        storage = _Storage(kept)
        provider = _provider(entry, kept, storage)
        # What it would be sent with; the client says which protocol that is.
        request = httpx2.Request("POST", entry.url, headers={"mcp-protocol-version": "2025-06-18"})
        status, host = 0, ""
        async with remote_client(
            {}, allow_private=entry.allow_private, heard=keep_small, only_here=own_host(entry)
        ) as client:
            flow = provider.async_auth_flow(request)
            try:
                outgoing = await anext(flow)
                while outgoing is not request:
                    look_at(outgoing, entry)
                    response = await client.send(outgoing)
                    status, host = response.status_code, urlsplit(str(outgoing.url)).netloc
                    outgoing = await flow.asend(response)
            finally:
                # Further on it would begin a sign-in nobody asked for.
                await flow.aclose()
        if storage.new is not None:
            # Not where somebody signed out meanwhile.
            await self._keys.renew(entry.name, entry.url, kept["tokens"], **parts_of(storage.new))
            return ""
        if not status or (400 <= status < 500 and status not in _NOT_NOW):
            return ""  # the key is over for good, as the server's next 401 says
        if status == 200:
            return "the answer cannot be used."
        return f"{host} answered with status {status}. It may work a little later."


class _Storage:
    """What the client reads of one server's keys, and what it was given."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept
        self.new: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return _model(OAuthToken, self._kept.get("tokens"))

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.new = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return _model(OAuthClientInformationFull, self._kept.get("client"))

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Only a sign-in registers, which keeps it itself."""


def _provider(
    entry: ServerEntry, kept: Mapping[str, Any], storage: _Storage
) -> OAuthClientProvider:
    """The client as it was when somebody signed in, with a token that is over."""
    provider = OAuthClientProvider(entry.url, client_metadata(str(kept["return_to"])), storage)
    # The client keeps these in memory alone; without them it would refresh at the wrong place.
    context = provider.context
    context.oauth_metadata = _model(OAuthMetadata, kept.get("metadata"))
    context.protected_resource_metadata = _model(ProtectedResourceMetadata, kept.get("resource"))
    context.auth_server_url = kept.get("auth_server")
    context.token_expiry_time = _LONG_AGO
    return provider


def _access(kept: Mapping[str, Any]) -> str | None:
    tokens = kept.get("tokens")
    return tokens["access_token"] if tokens else None


def _model(kind: type[_Model], value: Any) -> _Model | None:
    return None if value is None else kind.model_validate(value)
