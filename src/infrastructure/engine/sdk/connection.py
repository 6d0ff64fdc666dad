"""One client's socket: lets it in, takes its frames, and runs its calls and channels side by side."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, TypeVar

import orjson
import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.errors import DeskError
from infrastructure.engine.sdk.frames import (
    FRAME,
    CallError,
    ChannelCreate,
    ChannelSend,
    Complaint,
    EndedByClient,
    KeepAlive,
    Namespace,
    RpcCall,
)
from infrastructure.engine.wire import Json

log = structlog.get_logger(__name__)
T = TypeVar("T")

_WARNINGS: Final = 5
_ENDINGS: Final = ("cancel", "stop")


class Connection:
    """Serves one socket that has authenticated."""

    def __init__(self, socket: WebSocket, namespace: Namespace) -> None:
        self._socket = socket
        self._namespace = namespace
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels: dict[int, _OpenChannel] = {}
        self._warned = 0

    async def serve(self) -> None:
        """Return when the client has gone; what it had under way ends with it."""
        try:
            while True:
                await self._take(await self._socket.receive_text())
        except WebSocketDisconnect:
            log.debug("sdk_client_left", path=self._socket.url.path)
        except KeyError:
            await self._socket.close(1003, "Only text frames are understood.")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, frame: Json) -> None:
        """Nothing where the client has gone: its reader will notice."""
        try:
            await self._socket.send_text(orjson.dumps(frame).decode())
        except WebSocketDisconnect:
            log.debug("sdk_frame_lost", type=frame.get("type"))

    async def _take(self, text: str) -> None:
        try:
            frame = FRAME.validate_json(text)
        except ValidationError as error:
            await self._warn(f"Received a frame that is not understood: {_problem(error)}")
            return
        match frame:
            case KeepAlive():
                await self.send({"type": "keepAliveAck"})
            case RpcCall():
                await self._call(frame)
            case ChannelCreate():
                await self._open(frame)
            case ChannelSend():
                await self._further(frame)
            case Complaint():
                log.warning("sdk_client_complains", warning=frame.warning[:500])

    async def _call(self, frame: RpcCall) -> None:
        endpoint = self._namespace.rpcs.get(frame.endpoint)
        if endpoint is None:
            await self._warn(f"Received rpcCall for unknown endpoint: {frame.endpoint}")
            return
        try:
            given = endpoint.parameter.model_validate(frame.parameter or {})
        except ValidationError as error:
            await self._warn(
                f"Received invalid parameter for rpcCall {frame.endpoint}: {_problem(error)}"
            )
            return
        self._start(self._answer(frame.call_id, endpoint.run(given)))

    async def _answer(self, call_id: int, work: Awaitable[object]) -> None:
        try:
            result = await _checked(work)
        except CallError as error:
            await self.send({"type": "rpcError", "callId": call_id, "error": error.body})
            return
        answer: Json = {"type": "rpcResult", "callId": call_id}
        await self.send(answer if result is None else {**answer, "result": result})

    async def _open(self, frame: ChannelCreate) -> None:
        endpoint = self._namespace.channels.get(frame.endpoint)
        if endpoint is None:
            await self._warn(f"Received channelCreate for unknown endpoint: {frame.endpoint}")
            return
        if frame.channel_id in self._channels:
            await self._warn(f"Received channelCreate for a channel in use: {frame.channel_id}")
            return
        try:
            given = endpoint.parameter.model_validate(frame.creation_parameter or {})
        except ValidationError as error:
            await self._warn(
                f"Received invalid parameter for channelCreate {frame.endpoint}: {_problem(error)}"
            )
            return
        channel = self._channels[frame.channel_id] = _OpenChannel(self, frame.channel_id)
        self._start(self._run(frame.channel_id, endpoint.run(channel, given)))

    async def _run(self, channel_id: int, work: Awaitable[None]) -> None:
        try:
            await _checked(work)
        except CallError as error:
            del self._channels[channel_id]
            await self.send({"type": "channelError", "channelId": channel_id, "error": error.body})
            return
        del self._channels[channel_id]
        await self.send({"type": "channelClose", "channelId": channel_id})

    async def _further(self, frame: ChannelSend) -> None:
        channel = self._channels.get(frame.channel_id)
        if channel is None:
            return  # it closed while this was on its way
        if frame.ack_id is not None:
            await self.send(
                {"type": "channelAck", "channelId": frame.channel_id, "ackId": frame.ack_id}
            )
        kind = frame.message.get("type") if isinstance(frame.message, dict) else None
        if kind in _ENDINGS:
            channel.ended.set()
        else:
            await self._warn(f"Received a channelSend that is not understood: {kind}")

    async def _warn(self, warning: str) -> None:
        """All that a client is told of a frame that makes no sense, and not too often."""
        self._warned += 1
        if self._warned <= _WARNINGS:
            await self.send({"type": "communicationWarning", "warning": warning})

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _OpenChannel:
    """See `frames.Channel`."""

    def __init__(self, connection: Connection, channel_id: int) -> None:
        self.ended = asyncio.Event()
        self._connection = connection
        self._id = channel_id

    async def send(self, message: Json) -> None:
        await self._connection.send(
            {"type": "channelSend", "channelId": self._id, "message": message}
        )

    async def unless_ended(self, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        ended = asyncio.create_task(self.ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise EndedByClient
            return task.result()
        finally:
            ended.cancel()
            task.cancel()
            await asyncio.wait({task, ended})


async def _checked(work: Awaitable[T]) -> T:
    """Whatever goes wrong is told to the caller: an unanswered call would wait for ever."""
    try:
        return await work
    except CallError:
        raise
    except DeskError as error:
        raise CallError.of(error) from None
    except Exception:
        log.exception("sdk_call_failed")
        raise CallError("The server failed while it worked on this. Its log says more.") from None


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
