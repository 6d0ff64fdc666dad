"""A client of the engine's WebSocket that sees every frame.

async with connect_socket(engine, "llm") as socket:
    await socket.call("listLoaded")
    async for message in socket.stream("loadModel", {...}): ...
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.engine_fixture import DEADLINE, RunningEngine

Frame = dict[str, Any]
GUEST = {"authVersion": 1, "clientIdentifier": "guest:test", "clientPasskey": "test"}
NO_CONFIG: Frame = {"layers": []}


class CallFailed(Exception):
    def __init__(self, error: Frame) -> None:
        super().__init__(error["title"])
        self.error = error


class Socket:
    """Frames are read only while something waits for one, so use one call or channel at a time."""

    def __init__(self, raw: ClientConnection) -> None:
        self.raw = raw
        self._number = 0

    async def send(self, **frame: object) -> None:
        await self.raw.send(json.dumps(frame))

    async def receive(self) -> Frame:
        async with asyncio.timeout(DEADLINE):
            frame: Frame = json.loads(await self.raw.recv())
        return frame

    async def call(self, endpoint: str, parameter: object = None) -> Any:
        """The result of an RPC; None where it has none. Raises CallFailed."""
        self._number += 1
        given = {} if parameter is None else {"parameter": parameter}
        await self.send(type="rpcCall", endpoint=endpoint, callId=self._number, **given)
        frame = await self.receive()
        assert frame.get("callId") == self._number, frame
        if frame["type"] == "rpcError":
            raise CallFailed(frame["error"])
        assert frame["type"] == "rpcResult"
        return frame.get("result")

    async def open(self, endpoint: str, parameter: object) -> int:
        self._number += 1
        await self.send(
            type="channelCreate",
            endpoint=endpoint,
            channelId=self._number,
            creationParameter=parameter,
        )
        return self._number

    async def messages(self, channel: int) -> AsyncIterator[Frame]:
        """Until the channel is closed. Raises CallFailed."""
        while True:
            frame = await self.receive()
            assert frame.get("channelId") == channel, frame
            match frame["type"]:
                case "channelSend":
                    yield frame["message"]
                case "channelError":
                    raise CallFailed(frame["error"])
                case "channelClose":
                    return

    async def all(self, endpoint: str, parameter: object) -> list[Frame]:
        """Every message of a channel."""
        return await self.rest(await self.open(endpoint, parameter))

    async def rest(self, channel: int) -> list[Frame]:
        """What still comes on a channel."""
        return [message async for message in self.messages(channel)]

    async def tell(self, channel: int, kind: str) -> None:
        await self.send(type="channelSend", channelId=channel, message={"type": kind})


@asynccontextmanager
async def connect_socket(
    engine: RunningEngine, namespace: str, *, auth: Frame | None = None
) -> AsyncIterator[Socket]:
    """Authenticated, as a guest without a token or as told."""
    async with dial(engine, namespace) as socket:
        await socket.send(**(auth or GUEST))
        assert await socket.receive() == {"success": True}
        yield socket


@asynccontextmanager
async def dial(engine: RunningEngine, namespace: str, **headers: str) -> AsyncIterator[Socket]:
    """Connected, and nothing said yet."""
    url = engine.url.replace("http", "ws", 1) + f"/{namespace}"
    async with connect(
        url, proxy=None, max_size=None, additional_headers=headers, close_timeout=5
    ) as raw:
        yield Socket(raw)


def config(**values: object) -> Frame:
    """A stack of settings; `__` stands for a dot."""
    fields = [{"key": k.replace("__", "."), "value": v} for k, v in values.items()]
    return {"layers": [{"layerName": "apiOverride", "config": {"fields": fields}}]}


def load(model: str, **more: object) -> Frame:
    return {"modelKey": model, "loadConfigStack": NO_CONFIG, **more}


def query(identifier: str) -> Frame:
    return {"type": "query", "query": {"identifier": identifier}}


def predict(model: str, *said: Frame | str, stack: Frame = NO_CONFIG) -> Frame:
    messages = [
        one if isinstance(one, dict) else {"role": "user", "content": [text(one)]} for one in said
    ]
    return {
        "modelSpecifier": query(model),
        "history": {"messages": messages},
        "predictionConfigStack": stack,
    }


def text(said: str) -> Frame:
    return {"type": "text", "text": said}
