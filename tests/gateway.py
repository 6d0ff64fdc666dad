"""A desk behind its guard on a real socket, with the official client before it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from fastapi import FastAPI

from api.gateway.door import Gateway
from api.gateway.meter import Meter
from api.main import create_app
from api.security import guarded
from api.services import Services
from api.settings import Settings
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import serve

HI: Any = [{"role": "user", "content": "Hi"}]


@dataclass(frozen=True)
class Door:
    """A running gateway."""

    url: str
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient
    app: FastAPI

    @property
    def desk(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def meter(self) -> Meter:
        meter: Meter = self.app.state.meter
        return meter


@asynccontextmanager
async def run_door(data_dir: Path, **settings: Any) -> AsyncGenerator[Door]:
    """The API with its gateway and its guard, without the embedded engine unless asked for."""
    wanted = Settings(data_dir=data_dir, **{"embedded": "off", **settings})
    app = create_app(wanted)
    async with (
        app.router.lifespan_context(app),
        serve(guarded(Gateway(app, app), wanted)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http,
        plain_client(url) as client,
    ):
        yield Door(url, client, http, app)


@asynccontextmanager
async def plain_client(
    url: str, key: str = "none", *, retries: int = 0
) -> AsyncGenerator[openai.AsyncOpenAI]:
    """The official client, without its own repetitions unless asked for."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key, max_retries=retries, http_client=http
        ) as client,
    ):
        yield client


@asynccontextmanager
async def scripted(
    data_dir: Path, server: ScriptedLMStudio, **settings: Any
) -> AsyncGenerator[Door]:
    """A gateway before one scripted LM Studio, `lmstudio`."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(server))
        yield await stack.enter_async_context(run_door(data_dir, lmstudio_url=url, **settings))


def loaded(*keys: str, **options: Any) -> ScriptedLMStudio:
    """A scripted server with these models in memory."""
    models = [ScriptedModel(key, instances={key: 8192}) for key in keys or ("qwen/qwen3-4b",)]
    return ScriptedLMStudio(models=models, **options)
