"""One WebSocket to one namespace of LM Studio: calls and channels by number, over one connection."""

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
from pydantic import SecretStr

from infrastructure.http import ServerError

KEEP_ALIVE_SECONDS = 15.0
# Unheard for longer, as after a laptop's sleep: whether anybody is there has to be found out anew.
TRUST_SECONDS = 40.0
CLOSE_SECONDS = 1.0


class SocketError(Exception):
    """A call came to nothing."""


class NoSocket(SocketError):
    """The server answers, but not with a WebSocket."""


class SocketLost(SocketError):
    """The connection is gone; a new one may do."""


class CallSilent(SocketError):
    """No reply in time."""


class CallWarned(SocketError):
    """The server does not know this call, or not in this shape. `certain`: it cannot mean another."""

    def __init__(self, warning: str, *, certain: bool) -> None:
        super().__init__(warning)
        self.certain = certain


class CallRefused(SocketError):
    """The server understood, and said no."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.text)
        self.error = error


class Channel:
    """A call with many replies."""

    def __init__(self, socket: "Socket", endpoint: str, number: int) -> None:
        self.endpoint = endpoint
        self.number = number
        self.heard = False
        """Whether the server has said anything on it."""
        self.ended = False
        """Whether `receive` has come to its end: nothing is going on at the server any more."""
        self._socket = socket
        self._arrived: asyncio.Queue[dict[str, Any] | SocketError | None] = asyncio.Queue()

    async def receive(self, *, seconds: float) -> dict[str, Any] | None:
        """The next message; None when the server has closed the channel. Raises SocketError."""
        try:
            async with asyncio.timeout(seconds):
                got = await self._arrived.get()
        except TimeoutError as error:
            raise CallSilent(f"{self.endpoint}: nothing for {seconds:g} s") from error
        self.ended = not isinstance(got, dict)
        if isinstance(got, SocketError):
            raise got
        return got

    async def send(self, message: Mapping[str, Any]) -> None:
        """Raises SocketLost."""
        await self._socket.send(
            {"type": "channelSend", "channelId": self.number, "message": message}
        )

    def forget(self) -> None:
        """Nothing more that comes on it is of interest."""
        self._socket.forget(self)

    def put(self, got: dict[str, Any] | SocketError | None) -> None:
        """What the connection has for it."""
        self.heard = True
        self._arrived.put_nowait(got)


class _Call:
    """A call with one reply."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.heard = False
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def put(self, got: SocketError) -> None:
        if not self.reply.done():
            self.reply.set_exception(got)


