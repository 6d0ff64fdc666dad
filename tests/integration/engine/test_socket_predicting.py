"""Answers over the WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.engine_fixture import RunningEngine, wait_until
from tests.integration.engine.conftest import WEATHER, unload_all
from tests.integration.engine.socket_client import (
    CallFailed,
    Socket,
    config,
    connect_socket,
    load,
    predict,
    query,
    text,
)

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.fixture
async def llm(engine: RunningEngine, client: httpx.AsyncClient) -> AsyncIterator[Socket]:
    await unload_all(client)
    async with connect_socket(engine, "llm") as socket:
        yield socket


def _said(messages: list[dict[str, Any]], reasoning: str = "none") -> str:
    fragments = [m["fragment"] for m in messages if m["type"] == "fragment"]
    return "".join(f["content"] for f in fragments if f["reasoningType"] == reasoning)


async def test_an_answer_comes_in_fragments_after_the_prompt_and_ends_with_its_figures(
    llm: Socket,
) -> None:
    await llm.all("loadModel", load("parrot"))
    stack = config(llm__prediction__temperature=0)
    messages = await llm.all("predict", predict("parrot", "Hi. " * 200, stack=stack))
    kinds = [m["type"] for m in messages]
    assert kinds.index("promptProcessingProgress") < kinds.index("fragment")
    read = [m for m in messages if m["type"] == "promptProcessingProgress"]
    assert len(read) > 2
    assert read[-1]["progress"] == 1
    assert read[-1]["details"]["unprocessedPromptTokenCount"] == 0
    assert _said(messages) == "Hello from the tiny test model."
    end = messages[-1]
    assert end["type"] == "success"
    assert end["stats"]["stopReason"] == "eosFound"
    assert end["stats"]["promptTokensCount"] > 800
    assert end["stats"]["predictedTokensCount"] == 8
    assert end["modelInfo"]["identifier"] == "parrot"
    assert end["modelInfo"]["lastUsedTime"] > 1.7e12
    assert {"key": "llm.prediction.temperature", "value": 0} in end["predictionConfig"]["fields"]
    assert any(f["key"] == "llm.load.contextLength" for f in end["loadModelConfig"]["fields"])


async def test_thoughts_are_marked_as_such(llm: Socket) -> None:
    await llm.all("loadModel", load("thinker"))
    messages = await llm.all("predict", predict("thinker", "Hi."))
    kinds = [m["fragment"]["reasoningType"] for m in messages if m["type"] == "fragment"]
    assert kinds[0] == "reasoningStartTag"
    assert kinds.index("reasoningEndTag") < kinds.index("none")
    assert _said(messages, "reasoning").strip() == "The user wants an answer."
    assert _said(messages) == "It is 42!"


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_a_tool_is_called_and_its_result_answered(llm: Socket, mode: str) -> None:
    await llm.all("loadModel", load("tools"))
    stack = config(
        llm__prediction__tools={"type": "toolArray", "tools": [WEATHER]},
        llm__prediction__toolChoice={"type": "generic", "mode": mode},
        llm__prediction__maxPredictedTokens={"checked": True, "value": 60},
    )
    messages = await llm.all("predict", predict("tools", "Weather?", stack=stack))
    if mode == "required":
        # Its grammar allows nothing else, which this parrot cannot say.
        assert messages[-1]["type"] == "success"
        return
    kinds = [m["type"] for m in messages if m["type"].startswith("toolCall")]
    assert kinds[0] == "toolCallGenerationStart"
    assert kinds[1] == "toolCallGenerationNameReceived"
    assert kinds[-1] == "toolCallGenerationEnd"
    call = next(m["toolCallRequest"] for m in messages if m["type"] == kinds[-1])
    assert (call["name"], call["arguments"]) == ("get_weather", {"city": "Paris"})
    assert messages[-1]["stats"]["stopReason"] == "toolCalls"
    asked = {"role": "assistant", "content": [{"type": "toolCallRequest", "toolCallRequest": call}]}
    result = {"type": "toolCallResult", "content": "sunny", "toolCallId": call["id"]}
    answered = {"role": "tool", "content": [result]}
    messages = await llm.all("predict", predict("tools", "Weather?", asked, answered, stack=stack))
    assert _said(messages) == "It is sunny now."


async def test_the_length_of_an_answer_can_be_limited_and_a_text_continued(llm: Socket) -> None:
    await llm.all("loadModel", load("endless", loadConfigStack=config(llm__load__contextLength=64)))
    stack = config(llm__prediction__maxPredictedTokens={"checked": True, "value": 3})
    messages = await llm.all("predict", predict("endless", "Hi.", stack=stack))
    assert _said(messages) == " la le lu"
    assert messages[-1]["stats"]["stopReason"] == "maxPredictedTokensReached"
    stack["layers"].append({"layerName": "completeModeFormatting", "config": {"fields": []}})
    messages = await llm.all("predict", predict("endless", "Hi.", stack=stack))
    assert messages[-1]["stats"]["promptTokensCount"] == 3
    messages = await llm.all("predict", predict("endless", "Hi."))
    assert messages[-1]["stats"]["stopReason"] == "contextLengthReached"
    with pytest.raises(CallFailed, match="greater than the context"):
        await llm.all("predict", predict("endless", "Hi. " * 100))


async def test_a_cancelled_answer_ends_at_once_and_the_model_is_idle(
    llm: Socket, engine: RunningEngine
) -> None:
    await llm.all("loadModel", load("slow"))
    state = {"specifier": query("slow"), "throwIfNotFound": True}
    async with connect_socket(engine, "llm") as other:
        assert await other.call("getInstanceProcessingState", state) == {
            "status": "idle",
            "queued": 0,
        }
        channels = []
        for _ in range(4):
            channels.append(await llm.open("predict", predict("slow", "Hi.")))
        while (await llm.receive()).get("message", {}).get("type") != "fragment":
            continue
        # Two have a place each, two wait.
        busy = {"status": "generating", "queued": 2}
        async with asyncio.timeout(20):  # the second of them may still be reading
            while await other.call("getInstanceProcessingState", state) != busy:
                await asyncio.sleep(0.01)
        for channel in channels:
            await llm.tell(channel, "cancel")
        ended = {}
        while len(ended) < 4:
            frame = await llm.receive()
            if frame.get("message", {}).get("type") == "success":
                ended[frame["channelId"]] = frame["message"]["stats"]["stopReason"]
        assert ended == dict.fromkeys(channels, "userStopped")
        after = await other.call("getInstanceProcessingState", state)
        assert after == {"status": "idle", "queued": 0}


async def test_a_client_that_leaves_takes_its_answer_with_it(
    llm: Socket, engine: RunningEngine, client: httpx.AsyncClient
) -> None:
    await llm.all("loadModel", load("slow", ttlMs=200))
    async with connect_socket(engine, "llm") as other:
        channel = await other.open("predict", predict("slow", "Hi."))
        async for message in other.messages(channel):
            if message["type"] == "fragment":
                break
        assert len(engine.children()) == 1
    # Idle again, so its time to live runs out.
    await wait_until(lambda: engine.children() == [])


async def test_files_are_refused_in_words(llm: Socket) -> None:
    await llm.all("loadModel", load("parrot"))
    file = {"type": "file", "name": "a", "identifier": "b", "sizeBytes": 1, "fileType": "image"}
    said = {"role": "user", "content": [text("Hi."), file]}
    with pytest.raises(CallFailed, match="takes no files"):
        await llm.all("predict", predict("parrot", said))
