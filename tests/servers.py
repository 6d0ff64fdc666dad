"""A scripted LM Studio on a real socket; `tests.sockets` and `tests.frames` have what it is made of."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from tests.frames import (
    DONE,
    chunk,
    chunk_halves,
    completion,
    ending,
    unauthorised,
    unrecognized,
    usage_frame,
)
from tests.sockets import (
    Receive,
    Send,
    Watch,
    free_port,
    json_reply,
    pages,
    part,
    raw_server,
    serve,
    start,
    until,
)

__all__ = [
    "DONE",
    "TOKEN",
    "ScriptedLMStudio",
    "ScriptedModel",
    "chunk",
    "ending",
    "free_port",
    "pages",
    "raw_server",
    "serve",
    "until",
    "usage_frame",
]

Profile = Literal["0.4", "0.3", "v1"]

TOKEN = "sk-lm-ABCDEFGH:0123456789abcdefghij"
# With no rate, this many tokens travel in one write.
FLOOD_BATCH = 64


@dataclass
class ScriptedModel:
    """A model on the disk of a scripted LM Studio."""

    key: str
    type: str = "llm"
    size_bytes: int = 500_000_000
    max_context: int = 32768
    params: str = "4B"
    instances: dict[str, int] = field(default_factory=dict)
    """Loaded instances: id → context length."""

    def load(self, context: int | None) -> str:
        """One more instance, as LM Studio does on every load; its id."""
        number = len(self.instances) + 1
        name = self.key if number == 1 else f"{self.key}:{number}"
        self.instances[name] = context or 8192
        return name


@dataclass(frozen=True)
class Asked:
    """One request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ScriptedLMStudio:
    """An LM Studio whose answers are known: plain ASGI, cheap enough for hundreds of streams.

    A chat answers with `tokens` numbered words ("0 1 2 …", fewer with `max_tokens`), `rate` of
    them a second (None: as fast as it goes). `frames` replaces them by given bytes. `answers`
    replaces whole replies by (method, path).
    """

    def __init__(
        self,
        *,
        profile: Profile = "0.4",
        models: Iterable[ScriptedModel] | None = None,
        token: str | None = None,
        tokens: int = 20,
        rate: float | None = None,
        load_steps: int = 10,
    ) -> None:
        default = [
            ScriptedModel("qwen/qwen3-4b"),
            ScriptedModel("text-embedding-nomic", type="embedding", max_context=2048),
        ]
        self.models = {m.key: m for m in (default if models is None else models)}
        self.profile = profile
        self.token = token
        self.tokens = tokens
        self.rate = rate
        self.load_steps = load_steps
        self.jit = True
        self.lies = False
        """Answers loads and unloads with success and does nothing."""
        self.load_error: tuple[int, dict[str, Any]] | None = None
        self.chat_error: tuple[int, Any] | None = None
        self.frames: list[bytes] | None = None
        self.hangs = False
        """After its frames or tokens a stream stays open until the client goes."""
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.load_may_go = asyncio.Event()
        self.load_may_go.set()
        self.endless: set[str] = set()
        """Models whose loads never end."""
        self.asked: list[Asked] = []
        self.open = 0
        """Chats and loads being answered right now."""
        self.most_open = 0
        self.finished = 0
        self.aborted = 0
        """Streams and loads the client walked away from."""
        self.sent_tokens = 0

    def requests(self, path: str) -> list[Asked]:
        """What was asked of this path."""
        return [asked for asked in self.asked if asked.path == path]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        raw = bytearray()
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        body = orjson.loads(raw) if raw else None
        asked = Asked(scope["method"], scope["path"], headers, body)
        self.asked.append(asked)
        if (given := self.answers.get((asked.method, asked.path))) is not None:
            await json_reply(send, *given)
        elif asked.path == "/lmstudio-greeting":
            await json_reply(send, 200, {"lmstudio": True})
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            await json_reply(send, 401, unauthorised(headers.get("authorization", "")))
        else:
            await self._route(asked, receive, send)

    async def _route(self, asked: Asked, receive: Receive, send: Send) -> None:
        modern = self.profile == "0.4"
        match asked.method, asked.path:
            case "GET", "/v1/models":
                await json_reply(send, 200, self._v1_models())
            case "GET", "/api/v0/models" if self.profile != "v1":
                await json_reply(send, 200, self._v0_models())
            case "GET", "/api/v1/models" if modern:
                await json_reply(send, 200, self._native_models())
            case "POST", "/v1/chat/completions":
                await self._counted(self._chat, asked.body, receive, send)
            case "POST", "/v1/embeddings":
                await self._counted(self._embed, asked.body, receive, send)
            case "POST", "/api/v1/chat" if modern:
                await self._counted(self._native_chat, asked.body, receive, send)
            case "POST", "/api/v1/models/load" if modern:
                await self._counted(self._native_load, asked.body, receive, send)
            case "POST", "/api/v1/models/unload" if modern:
                await self._unload(asked.body, send)
            case _:
                # The quirk of every LM Studio: an unknown route is a success.
                text = f"Unexpected endpoint or method. ({asked.method} {asked.path})"
                await json_reply(send, 200, {"error": text})

    # -- lists -----------------------------------------------------------------------------------

    def _v1_models(self) -> dict[str, Any]:
        ids = list(self.models)
        ids += [i for m in self.models.values() for i in m.instances if i not in self.models]
        entry = {"object": "model", "owned_by": "organization_owner"}
        return {"data": [{"id": name, **entry} for name in ids], "object": "list"}

    def _v0_models(self) -> dict[str, Any]:
        data = []
        for model in self.models.values():
            for name in [model.key, *(i for i in model.instances if i != model.key)]:
                loaded = model.instances.get(name)
                entry: dict[str, Any] = {
                    "id": name,
                    "object": "model",
                    "type": "embeddings" if model.type == "embedding" else model.type,
                    "publisher": "somebody",
                    "arch": "qwen3",
                    "compatibility_type": "gguf",
                    "quantization": "Q4_K_M",
                    "state": "not-loaded" if loaded is None else "loaded",
                    "max_context_length": model.max_context,
                    "something_new": {"unknown": True},
                }
                if loaded is not None:
                    entry["loaded_context_length"] = loaded
                if model.type != "embedding":
                    entry["capabilities"] = ["tool_use"]
                data.append(entry)
        return {"data": data, "object": "list"}

    def _native_models(self) -> dict[str, Any]:
        return {"models": [self._native_model(model) for model in self.models.values()]}

    @staticmethod
    def _native_model(model: ScriptedModel) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "type": model.type,
            "publisher": "somebody",
            "key": model.key,
            "display_name": model.key.rpartition("/")[2].upper(),
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": model.size_bytes,
            "params_string": model.params,
            "loaded_instances": [
                {"id": name, "config": {"context_length": context, "parallel": 4}}
                for name, context in model.instances.items()
            ],
            "max_context_length": model.max_context,
            "format": "gguf",
            "something_new": [1, 2, 3],
        }
        if model.type != "embedding":
            entry |= {
                "architecture": "qwen3",
                "description": None,
                "capabilities": {"vision": False, "trained_for_tool_use": True},
            }
        return entry

    # -- loads -----------------------------------------------------------------------------------

    async def _native_load(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        if extra := set(body) - {"model", "context_length"}:
            await json_reply(send, 400, unrecognized(extra))
            return
        if not await self._may_load(body, send, watch):
            return
        name = self._load(body)
        await json_reply(send, 200, {"type": "llm", "instance_id": name, "status": "loaded"})

    async def _native_chat(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        known = {"model", "input", "max_output_tokens", "store", "stream", "context_length"}
        if extra := set(body) - known:
            await json_reply(send, 400, unrecognized(extra))
            return
        model = self.models.get(body["model"])
        if model is None or (self.load_error and self.load_error[0] != 200):
            await self._may_load(body, send, watch)
            return
        await start(send, "text/event-stream")

        async def event(kind: str, **more: Any) -> None:
            data = orjson.dumps({"type": kind, **more})
            await part(send, b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

        await event("chat.start", model_instance_id=model.key)
        if self.load_error is not None:
            await event("error", **self.load_error[1])
        elif not model.instances:
            await event("model_load.start", model_instance_id=model.key)
            if model.key in self.endless:
                await watch.gone
                return
            for step in range(1, self.load_steps + 1):
                if step > self.load_steps // 2 and not await watch.unless_gone(self.load_may_go):
                    return
                await event("model_load.progress", progress=step / self.load_steps)
            name = self._load(body)
            await event("model_load.end", model_instance_id=name, load_time_seconds=0.1)
        await event("message.delta", content="H")
        await event("chat.end", result={"output": []})
        await part(send, b"", more=False)

    async def _may_load(self, body: dict[str, Any], send: Send, watch: Watch) -> bool:
        if body["model"] not in self.models:
            text = f"Model {body['model']} not found in downloaded models"
            await json_reply(send, 404, {"error": {"type": "model_not_found", "message": text}})
            return False
        if body["model"] in self.endless:
            await watch.gone
        if not await watch.unless_gone(self.load_may_go):
            return False
        if self.load_error is not None:
            await json_reply(send, *self.load_error)
            return False
        return True

    def _load(self, body: dict[str, Any]) -> str:
        model = self.models[body["model"]]
        return model.key if self.lies else model.load(body.get("context_length"))

    async def _unload(self, body: dict[str, Any], send: Send) -> None:
        name = body["instance_id"]
        holders = [m for m in self.models.values() if name in m.instances]
        if not holders:
            text = f"Model with instance identifier '{name}' is not loaded."
            await json_reply(send, 404, {"error": {"type": "model_not_found", "message": text}})
            return
        if not self.lies:
            del holders[0].instances[name]
        await json_reply(send, 200, {"instance_id": name})

    async def _just_in_time(self, body: dict[str, Any], watch: Watch, send: Send) -> bool:
        name = body["model"]
        if any(name == m.key or name in m.instances for m in self.models.values() if m.instances):
            return True
        if name not in self.models or not self.jit:
            text = f'Invalid model identifier "{name}". Please specify a valid downloaded model.'
            error = {"message": text, "param": "model", "code": "model_not_found"}
            await json_reply(send, 400, {"error": error | {"type": "invalid_request_error"}})
            return False
        if not await self._may_load(body, send, watch):
            return False
        self._load({"model": name})
        return True

    # -- answers ---------------------------------------------------------------------------------

    async def _embed(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        if await self._just_in_time(body, watch, send):
            data = [{"object": "embedding", "embedding": [0.0, 1.0], "index": 0}]
            await json_reply(send, 200, {"object": "list", "data": data, "model": body["model"]})

    async def _chat(self, body: dict[str, Any], watch: Watch, send: Send) -> None:
        if not await self._just_in_time(body, watch, send):
            return
        if self.chat_error is not None:
            await json_reply(send, *self.chat_error)
            return
        count = min(self.tokens, body.get("max_tokens") or self.tokens)
        if not body.get("stream"):
            await json_reply(send, 200, completion(body["model"], count))
            return
        await start(send, "text/event-stream")
        if self.frames is not None:
            for frame in self.frames:
                await part(send, frame)
        else:
            await self._numbered(body["model"], count, watch, send)
        if self.hangs:
            await watch.gone
        if not watch.is_gone:
            await part(send, b"", more=False)

    async def _numbered(self, model: str, count: int, watch: Watch, send: Send) -> None:
        before, after = chunk_halves(model)
        batch = FLOOD_BATCH if self.rate is None else 1
        started = time.monotonic()
        for first in range(0, count, batch):
            if self.rate is not None:
                await asyncio.sleep(started + (first + 1) / self.rate - time.monotonic())
            if watch.is_gone:
                return
            last = min(first + batch, count)
            await part(send, b"".join(before + b"%d " % n + after for n in range(first, last)))
            self.sent_tokens += last - first
            if self.rate is None:
                await asyncio.sleep(0)  # a flood must not keep the others from their turn
        await part(send, b"".join(ending(model, count)))

    async def _counted(
        self,
        answer: Callable[[dict[str, Any], Watch, Send], Awaitable[None]],
        body: dict[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        watch = Watch(receive)
        try:
            await answer(body, watch, send)
        finally:
            self.open -= 1
            if watch.is_gone:
                self.aborted += 1
            else:
                self.finished += 1
            watch.close()
