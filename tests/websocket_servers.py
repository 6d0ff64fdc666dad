"""A scripted LM Studio that also speaks WebSocket: introductions, calls, channels, warnings, silences."""

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import Receive, Send

NO_SUCH_INSTANCE = {
    "title": "No model found",
    "displayData": {"code": "generic.identifierNotFound"},
}
CANCELLED = {"title": "Model load canceled", "rootTitle": "Model load canceled"}


@dataclass(eq=False)
class Connection:
    """One WebSocket, as the server has it."""

    namespace: str
    send: Send
    cancelled: dict[int, asyncio.Event] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    open: bool = True

    async def say(self, **frame: Any) -> None:
        if self.open:
            await self.send({"type": "websocket.send", "text": orjson.dumps(frame).decode()})

    async def drop(self) -> None:
        """Close it without a word."""
        if self.open:
            self.open = False
            await self.send({"type": "websocket.close", "code": 1001})


class SocketLMStudio(ScriptedLMStudio):
    """Speaks WebSocket beside HTTP, over the same models.

    `unknown` endpoints are answered with a warning, `silent` ones not at all, `refused` ones with
    the given error. Half of a load's progress waits for `load_may_go`.
    """

    websocket = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.unknown: set[str] = set()
        self.silent: set[str] = set()
        self.refused: dict[str, dict[str, Any]] = {}
        self.upgrades = True
        """False: leaves the handshake without an answer."""
        self.obeys_cancel = True
        self.context: int | None = None
        """Loads with this context, whatever was asked for."""
        self.busy: dict[str, tuple[str, int]] = {}
        self.connections: list[Connection] = []
        self.frames_got: list[tuple[str, dict[str, Any]]] = []

    def got(self, endpoint: str) -> list[dict[str, Any]]:
        """The frames that asked for this."""
        return [frame for _, frame in self.frames_got if frame.get("endpoint") == endpoint]

    def cancels(self) -> int:
        return sum(frame.get("message") == {"type": "cancel"} for _, frame in self.frames_got)

    def opened(self, namespace: str) -> int:
        return sum(connection.namespace == namespace for connection in self.connections)

    async def drop(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            await connection.drop()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await super().__call__(scope, receive, send)
            return
        await receive()
        connection = Connection(scope["path"].strip("/"), send)
        self.connections.append(connection)
        if not self.upgrades:
            await receive()
            return
        await send({"type": "websocket.accept"})
        try:
            if await self._welcome(connection, await receive()):
                await self._serve(connection, receive)
        finally:
            connection.open = False
            for task in connection.tasks:
                task.cancel()

    async def _welcome(self, connection: Connection, message: MutableMapping[str, Any]) -> bool:
        given = orjson.loads(message.get("text") or b"{}")
        self.frames_got.append((connection.namespace, given))
        name, key = given.get("clientIdentifier", ""), given.get("clientPasskey", "")
        if self.token is not None and f"sk-lm-{name}:{key}" != self.token:
            await connection.say(success=False, error="An LM Studio API token is required")
            await connection.drop()
            return False
        await connection.say(success=True)
        return True

    async def _serve(self, connection: Connection, receive: Receive) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            frame = orjson.loads(message["text"])
            self.frames_got.append((connection.namespace, frame))
            match frame["type"]:
                case "keepAlive":
                    await connection.say(type="keepAliveAck")
                case "channelSend":
                    connection.cancelled[frame["channelId"]].set()
                case "rpcCall" | "channelCreate":
                    await self._asked(connection, frame)

    async def _asked(self, connection: Connection, frame: dict[str, Any]) -> None:
        endpoint = frame["endpoint"]
        if endpoint in self.unknown:
            await connection.say(
                type="communicationWarning", warning="Received an unknown endpoint"
            )
        elif endpoint in self.silent:
            return
        elif frame["type"] == "channelCreate":
            connection.cancelled[frame["channelId"]] = asyncio.Event()
            task = asyncio.create_task(self._load_channel(connection, frame))
            connection.tasks.add(task)
        elif (error := self.refused.get(endpoint)) is not None:
            await connection.say(type="rpcError", callId=frame["callId"], error=error)
        else:
            await self._rpc(connection, frame)

    async def _rpc(self, connection: Connection, frame: dict[str, Any]) -> None:
        parameter = frame.get("parameter") or {}
        known, result = True, None
        match connection.namespace, frame["endpoint"]:
            case "system", "version":
                result = {"version": "0.4.25", "build": 1}
            case "system", "listDownloadedModels":
                result = [self._info(model) for model in self.models.values()]
            case kind, "listLoaded":
                result = self._instances(kind)
            case _, "unloadModel":
                known = self._dropped(parameter["identifier"])
            case _, "estimateModelUsage":
                result = self._estimate(self.models[parameter["modelKey"]])
            case kind, "getInstanceProcessingState":
                name = parameter["specifier"]["query"]["identifier"]
                here = any(i["identifier"] == name for i in self._instances(kind))
                status, queued = self.busy.get(name, ("idle", 0))
                result = {"status": status, "queued": queued} if here else None
            case kind, "getLoadConfig":
                name = parameter["specifier"]["query"]["identifier"]
                (length,) = [
                    i["contextLength"] for i in self._instances(kind) if i["identifier"] == name
                ]
                result = {"fields": [{"key": f"{kind}.load.contextLength", "value": length}]}
            case "llm", "countTokens":
                result = {"tokenCount": len(parameter["inputString"].split())}
        if not known:
            await connection.say(type="rpcError", callId=frame["callId"], error=NO_SUCH_INSTANCE)
        elif result is None:
            await connection.say(type="rpcResult", callId=frame["callId"])
        else:
            await connection.say(type="rpcResult", callId=frame["callId"], result=result)

    async def _load_channel(self, connection: Connection, frame: dict[str, Any]) -> None:
        number, wanted = frame["channelId"], frame["creationParameter"]
        once = frame["endpoint"] == "getOrLoad"
        model = self.models[wanted["identifier" if once else "modelKey"]]
        cancelled = connection.cancelled[number]

        async def message(kind: str, **more: Any) -> None:
            await connection.say(
                type="channelSend", channelId=number, message={"type": kind, **more}
            )

        with suppress(asyncio.CancelledError):
            first = {"identifier": model.key} if once else {}
            await message("startLoading" if once else "resolved", info=self._info(model), **first)
            for step in range(1, self.load_steps + 1):
                if step > self.load_steps // 2:
                    await self._go_or(cancelled)
                if cancelled.is_set() and self.obeys_cancel:
                    await connection.say(type="channelError", channelId=number, error=CANCELLED)
                    return
                progress = step / self.load_steps
                await message("loadProgress" if once else "progress", progress=progress)
            if (error := self.refused.get(frame["endpoint"])) is not None:
                await connection.say(type="channelError", channelId=number, error=error)
                return
            name = model.key if self.lies else model.load(self.context or _context(wanted))
            info = self._instance(model, name, 1)
            await message("loadSuccess" if once else "success", info=info)
            await connection.say(type="channelClose", channelId=number)

    async def _go_or(self, cancelled: asyncio.Event) -> None:
        waits = [asyncio.create_task(self.load_may_go.wait())]
        if self.obeys_cancel:
            waits.append(asyncio.create_task(cancelled.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _dropped(self, name: str) -> bool:
        for model in self.models.values():
            if name in model.instances:
                if not self.lies:
                    del model.instances[name]
                return True
        return False

    def _instances(self, kind: str) -> list[dict[str, Any]]:
        return [
            self._instance(model, name, context)
            for model in self.models.values()
            for name, context in model.instances.items()
            if model.type == kind
        ]

    def _instance(self, model: ScriptedModel, name: str, context: int) -> dict[str, Any]:
        more = {"instanceReference": f"ref-{name}", "ttlMs": None, "lastUsedTime": None}
        return {**self._info(model), **more, "identifier": name, "contextLength": context}

    @staticmethod
    def _info(model: ScriptedModel) -> dict[str, Any]:
        return {
            "type": model.type,
            "modelKey": model.key,
            "displayName": model.key.upper(),
            "sizeBytes": model.size_bytes,
            "paramsString": "4B",
            "path": f"{model.key}.gguf",
            "format": "gguf",
            "publisher": "somebody",
            "architecture": "qwen3",
            "maxContextLength": model.max_context,
            "vision": False,
            "trainedForToolUse": True,
            "somethingNew": {},
        }

    @staticmethod
    def _estimate(model: ScriptedModel) -> dict[str, Any]:
        memory = {
            "confidence": "high",
            "modelVramBytes": 10,
            "contextVramBytes": 20,
            "totalVramBytes": 30,
            "modelBytes": model.size_bytes,
            "contextBytes": 1000.5,
            "totalBytes": model.size_bytes + 1000.5,
        }
        return {"memory": memory, "passesGuardrails": True}


def _context(wanted: dict[str, Any]) -> int | None:
    for layer in wanted["loadConfigStack"]["layers"]:
        for entry in layer["config"]["fields"]:
            if entry["key"].endswith(".load.contextLength"):
                return int(entry["value"])
    return None
