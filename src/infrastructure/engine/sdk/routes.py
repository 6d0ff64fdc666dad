"""LM Studio's WebSocket: one path for each namespace."""

import os
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from infrastructure.engine.desk import Desk
from infrastructure.engine.sdk import describe, models
from infrastructure.engine.sdk.connection import Connection
from infrastructure.engine.sdk.frames import Namespace, Nothing, Rpc
from infrastructure.engine.sdk.gate import admit
from infrastructure.engine.wire import Json

# What the client libraries may look for; we have nothing to say there.
_EMPTY: Final = ("diagnostics", "files", "plugins", "repository", "runtime")
_VERSIONS: Final = {"0.4": "0.4.25", "0.3": "0.3.30"}


def routes(desk: Desk) -> list[WebSocketRoute]:
    """All namespaces."""
    if "no-websocket" in desk.config.quirks:
        return []
    namespaces = {
        "llm": models.namespace(desk, "llm"),
        "embedding": models.namespace(desk, "embedding"),
        "system": _system(desk),
        **{name: Namespace() for name in _EMPTY},
    }
    token = desk.config.required_token
    return [
        WebSocketRoute(f"/{name}", _serve(namespace, token))
        for name, namespace in namespaces.items()
    ]


def _serve(namespace: Namespace, token: str | None) -> Callable[[WebSocket], Awaitable[None]]:
    async def serve(socket: WebSocket) -> None:
        if await admit(socket, token):
            await Connection(socket, namespace).serve()

    return serve


def _system(desk: Desk) -> Namespace:
    number = _VERSIONS[desk.config.profile]

    async def version(_: Nothing) -> Json:
        return {"version": number, "build": 1}

    async def info(_: Nothing) -> Json:
        return {"pid": os.getpid(), "isDaemon": True, "version": f"{number}+1"}

    async def downloaded(_: Nothing) -> list[Json]:
        return [describe.model_info(one) for one in (await desk.models()).values()]

    return Namespace(
        {
            "version": Rpc(Nothing, version),
            "info": Rpc(Nothing, info),
            "listDownloadedModels": Rpc(Nothing, downloaded),
        }
    )
