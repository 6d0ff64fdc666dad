"""The engine as a server: LM Studio's routes over models in processes of their own."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from infrastructure.engine import model_routes, native_chat, openai_routes, upstream, wire
from infrastructure.engine.catalogue import Catalogue
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.desk import Desk
from infrastructure.engine.guard import GREETING, Guard
from infrastructure.engine.pool import Pool
from infrastructure.engine.sdk.routes import routes as sdk_routes

log = structlog.get_logger(__name__)

_PARENT_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 1


def create_app(config: EngineConfig) -> Starlette:
    """The application; its lifespan ends all model processes."""
    unknown = _unknown_route(404 if "unknown-routes-404" in config.quirks else 200)
    app = Starlette(
        exception_handlers={
            404: unknown,
            405: unknown,
            wire.Refusal: _refused,
            ClientDisconnect: _hung_up,
        },
        middleware=[Middleware(Guard, config=config)],
        lifespan=_lifespan(config),
    )
    app.router.redirect_slashes = False
    return app


def run(config: EngineConfig) -> None:
    """Serve until SIGTERM, SIGINT, or, with `announce` or `parent`, until those end."""
    listener = socket.create_server(
        (config.host, config.port), family=socket.AF_INET6 if ":" in config.host else socket.AF_INET
    )
    server = _Server(
        uvicorn.Config(
            create_app(config),
            log_config=None,
            access_log=False,
            timeout_keep_alive=5,
            ws="websockets-sansio",
            ws_max_size=wire.MAX_BODY,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        ),
        config,
        listener,
    )
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it listens, and ends with its parent."""

    def __init__(
        self, uvicorn_config: uvicorn.Config, config: EngineConfig, listener: socket.socket
    ) -> None:
        super().__init__(uvicorn_config)
        self._engine = config
        self._listener = listener
        self._guardians: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("engine_listening", url=url)
        if self._engine.announce:
            sys.stdout.write(json.dumps({"url": url}) + "\n")
            sys.stdout.flush()
            self._end_with_stdin()
        if self._engine.parent is not None:
            self._guardians.append(asyncio.create_task(self._end_with(self._engine.parent)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for guardian in self._guardians:
            guardian.cancel()
        await super().shutdown(sockets)

    def _end_with_stdin(self) -> None:
        def wait() -> None:
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    continue
            self.should_exit = True

        threading.Thread(target=wait, name="stdin", daemon=True).start()

    async def _end_with(self, parent: int) -> None:
        while os.getppid() == parent:  # noqa: ASYNC110 - the end of a parent is no event
            await asyncio.sleep(_PARENT_SECONDS)
        self.should_exit = True


def _lifespan(config: EngineConfig) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        pool = Pool(config)
        async with upstream.new_session() as session:
            desk = Desk(config, Catalogue(config), pool, session)
            app.router.routes[:] = _routes(desk)
            app.state.desk = desk
            try:
                yield
            finally:
                await pool.close()

    return lifespan


def _routes(desk: Desk) -> list[BaseRoute]:
    def get(path: str, handler: wire.Handler) -> Route:
        return Route(path, handler, methods=["GET"])

    def post(path: str, handler: wire.Handler) -> Route:
        return Route(path, handler, methods=["POST"])

    routes: list[BaseRoute] = [
        *sdk_routes(desk),
        get(GREETING, _greet),
        get("/v1/models", model_routes.openai_list(desk)),
        post("/v1/chat/completions", openai_routes.chat_completions(desk)),
        post("/v1/completions", openai_routes.completions(desk)),
        post("/v1/embeddings", openai_routes.embeddings(desk)),
        get("/api/v0/models", model_routes.v0_list(desk)),
        get("/api/v0/models/{model_id:path}", model_routes.v0_one(desk)),
        post("/api/v0/chat/completions", openai_routes.chat_completions(desk, extras=True)),
        post("/api/v0/completions", openai_routes.completions(desk, extras=True)),
        post("/api/v0/embeddings", openai_routes.embeddings(desk)),
    ]
    if desk.config.profile == "0.4":
        routes += [
            get("/api/v1/models", model_routes.v1_list(desk)),
            post("/api/v1/models/load", model_routes.load(desk)),
            post("/api/v1/models/unload", model_routes.unload(desk)),
            post("/api/v1/chat", native_chat.chat(desk)),
        ]
    return routes


async def _greet(_: Request) -> Response:
    return wire.compact({"lmstudio": True})


def _unknown_route(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """As LM Studio: 200, whatever was asked."""

    async def answer(request: Request, _: Exception) -> Response:
        what = f"Unexpected endpoint or method. ({request.method} {request.url.path})"
        log.warning("unknown_route", method=request.method, path=request.url.path)
        return wire.compact({"error": what}, status)

    return answer


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, wire.Refusal):
        raise error
    return wire.reply(error.body, error.status)


async def _hung_up(request: Request, _: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=499)
