"""The FastAPI app: routers, error handlers, and the lifespan that opens everything."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from api import docs, errors
from api.gateway.door import Gateway
from api.gateway.meter import Meter
from api.mcp_server.door import McpHouse
from api.routers import (
    agents,
    chats,
    comparisons,
    desk,
    doctor,
    downloads,
    embeddings,
    flights,
    health,
    jobs,
    learned,
    load_settings,
    metrics,
    models,
    recipes,
    routing,
    runs,
    swap,
    tool_servers,
    tool_sign_in,
    try_provider,
)
from api.routers import settings as settings_routes
from api.settings import Settings
from api.settings_sources import SettingsSources
from api.whole_text import WholeText
from api.wiring import open_services
from core.version import VERSION


def create_app(settings: Settings, sources: SettingsSources | None = None) -> FastAPI:
    """The API. It opens nothing before its lifespan begins.

    `sources` say where the settings come from; without them they count as given.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_services(settings, sources) as services:
            app.state.services = services
            app.state.mcp = McpHouse(Gateway(app, app))
            try:
                yield
            finally:
                await app.state.mcp.aclose()

    app = FastAPI(
        title="LM Desk",
        version=VERSION,
        summary="The internal door of LM Desk: models, chats, jobs and the machine.",
        lifespan=lifespan,
        docs_url=None,  # the stock page loads Swagger UI from the internet
        redoc_url=None,
    )
    app.state.meter = Meter()
    door = APIRouter(prefix="/api/v1")
    for router in (
        swap.router,
        load_settings.router,
        learned.router,
        models.router,
        chats.router,
        jobs.router,
        desk.router,
        agents.router,
        doctor.router,
        downloads.router,
        embeddings.router,
        flights.router,
        routing.router,
        recipes.router,
        comparisons.router,
        runs.router,
        tool_sign_in.router,
        tool_servers.router,
        try_provider.router,
        settings_routes.router,
    ):
        door.include_router(router)
    app.include_router(door)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.add_middleware(WholeText)
    errors.install(app)
    docs.install(app)
    return app
