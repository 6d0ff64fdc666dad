"""An authorization server and a tool server that asks for its tokens, both the SDK's own."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

from tests.sockets import free_port, serve


class Authority:
    """Says yes to whoever asks, unless it is to say no; knows all it gave away."""

    def __init__(self) -> None:
        self.url = ""
        self.denies = False
        self.lifetime = 3600
        """Of an access token, in seconds."""
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.tokens: dict[str, AccessToken] = {}
        self.refreshing: dict[str, RefreshToken] = {}
        self.refreshes = 0
        self.may_answer = asyncio.Event()
        """Until then whoever asks for keys waits for the answer, though they are given."""
        self.may_answer.set()
        self.breaks = False

    @property
    def secrets(self) -> list[str]:
        """Everything that must stay between it and us."""
        return [*self.tokens, *self.refreshing, *self.codes]

    def revoke(self, *, refresh: bool = False) -> None:
        """No access token is good any more, nor, if asked for, a refresh token."""
        for token in self.tokens.values():
            token.expires_at = 1
        if refresh:
            self.refreshing.clear()

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        self.clients[client_info.client_id] = client_info

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        back = str(params.redirect_uri)
        if self.denies:
            return construct_redirect_uri(back, error="access_denied", state=params.state)
        code = AuthorizationCode(
            code=f"code-{secrets.token_urlsafe(24)}",
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id or "",
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=True,
            resource=params.resource,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(back, code=code.code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        return await self._given(authorization_code)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        if self.breaks:
            raise RuntimeError("It has a fault, and no answer.")
        return self.refreshing.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        self.refreshes += 1
        del self.refreshing[refresh_token.token]
        return await self._given(refresh_token)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.tokens.get(token)

    async def verify_token(self, token: str) -> AccessToken | None:
        """For the tool server."""
        return self.tokens.get(token)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.tokens.pop(token.token, None)
        self.refreshing.pop(token.token, None)

    async def _given(self, grant: AuthorizationCode | RefreshToken) -> OAuthToken:
        access, again = (f"{kind}-{secrets.token_urlsafe(24)}" for kind in ("access", "refresh"))
        facts: dict[str, Any] = {
            "client_id": grant.client_id,
            "scopes": grant.scopes,
            "resource": grant.resource,
        }
        # An hour longer than it says: that it is over is for whoever uses it to know.
        ends = int(time.time()) + self.lifetime + 3600
        self.tokens[access] = AccessToken(token=access, expires_at=ends, **facts)
        self.refreshing[again] = RefreshToken(token=again, **facts)
        await self.may_answer.wait()
        return OAuthToken(
            access_token=access,
            token_type="Bearer",
            expires_in=self.lifetime,
            refresh_token=again,
            scope=" ".join(grant.scopes) or None,
        )


@asynccontextmanager
async def authority(*, registers: bool = True) -> AsyncGenerator[Authority]:
    """One that runs, and lets programs register by themselves or not."""
    made, port = Authority(), free_port()
    made.url = f"http://127.0.0.1:{port}"
    routes = create_auth_routes(
        made,
        AnyHttpUrl(made.url),
        client_registration_options=ClientRegistrationOptions(enabled=registers),
    )
    async with serve(Starlette(routes=routes), port=port):  # type: ignore[arg-type]
        yield made


@asynccontextmanager
async def guarded_tools(authority: Authority, *, issuer: str = "") -> AsyncGenerator[str]:
    """The address of a tool server that wants a token of the authority's; `issuer`: it names another."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    server = MCPServer(
        "guarded",
        version="1",
        token_verifier=authority,
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(issuer or authority.url),
            resource_server_url=AnyHttpUrl(url),
            validate_token_resource=True,
        ),
    )

    @server.tool()
    async def shout(text: str) -> str:
        """Says it louder."""
        return text.upper()

    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=security)
    async with server.session_manager.run(), serve(app, port=port):
        yield url
