"""The frames of LM Studio's WebSockets: who a warning means, what is acknowledged, what an error says."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, WSMsgType, web
from pydantic import SecretStr

from core.models import LoadOptions
from infrastructure.http import ServerError
from infrastructure.providers.lmstudio.calls import config_stack
from infrastructure.providers.lmstudio.socket import (
    CallRefused,
    CallSilent,
    CallWarned,
    Socket,
    SocketLost,
    authenticated,
    credentials,
    server_error,
)
from tests.sockets import until

pytestmark = pytest.mark.anyio

SECONDS = 20.0
Answer = Callable[[web.WebSocketResponse, dict[str, Any]], Awaitable[object]]


async def silence(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
    """Answers nothing."""


@asynccontextmanager
async def connected(
    answer: Answer, *, welcome: str = '{"success":true}'
) -> AsyncGenerator[tuple[Socket, list[dict[str, Any]]]]:
    """A socket to a peer that answers each frame with `answer`, and the frames it got."""
    got: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        await ws.send_str(welcome)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                frame = orjson.loads(message.data)
                got.append(frame)
                await answer(ws, frame)
        return ws

    app = web.Application()
    app.router.add_get("/llm", handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ClientSession() as client:
            ws = await client.ws_connect(f"http://127.0.0.1:{port}/llm")
            socket = await authenticated(ws, credentials(None), seconds=SECONDS)
            try:
                yield socket, got
            finally:
                await socket.close()
    finally:
        await runner.cleanup()


def text(**frame: Any) -> str:
    return orjson.dumps(frame).decode()


def warning(said: str) -> str:
    return text(type="communicationWarning", warning=said)


async def test_answers_find_their_calls_in_any_order() -> None:
    held: list[int] = []

    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        held.append(frame["callId"])
        if len(held) == 3:
            for number in reversed(held):
                await ws.send_str(text(type="rpcResult", callId=number, result=number))

    async with connected(answer) as (socket, got):
        calls = [socket.call(name, seconds=SECONDS) for name in ("a", "b", "c")]
        results = await asyncio.gather(*calls)

    asked = {frame["endpoint"]: frame["callId"] for frame in got}
    assert results == [asked["a"], asked["b"], asked["c"]]
    assert all("parameter" not in frame for frame in got)


async def test_a_warning_fails_the_only_call_there_is_at_once_and_for_certain() -> None:
    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        await ws.send_str(warning("something was unknown"))

    async with connected(answer) as (socket, _):
        with pytest.raises(CallWarned) as caught:
            await socket.call("a", seconds=SECONDS)
        channel = await socket.channel("load", {})
        with pytest.raises(CallWarned):
            await channel.receive(seconds=SECONDS)

    assert caught.value.certain
    assert channel.ended


@pytest.mark.parametrize(
    ("said", "failed", "certain"),
    [("something was unknown", {"a", "b"}, False), ("unknown endpoint 'b'", {"b"}, True)],
)
async def test_a_warning_fails_those_it_can_mean_and_no_others(
    said: str, failed: set[str], certain: bool
) -> None:
    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        match frame["endpoint"]:
            case "load":
                message = {"type": "progress", "progress": 0.5}
                await ws.send_str(text(type="channelSend", channelId=1, message=message))
            case "b":
                await ws.send_str(warning(said))
                await ws.send_str(text(type="rpcResult", callId=2, result="late"))
                await ws.send_str(text(type="channelClose", channelId=1))

    async with connected(answer) as (socket, _):
        channel = await socket.channel("load", {})
        heard = await channel.receive(seconds=SECONDS)
        calls = [socket.call(name, seconds=SECONDS) for name in ("a", "b")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        end = await channel.receive(seconds=SECONDS)

    warned = {
        name: result
        for name, result in zip("ab", results, strict=True)
        if isinstance(result, CallWarned)
    }
    assert set(warned) == failed
    assert {error.certain for error in warned.values()} == {certain}
    assert heard == {"type": "progress", "progress": 0.5}
    assert end is None


async def test_a_message_that_wants_to_be_acknowledged_is() -> None:
    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["type"] == "channelCreate":
            number = frame["channelId"]
            await ws.send_str(text(type="channelSend", channelId=number, message={}, ackId=7))

    async with connected(answer) as (socket, got):
        channel = await socket.channel("load", {})
        await channel.receive(seconds=SECONDS)
        await until(lambda: len(got) == 2)

    assert got[1] == {"type": "channelAck", "channelId": channel.number, "ackId": 7}


async def test_frames_that_mean_nothing_are_passed_over() -> None:
    odd = [
        "no json",
        "[]",
        "{}",
        text(type="rpcResult", callId=99, result=1),
        text(type="rpcResult", callId=None),
        text(type="channelSend", channelId=5, message={}),
        text(type="channelClose"),
        text(type="signalUpdate", subscribeId=1, patches=[]),
    ]

    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        for line in odd:
            await ws.send_str(line)
        await ws.send_bytes(b"\x00")
        await ws.send_str(text(type="rpcResult", callId=frame["callId"], result="here"))

    async with connected(answer) as (socket, _):
        assert await socket.call("a", seconds=SECONDS) == "here"


async def test_no_reply_is_silence_and_a_late_one_harms_nobody() -> None:
    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["endpoint"] == "b":
            for number in (1, frame["callId"]):
                await ws.send_str(text(type="rpcResult", callId=number, result=number))

    async with connected(answer) as (socket, _):
        with pytest.raises(CallSilent):
            await socket.call("a", seconds=0.05)
        channel = await socket.channel("load", {})
        with pytest.raises(CallSilent):
            await channel.receive(seconds=0.05)
        assert await socket.call("b", seconds=SECONDS) == 3


async def test_whoever_waits_when_the_connection_ends_is_told() -> None:
    async def answer(ws: web.WebSocketResponse, frame: dict[str, Any]) -> None:
        if frame["endpoint"] == "last":
            await ws.close()

    async with connected(answer) as (socket, _):
        channel = await socket.channel("load", {})
        waiting = asyncio.gather(
            socket.call("a", seconds=SECONDS),
            channel.receive(seconds=SECONDS),
            socket.call("last", seconds=SECONDS),
            return_exceptions=True,
        )
        results = await waiting
        with pytest.raises(SocketLost):
            await socket.call("more", seconds=SECONDS)

        assert [type(result) for result in results] == [SocketLost] * 3
        assert not socket.usable


@pytest.mark.parametrize(
    ("welcome", "said"),
    [
        ('{"success":false,"error":"An LM Studio API token is required"}', "token is required"),
        ('{"error":"Unexpected endpoint"}', "Unexpected endpoint"),
        ("[]", "no welcome"),
        ("<html>", "an unreadable welcome"),
    ],
)
async def test_only_a_welcome_opens_a_connection(welcome: str, said: str) -> None:
    with pytest.raises(CallRefused, match=said):
        async with connected(silence, welcome=welcome):
            pytest.fail("there was no welcome")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"title": "Failed"}, ServerError("Failed")),
        ({"title": "Failed", "cause": "bad magic"}, ServerError("Failed: bad magic")),
        (
            {"rootTitle": "Gone", "displayData": {"code": "generic.identifierNotFound"}},
            ServerError("Gone", code="identifierNotFound"),
        ),
        ({"title": None, "displayData": 3}, ServerError("no reason given")),
        ("text", ServerError("text")),
        (None, ServerError("no reason given")),
    ],
)
def test_an_error_frame_is_one_line(error: object, expected: ServerError) -> None:
    assert server_error(error) == expected


@pytest.mark.parametrize("token", ["lm-studio", "sk-lm-", "sk-lm-abc", "sk-abc:def", "sk-lm-:x"])
def test_what_is_no_token_makes_a_guest_and_is_not_sent(token: str) -> None:
    first, second = credentials(SecretStr(token)), credentials(SecretStr(token))

    assert first["clientIdentifier"].startswith("guest:")
    assert first["clientIdentifier"] != second["clientIdentifier"]
    assert token not in str(first)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, "off"), (0.25, 0.25), (1.0, "max"), (None, None)]
)
def test_the_share_on_the_gpu_is_worded_as_the_server_does(
    share: float | None, value: object
) -> None:
    layers = config_stack("llm", LoadOptions(gpu_offload=share))["layers"]

    fields = layers[0]["config"]["fields"] if layers else []
    assert [field["value"] for field in fields] == ([] if value is None else [value])
