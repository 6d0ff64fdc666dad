"""`/mcp`: LM Desk as an MCP server over streamable HTTP, started with its first request."""

import asyncio
import logging
from contextlib import AsyncExitStack

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.mcp_server.calls import DeskCalls

log = logging.getLogger(__name__)

PATH = "/mcp"


class McpHouse:
    """The server and its sessions. Open it with the app, close it with the app."""

    def __init__(self, inner: ASGIApp) -> None:
        """`inner` is LM Desk's own API, which the tools call."""
        self._inner = inner
        self._app: ASGIApp | None = None
        self._opening = asyncio.Lock()
        self._closing = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the first one starts the server."""
        async with self._opening:
            if self._app is None:
                await self._open()
        assert self._app is not None
        await self._app(scope, receive, send)

    async def aclose(self) -> None:
        """End all sessions."""
        self._closing.set()
        if self._life is not None:
            await self._life

    async def _open(self) -> None:
        ready: asyncio.Future[ASGIApp] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(ready), name="mcp server")
        self._life.add_done_callback(lambda life: _failed(life, ready))
        self._app = await ready

    async def _live(self, ready: "asyncio.Future[ASGIApp]") -> None:
        """One task for the whole life, as the SDK's task group demands."""
        from mcp.server.transport_security import TransportSecuritySettings

        from api.mcp_server.tools import build_server

        async with AsyncExitStack() as stack:
            transport = httpx.ASGITransport(self._inner, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
            await stack.enter_async_context(http)
            server = build_server(DeskCalls(http))
            app = server.streamable_http_app(
                streamable_http_path=PATH,
                # Host, origin and token were looked at by the guard around the whole app, which
                # knows the names this desk may be reached by.
                transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            )
            await stack.enter_async_context(server.session_manager.run())
            ready.set_result(app)
            await self._closing.wait()


def _failed(life: "asyncio.Task[None]", ready: "asyncio.Future[ASGIApp]") -> None:
    if not ready.done():
        error = None if life.cancelled() else life.exception()
        ready.set_exception(error or RuntimeError("the MCP server ended before it began"))


class McpDoor:
    """Takes what is under /mcp, and hands everything else on."""

    def __init__(self, inner: ASGIApp, app: FastAPI) -> None:
        """`app` has the open McpHouse in its state while it lives."""
        self._inner = inner
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/") == PATH:
            house: McpHouse = self._app.state.mcp
            await house.serve({**scope, "path": PATH}, receive, send)
        else:
            await self._inner(scope, receive, send)
