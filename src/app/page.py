"""Putting the page into an app: the scripts' routes, the files, and Gradio below everything else."""

import os
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp

from app.client import DeskClient
from app.static import HeadInjected, asset_routes
from app.tools_ui import add_return
from app.ui import desk_routes


def mount_page(
    app: FastAPI, api_url: str, token: SecretStr | None = None, *, root_path: str = ""
) -> ASGIApp:
    """Add the page to `app`, whose own routes must all be there already; serve what this returns.

    `api_url` is where the API answers, which may be this very app. `root_path` is the prefix, such
    as "/desk", that a proxy in front takes off before it asks us.
    """
    # Read by Gradio while it is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with _unneeded("mcp"):
        import gradio as gr

    from app.pages.layout import desk_blocks
    from app.theme import desk_theme

    client = DeskClient(api_url, token=token)
    app.include_router(asset_routes())
    app.include_router(desk_routes(client))
    app.include_router(add_return(client))
    _close_with(app, client)
    gr.mount_gradio_app(
        app,
        desk_blocks(client),
        path="/",
        root_path=root_path or None,
        theme=desk_theme(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        max_file_size="1mb",
        blocked_paths=["/"],
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    return HeadInjected(app)


@contextmanager
def _unneeded(package: str) -> Generator[None]:
    """Without this one, as if it were not installed; nothing is changed where it is in use.

    Gradio imports the MCP SDK for a server of its own, which we do not start, and goes without
    where there is none: 24 MB and a second of the start.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _close_with(app: FastAPI, client: DeskClient) -> None:
    """Close the client when the app's own lifespan ends."""
    opened = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(owner: Any) -> AsyncGenerator[Any]:
        async with opened(owner) as state:
            try:
                yield state
            finally:
                await client.aclose()

    app.router.lifespan_context = lifespan
