"""A llama-server router whose answers are known, for what the real one does only on bad days."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import orjson

from tests.sockets import Receive, Send, Watch, json_reply, part, start


class ScriptedRouter:
    """Plain ASGI: one model, `m`, whose load goes through the given events."""

    def __init__(self, *, events: list[dict[str, Any]] | None = None) -> None:
        self.state = "unloaded"
        self.events = events
        """What is sent of a load; None for a router without the stream."""
        self.ends_as = "loaded"
        self.refuses: tuple[int, str] | None = None
        self.deaf = False
        """Accepts an unload and does nothing."""
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.asked: list[tuple[str, Any]] = []
        self._begun = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        asked = orjson.loads(body) if body else None
        self.asked.append((scope["path"], asked))
        match scope["path"]:
            case "/v1/models":
                await json_reply(send, 200, {"object": "list", "data": [self._entry()]})
            case "/models/sse" if self.events is not None:
                await self._tell(self.events, Watch(receive), send)
            case "/models/load" if self.refuses is not None:
                status, text = self.refuses
                await json_reply(send, status, {"error": {"code": status, "message": text}})
            case "/models/load":
                self.state = "loading"
                self._begun.set()
                if self.events is None and self.may_load.is_set():
                    self.state = self.ends_as
                await json_reply(send, 200, {"success": True})
            case "/models/unload":
                self.state = self.state if self.deaf else "unloaded"
                await json_reply(send, 200, {"success": True})
            case _:
                error = {"code": 404, "message": "File Not Found", "type": "not_found_error"}
                await json_reply(send, 404, {"error": error})

    def _entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": "m",
            "object": "model",
            "owned_by": "llamacpp",
            "status": {"value": self.state, "args": ["llama-server", "--model", "m.gguf"]},
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        }
        if self.state == "loaded":
            entry["meta"] = {"n_ctx": 2048, "n_ctx_train": 4096, "size": 10**9}
        return entry

    async def _tell(self, events: list[dict[str, Any]], watch: Watch, send: Send) -> None:
        await start(send, "text/event-stream")
        await part(send, b": hello\n\n")
        try:
            if not await watch.unless_gone(self._begun):
                return
            for event in events:
                frame = {"model": "m", "event": "status_change", "data": event}
                await part(send, b"data: " + orjson.dumps(frame) + b"\n\n")
            if not await watch.unless_gone(self.may_load):
                return
            self.state = self.ends_as
            frame = {"model": "m", "event": "status_change", "data": {"status": self.ends_as}}
            await part(send, b"data: " + orjson.dumps(frame) + b"\n\n")
            await watch.gone
        finally:
            watch.close()
