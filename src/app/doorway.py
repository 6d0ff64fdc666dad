"""The server's front door: answers from the first moment, and hands over when the app is ready.

Importing Gradio takes seconds. Meanwhile a program learns that LM Desk lives, and a person sees a
page that says it is starting and opens by itself.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.security import problem_for, wants_page


@dataclass(frozen=True, slots=True)
class House:
    """An app: its lifespan is the FastAPI app's, its requests go to `asgi`, which wraps that."""

    app: FastAPI
    asgi: ASGIApp


class Doorway:
    """An ASGI app that builds another one and then is that one."""

    def __init__(
        self,
        build: Callable[[], House],
        *,
        on_ready: Callable[[], None],
        on_failure: Callable[[], None],
    ) -> None:
        """`build` may block: it runs in a thread. `failure` is set before `on_failure` is called."""
        self._build = build
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._inner: ASGIApp | None = None
        self._state: Mapping[str, Any] = {}
        self.failure: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._inner is not None:
            if self._state:
                scope["state"] = dict(self._state)
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})
        else:
            await _while_starting(scope)(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol: say yes at once, build beside it, close what was opened."""
        await receive()
        closing = asyncio.Event()
        living = asyncio.create_task(self._open(closing))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        closing.set()
        if self._inner is None:
            living.cancel()
        await asyncio.wait([living])
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self, closing: asyncio.Event) -> None:
        """Build the app and keep it open. One task, so that what it enters it also leaves."""
        try:
            house = await _in_daemon_thread(self._build)
            async with house.app.router.lifespan_context(house.app) as state:
                self._state = state or {}
                self._inner = house.asgi
                self._on_ready()
                await closing.wait()
        except Exception as error:  # noqa: BLE001 - the process ends with this error's sentence
            self.failure = error
            self._on_failure()


async def _in_daemon_thread(build: Callable[[], House]) -> House:
    """Unlike a pool's, this thread does not keep a process alive that was asked to end."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[House] = loop.create_future()

    def settle(house: House | None, error: BaseException | None) -> None:
        if result.done():
            return
        if house is not None:
            result.set_result(house)
        elif error is not None:
            result.set_exception(error)

    def work() -> None:
        house, failure = None, None
        try:
            house = build()
        except Exception as error:  # noqa: BLE001 - carried over to the loop
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, house, failure)

    threading.Thread(target=work, name="build", daemon=True).start()
    return await result


def _while_starting(scope: Scope) -> Response:
    if scope["path"] == "/livez":
        return JSONResponse({"status": "ok"})
    if scope["path"] == "/readyz":
        return JSONResponse({"status": "starting"}, 503)
    if wants_page(scope):
        return HTMLResponse(_STARTING, 503, {"retry-after": "1", "cache-control": "no-store"})
    answer = problem_for(scope, 503, "starting", "LM Desk is starting.", "Try again in a second.")
    answer.headers["retry-after"] = "1"
    return answer


_STARTING = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="1">
<title>LM Desk is starting</title>
<style>
body { margin:0; min-height:100dvh; display:grid; place-items:center; background:#f6f7f9;
  color:#171a21; font:18px/1.5 system-ui, sans-serif }
@media (prefers-color-scheme: dark) { body { background:#0f1116; color:#e8eaf0 } }
</style>
</head>
<body><main role="status">LM Desk is starting. This page opens by itself.</main></body>
</html>
"""
