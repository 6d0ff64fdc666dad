"""`lmdesk mcp`: LM Desk as an MCP server over standard input and output, for programs that start it."""

import signal
from argparse import Namespace
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpx

from api.data_folder import require_writable
from api.settings import PAGE_PORT, Settings
from api.settings_sources import load_settings
from api.token_file import with_token
from app.commands.logs import configure_logs
from app.serve import is_lmdesk


def mcp(arguments: Namespace) -> int:
    """Serve until the program that started us closes our input. Logs go to stderr."""
    given = {key: getattr(arguments, key, None) for key in Settings.model_fields}
    settings = load_settings(given, config=arguments.config, defaults={"port": PAGE_PORT})
    configure_logs(settings.log_level)
    if settings.token_file is not None:
        settings = with_token(settings)
    # Ended like a keypress: what was opened is closed, children included.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    anyio.run(_serve, settings)
    return 0


async def _serve(settings: Settings) -> None:
    # With the SDK behind it, which a help text needs not wait for.
    from api.mcp_server.calls import DeskCalls
    from api.mcp_server.tools import build_server

    async with _desk(settings) as http:
        await build_server(DeskCalls(http)).run_stdio_async()


@asynccontextmanager
async def _desk(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    """The LM Desk that runs already, so that both see the same; else one in this process."""
    token = settings.token.get_secret_value() if settings.token else None
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = settings.url()
    if await anyio.to_thread.run_sync(is_lmdesk, url):
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
            yield http
        return
    from api.gateway.door import Gateway
    from api.main import create_app

    require_writable(settings.data_dir)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(Gateway(app, app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield http
