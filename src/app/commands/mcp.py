"""`lmdesk mcp`: LM Desk as an MCP server over standard input and output, for programs that start it."""

import asyncio
import logging
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress

import anyio
import httpx

from api.data_folder import claimed
from api.settings import PAGE_PORT, Settings
from api.settings_sources import SettingsSources, read_sources
from api.token_file import with_token
from app.at_hand import DeskAtHand
from app.commands.logs import configure_logs
from app.commands.serve import whole_desk
from app.doorway import House
from app.serve import SIGNALS
from core.errors import DeskError

INTERRUPTED = 130


def mcp(arguments: Namespace) -> int:
    """Serve until the program that started us closes our input. Logs go to stderr."""
    given = {key: getattr(arguments, key, None) for key in Settings.model_fields}
    sources = read_sources(given, config=arguments.config, defaults={"port": PAGE_PORT})
    settings = sources.settings()
    configure_logs(settings.log_level)
    if settings.token_file is not None:
        settings = with_token(settings)
    if anyio.run(_serve, settings, sources):
        return 0
    # All is closed. The thread that waits for input cannot be woken, and Python would wait for it.
    logging.shutdown()
    os._exit(INTERRUPTED)


async def _serve(settings: Settings, sources: SettingsSources) -> bool:
    """False when a signal ended it and not its input."""
    # With the SDK behind it, which a help text needs not wait for.
    from api.mcp_server.calls import DeskCalls
    from api.mcp_server.tools import build_server

    def building(own: Settings, url: str) -> Callable[[], House]:
        # Said at once; whoever opens it holds it again.
        with claimed(own.data_dir):
            pass
        return whole_desk(own, sources, url)

    token = settings.token.get_secret_value() if settings.token else None
    headers = {"authorization": f"Bearer {token}"} if token else {}
    desk = DeskAtHand(settings, building)
    async with httpx.AsyncClient(transport=desk, base_url=settings.url(), headers=headers) as http:
        # At once, so that the first call need not wait; what goes wrong is told to that call.
        opening = asyncio.create_task(_opened(desk))
        talk = asyncio.create_task(build_server(DeskCalls(http)).run_stdio_async())
        try:
            await asyncio.wait([talk, _signalled()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()
            await asyncio.wait([opening])
    if talk.done():
        talk.result()
    return talk.done()


def _signalled() -> asyncio.Task[bool]:
    """Done when somebody wants this process to end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for each in SIGNALS:
        signal.signal(each, lambda *_: loop.call_soon_threadsafe(ended.set))
    return loop.create_task(ended.wait())


async def _opened(desk: DeskAtHand) -> None:
    with suppress(DeskError):
        await desk.url()