class Socket:
    """An authenticated connection. Make it with `authenticated`; close it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._number = 0
        self._calls: dict[int, _Call] = {}
        self._channels: dict[int, Channel] = {}
        # By the wall's clock: the other one stands still while a laptop sleeps.
        self._heard_at = time.time()
        self._tasks = (
            asyncio.create_task(self._read(), name="lmstudio socket"),
            asyncio.create_task(self._keep_alive(), name="lmstudio keep-alive"),
        )

    @property
    def usable(self) -> bool:
        """Whether a new call can be trusted to it."""
        if self._ws.closed or self._tasks[0].done():
            return False
        return abs(time.time() - self._heard_at) < TRUST_SECONDS or bool(self._channels)

    async def call(self, endpoint: str, parameter: object = None, *, seconds: float) -> Any:
        """The result; None for a call without one. Raises SocketError."""
        call, number = _Call(endpoint), self._next()
        self._calls[number] = call
        frame = {"type": "rpcCall", "endpoint": endpoint, "callId": number}
        try:
            async with asyncio.timeout(seconds):
                await self.send(frame if parameter is None else frame | {"parameter": parameter})
                return await call.reply
        except TimeoutError as error:
            raise CallSilent(f"{endpoint}: no reply within {seconds:g} s") from error
        finally:
            del self._calls[number]
            if not call.reply.cancel() and not call.reply.cancelled():
                call.reply.exception()  # seen, whoever was told something else meanwhile

    async def channel(self, endpoint: str, parameter: object) -> Channel:
        """A new channel; the caller forgets it. Raises SocketLost."""
        channel = Channel(self, endpoint, self._next())
        self._channels[channel.number] = channel
        frame = {"type": "channelCreate", "endpoint": endpoint, "channelId": channel.number}
        try:
            await self.send(frame | {"creationParameter": parameter})
        except SocketLost:
            channel.forget()
            raise
        return channel

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Raises SocketLost."""
        try:
            await self._ws.send_str(orjson.dumps(frame).decode())
        except (aiohttp.ClientError, OSError) as error:
            raise SocketLost("The connection is closing.") from error

    def forget(self, channel: Channel) -> None:
        self._channels.pop(channel.number, None)

    async def close(self) -> None:
        """Everything still waiting fails with SocketLost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ws.close()

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _read(self) -> None:
        try:
            async for message in self._ws:
                self._heard_at = time.time()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                with suppress(orjson.JSONDecodeError):
                    frame = orjson.loads(message.data)
                    if isinstance(frame, dict):
                        await self._frame(frame)
        except SocketLost:
            pass  # while acknowledging: those who wait are told below
        finally:
            self._tasks[1].cancel()
            everyone: list[_Call | Channel] = [*self._calls.values(), *self._channels.values()]
            for one in everyone:
                one.put(SocketLost("The server closed the connection."))

    async def _keep_alive(self) -> None:
        with suppress(SocketLost):
            while True:
                await asyncio.sleep(KEEP_ALIVE_SECONDS)
                await self.send({"type": "keepAlive"})

    async def _frame(self, frame: dict[str, Any]) -> None:
        match frame.get("type"):
            case "rpcResult" | "rpcError" as kind:
                call = self._calls.get(_number(frame.get("callId")))
                if call is not None and kind == "rpcError":
                    call.put(CallRefused(server_error(frame.get("error"))))
                elif call is not None and not call.reply.done():
                    call.reply.set_result(frame.get("result"))
            case "channelSend" | "channelClose" | "channelError":
                await self._channel_frame(frame)
            case "communicationWarning":
                self._warned(str(frame.get("warning")))

    async def _channel_frame(self, frame: dict[str, Any]) -> None:
        number = _number(frame.get("channelId"))
        channel = self._channels.get(number)
        if frame["type"] == "channelSend" and "ackId" in frame:
            ack = {"type": "channelAck", "channelId": number, "ackId": frame["ackId"]}
            await self.send(ack)
        if channel is None:
            return
        if frame["type"] == "channelError":
            channel.put(CallRefused(server_error(frame.get("error"))))
        elif frame["type"] == "channelClose":
            channel.put(None)
        elif isinstance(message := frame.get("message"), dict):
            channel.put(message)

    def _warned(self, warning: str) -> None:
        """A warning names no number: it means one of those that have heard nothing yet."""
        waiting: list[_Call | Channel] = list(self._calls.values())
        waiting += [channel for channel in self._channels.values() if not channel.heard]
        words = set(re.findall(r"\w+", warning))
        meant = [one for one in waiting if one.endpoint in words] or waiting
        certain = len({one.endpoint for one in meant}) == 1
        for one in meant:
            one.put(CallWarned(warning, certain=certain))


async def authenticated(
    ws: aiohttp.ClientWebSocketResponse, credentials: Mapping[str, Any], *, seconds: float
) -> Socket:
    """Introduce us. Raises CallRefused, CallSilent or SocketLost, and then closes the connection."""
    try:
        async with asyncio.timeout(seconds):
            await ws.send_str(orjson.dumps(credentials).decode())
            message = await ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise SocketLost("The server closed the connection instead of a welcome.")
        welcome = orjson.loads(message.data)
        if not isinstance(welcome, dict) or welcome.get("success") is not True:
            said = welcome.get("error") if isinstance(welcome, dict) else None
            raise CallRefused(ServerError(said if isinstance(said, str) else "no welcome"))
    except BaseException as error:
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await ws.close()
        if isinstance(error, TimeoutError):
            raise CallSilent("no welcome") from error
        if isinstance(error, orjson.JSONDecodeError):
            raise CallRefused(ServerError("an unreadable welcome")) from error
        if isinstance(error, aiohttp.ClientError | OSError):
            raise SocketLost("The connection is closing.") from error
        raise
    return Socket(ws)


def credentials(token: SecretStr | None) -> dict[str, Any]:
    """The first frame: the two halves of a token, or a guest nobody has seen before."""
    name, key = f"guest:{uuid.uuid4()}", str(uuid.uuid4())
    if token is not None:
        prefix, _, halves = token.get_secret_value().partition("sk-lm-")
        first, colon, second = halves.partition(":")
        if not prefix and first and colon and second:
            name, key = first, second
    return {"authVersion": 1, "clientIdentifier": name, "clientPasskey": key}


def server_error(error: object) -> ServerError:
    """What an error frame says, in one line."""
    if not isinstance(error, dict):
        return ServerError(str(error or "no reason given"))
    title = error.get("title") or error.get("rootTitle") or "no reason given"
    cause = error.get("cause")
    text = f"{title}: {cause}" if isinstance(cause, str) and cause else str(title)
    shown = error.get("displayData")
    code = shown.get("code") if isinstance(shown, dict) else None
    return ServerError(text, code=str(code or "").removeprefix("generic."))


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1
