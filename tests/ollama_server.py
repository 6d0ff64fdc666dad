"""An Ollama whose answers are known, in the shapes of the real one, on a real socket."""

import asyncio
import hashlib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.sockets import Receive, Send, Watch, json_reply, part, start

NDJSON = "application/x-ndjson"
EPOCH = "2026-11-21T12:00:00.123456789+01:00"


@dataclass
class OllamaModel:
    """A model on its disk."""

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools")
    size: int = 2_019_393_189
    max_context: int = 131_072
    context: int | None = None
    """What it has in memory; None when it is not there."""
    options: dict[str, Any] = field(default_factory=dict)
    loads: int = 0

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        embeds = "completion" not in self.capabilities
        return {
            "parent_model": "",
            "format": "gguf",
            "family": "nomic-bert" if embeds else "llama",
            "families": ["llama"],
            "parameter_size": "137M" if embeds else "3.2B",
            "quantization_level": "F16" if embeds else "Q4_K_M",
        }


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    body: Any
    headers: dict[str, str]


class ScriptedOllama:
    """Plain ASGI. `answers` replaces whole replies by path, `lines` those of a chat or a pull."""

    def __init__(self, models: Iterable[OllamaModel] | None = None, *, tokens: int = 5) -> None:
        default = [
            OllamaModel("llama3.2:latest"),
            OllamaModel("nomic-embed-text:latest", ("embedding",), 274_302_450, 2048),
        ]
        self.models = {m.name: m for m in (default if models is None else models)}
        self.tokens = tokens
        self.default_context = 4096
        self.lies = False
        """Answers loads and unloads with success and does nothing."""
        self.load_error: tuple[int, str] | None = None
        self.answers: dict[str, tuple[int, Any]] = {}
        self.lines: list[bytes] | None = None
        self.hangs = False
        """A stream stays open after its lines until the client goes."""
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.may_show = asyncio.Event()
        self.may_show.set()
        self.asked: list[Asked] = []
        self.open = 0
        self.aborted = 0

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
        asked = Asked(scope["path"], orjson.loads(raw) if raw else None, headers)
        self.asked.append(asked)
        if (given := self.answers.get(asked.path)) is not None:
            await json_reply(send, *given)
            return
        watch = Watch(receive)
        self.open += 1
        try:
            await self._route(asked, watch, send)
        finally:
            self.open -= 1
            self.aborted += watch.is_gone
            watch.close()

    async def _route(self, asked: Asked, watch: Watch, send: Send) -> None:
        match asked.path:
            case "/api/tags":
                await json_reply(
                    send, 200, {"models": [self._tag(m) for m in self.models.values()]}
                )
            case "/api/ps":
                loaded = [m for m in self.models.values() if m.context is not None]
                await json_reply(send, 200, {"models": [self._running(m) for m in loaded]})
            case "/api/show":
                await watch.unless_gone(self.may_show)
                await self._show(asked.body["model"], send)
            case "/api/generate" | "/api/chat" | "/api/embed":
                await self._run(asked, watch, send)
            case "/api/pull":
                await self._pull(asked.body["model"], watch, send)
            case _:
                await start(send, "text/plain", status=404)
                await part(send, b"404 page not found", more=False)

    # -- lists -----------------------------------------------------------------------------------

    def _tag(self, model: OllamaModel) -> dict[str, Any]:
        return {
            "name": model.name,
            "model": model.name,
            "modified_at": EPOCH,
            "size": model.size,
            "digest": model.digest,
            "details": model.details,
        }

    def _running(self, model: OllamaModel) -> dict[str, Any]:
        return {
            "name": model.name,
            "model": model.name,
            "size": model.size + 500_000_000,
            "digest": model.digest,
            "details": model.details,
            "expires_at": EPOCH,
            "size_vram": model.size + 500_000_000,
            "context_length": model.context,
        }

    async def _show(self, name: str, send: Send) -> None:
        model = self.models.get(name)
        if model is None:
            await json_reply(send, 404, {"error": f"model '{name}' not found"})
            return
        architecture = model.details["family"]
        info = {
            "general.architecture": architecture,
            "general.parameter_count": 3_212_749_888,
            f"{architecture}.block_count": 28,
            f"{architecture}.context_length": model.max_context,
            "tokenizer.ggml.tokens": None,
        }
        body = {
            "license": "…",
            "modelfile": "FROM …",
            "template": "{{ .Prompt }}",
            "details": model.details,
            "model_info": info,
            "capabilities": list(model.capabilities),
            "modified_at": EPOCH,
        }
        await json_reply(send, 200, body)

    # -- models at work --------------------------------------------------------------------------

    async def _run(self, asked: Asked, watch: Watch, send: Send) -> None:
        body = asked.body
        model = self.models.get(body["model"]) or self.models.get(f"{body['model']}:latest")
        if model is None:
            text = f"model '{body['model']}' not found"
            await json_reply(send, 404, {"error": text})
            return
        if body.get("keep_alive") == 0 and not body.get("prompt"):
            if not self.lies:
                model.context = None
            done = {"model": model.name, "created_at": EPOCH, "response": "", "done": True}
            await json_reply(send, 200, done | {"done_reason": "unload"})
            return
        embeds = "completion" not in model.capabilities
        if embeds and asked.path != "/api/embed":
            text = f'"{model.name}" does not support {asked.path.rpartition("/")[2]}'
            await json_reply(send, 400, {"error": text})
            return
        if not await self._load(model, body.get("options") or {}, watch, send):
            return
        if asked.path == "/api/embed":
            await self._embed(model, body, send)
        elif asked.path == "/api/generate":
            done = {"model": model.name, "created_at": EPOCH, "response": "", "done": True}
            await json_reply(send, 200, done | {"done_reason": "load"})
        else:
            await self._chat(model, body, watch, send)

    async def _load(
        self, model: OllamaModel, options: dict[str, Any], watch: Watch, send: Send
    ) -> bool:
        """As the real one: a request with another context loads the model anew."""
        wanted = options.get("num_ctx", self.default_context)
        if model.context == wanted:
            return True
        if not await watch.unless_gone(self.may_load):
            return False
        if self.load_error is not None:
            status, text = self.load_error
            await json_reply(send, status, {"error": text})
            return False
        if not self.lies:
            model.context = wanted
            model.options = options
            model.loads += 1
        return True

    async def _embed(self, model: OllamaModel, body: dict[str, Any], send: Send) -> None:
        vectors = [[float(len(text)), 1.0] for text in body["input"]]
        answer = {"model": model.name, "embeddings": vectors, "total_duration": 14_143_917}
        if vectors:
            answer |= {"load_duration": 1_019_500, "prompt_eval_count": 8}
        await json_reply(send, 200, answer)

    async def _chat(
        self, model: OllamaModel, body: dict[str, Any], watch: Watch, send: Send
    ) -> None:
        await start(send, NDJSON)
        count = min(self.tokens, (body.get("options") or {}).get("num_predict", self.tokens))
        pieces = [said(f"{n} ", model=model.name) for n in range(count)]
        for line in self.lines if self.lines is not None else [*pieces, done(count, model.name)]:
            await part(send, line)
        if self.hangs:
            await watch.gone
        if not watch.is_gone:
            await part(send, b"", more=False)

    async def _pull(self, name: str, watch: Watch, send: Send) -> None:
        await start(send, NDJSON)
        if self.lines is not None:
            for line in self.lines:
                await part(send, line)
        else:
            layer = {"status": "pulling 6a0746a1ec1a", "digest": "sha256:6a07", "total": 1000}
            frames = [
                {"status": "pulling manifest"},
                layer,
                layer | {"completed": 400},
                layer | {"completed": 1000},
                {
                    "status": "pulling fa8235e5b48f",
                    "digest": "sha256:fa82",
                    "total": 10,
                    "completed": 10,
                },
                {"status": "verifying sha256 digest"},
                {"status": "writing manifest"},
            ]
            for frame in frames:
                await part(send, orjson.dumps(frame) + b"\n")
        if self.hangs:
            await watch.gone
        if watch.is_gone:
            return
        if self.lines is None:
            full = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
            if not self.lies:
                self.models[full] = OllamaModel(full)
            await part(send, b'{"status":"success"}\n')
        await part(send, b"", more=False)


def said(content: str = "", *, thinking: str = "", model: str = "llama3.2:latest") -> bytes:
    """A line of a chat's answer."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    frame = {"model": model, "created_at": EPOCH, "message": message, "done": False}
    return orjson.dumps(frame) + b"\n"


def done(count: int, model: str = "llama3.2:latest", reason: str = "stop") -> bytes:
    """The line that ends it."""
    frame = {
        "model": model,
        "created_at": EPOCH,
        "message": {"role": "assistant", "content": ""},
        "done_reason": reason,
        "done": True,
        "total_duration": 174_560_334,
        "load_duration": 101_397_084,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 13_074_791,
        "eval_count": count,
        "eval_duration": 52_479_709,
    }
    return orjson.dumps(frame) + b"\n"
