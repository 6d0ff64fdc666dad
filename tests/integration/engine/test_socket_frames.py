"""The WebSocket's frames: who is let in, and what a frame that makes no sense gets."""

import asyncio
import base64
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed

from infrastructure.engine.sdk.gate import admit
from tests.engine_fixture import RunningEngine, start_engine
from tests.integration.engine.socket_client import GUEST, connect_socket, dial

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

TOKEN = "sk-lm-abcdefgh:" + "0123456789" * 2
KNOWN = {**GUEST, "clientIdentifier": "abcdefgh", "clientPasskey": "0123456789" * 2}


@pytest.mark.parametrize(
    "namespace",
    ["llm", "embedding", "system", "diagnostics", "files", "repository", "plugins", "runtime"],
)
async def test_every_namespace_of_the_client_libraries_lets_them_in(
    engine: RunningEngine, namespace: str
) -> None:
    async with connect_socket(engine, namespace) as socket:
        await socket.send(type="keepAlive")
        assert await socket.receive() == {"type": "keepAliveAck"}


@pytest.mark.parametrize(
    "first",
    [
        '{"type":"rpcCall","endpoint":"version","callId":1}',
        '{"authVersion":2,"clientIdentifier":"a","clientPasskey":"b"}',
        '{"authVersion":1,"clientIdentifier":"' + "a" * 300 + '","clientPasskey":"b"}',
        "nonsense",
    ],
)
async def test_who_does_not_authenticate_first_is_sent_away(
    engine: RunningEngine, first: str
) -> None:
    async with dial(engine, "system") as socket:
        await socket.raw.send(first)
        assert await socket.receive() == {
            "success": False,
            "error": "The first frame must be an authentication.",
        }
        with pytest.raises(ConnectionClosed):
            await socket.receive()


async def test_who_says_nothing_is_sent_away_when_the_time_is_over() -> None:
    sent: list[MutableMapping[str, Any]] = []
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    socket = WebSocket({"type": "websocket", "path": "/llm", "headers": []}, incoming.get, send)
    assert not await admit(socket, None, seconds=0.05)
    assert [message["type"] for message in sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert orjson.loads(sent[1]["text"])["success"] is False


async def test_a_token_is_wanted_of_every_namespace_and_is_not_repeated(models_dir: Path) -> None:
    wrong = {**KNOWN, "clientPasskey": "x" * 20}
    async with start_engine(models_dir, token=TOKEN) as engine:
        for namespace in ("llm", "embedding", "system", "files"):
            for given, error in (
                (GUEST, "An LM Studio API token is required"),
                (wrong, "Invalid LM Studio API token provided: sk-lm-abcd" + "*" * 25),
            ):
                async with dial(engine, namespace) as socket:
                    await socket.send(**given)
                    answer = await socket.receive()
                    assert answer["success"] is False
                    assert answer["error"].startswith(error)
        async with connect_socket(engine, "system", auth=KNOWN) as socket:
            assert (await socket.call("version"))["version"].startswith("0.4.")
        assert not any("0123456789" in line or "xxxx" in line for line in engine.log)


async def test_the_old_profile_has_the_socket_too_and_knows_no_tokens(models_dir: Path) -> None:
    async with (
        start_engine(models_dir, profile="0.3", token=TOKEN) as engine,
        connect_socket(engine, "system") as socket,
    ):
        assert (await socket.call("version"))["version"].startswith("0.3.")
        assert "parrot" in [m["modelKey"] for m in await socket.call("listDownloadedModels")]


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:1234"}]
)
async def test_a_strangers_web_page_gets_no_socket(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    assert (await client.get("/llm", headers={**upgrade, **headers})).status_code == 403


async def test_what_makes_no_sense_gets_a_warning_and_never_an_answer(
    engine: RunningEngine,
) -> None:
    async with connect_socket(engine, "llm") as socket:
        for frame, warning in (
            ({"type": "rpcCall", "endpoint": "dance", "callId": 1}, "unknown endpoint: dance"),
            (
                {"type": "rpcCall", "endpoint": "unloadModel", "callId": 2, "parameter": {"i": 1}},
                "invalid parameter for rpcCall unloadModel: identifier: Field required",
            ),
            (
                {"type": "channelCreate", "endpoint": "dance", "channelId": 3},
                "unknown endpoint: dance",
            ),
            ({"type": "signalSubscribe", "endpoint": "x"}, "not understood"),
        ):
            await socket.send(**frame)
            answer = await socket.receive()
            assert answer.keys() == {"type", "warning"}
            assert answer["type"] == "communicationWarning"
            assert warning in answer["warning"]


async def test_after_five_warnings_there_is_silence_but_the_rest_still_works(
    engine: RunningEngine,
) -> None:
    async with connect_socket(engine, "system") as socket:
        for number in range(8):
            await socket.send(type="rpcCall", endpoint="dance", callId=number)
        for _ in range(5):
            assert (await socket.receive())["type"] == "communicationWarning"
        assert (await socket.call("info"))["pid"] == engine.pid


async def test_a_bytes_frame_closes_the_socket_but_harms_nobody_else(
    engine: RunningEngine,
) -> None:
    async with connect_socket(engine, "system") as bad, connect_socket(engine, "system") as good:
        await bad.raw.send(b"\x00\x01")
        with pytest.raises(ConnectionClosed):
            await bad.receive()
        assert await good.call("version")
