"""`/api/v1/chat`: loading, reading and answering in one stream."""

from typing import Any

import httpx
import pytest

from tests import tinygguf
from tests.integration.engine.conftest import events, loaded, unload_all

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

CHAT = "/api/v1/chat"


async def _stream(client: httpx.AsyncClient, **body: object) -> list[dict[str, Any]]:
    return [e for e in await events(client, CHAT, {**body, "stream": True}) if isinstance(e, dict)]


def _kinds(stream: list[dict[str, Any]]) -> list[str]:
    """Event types, without repetitions in a row."""
    kinds = [e["type"] for e in stream]
    return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]


async def test_the_events_of_an_answer_come_in_lm_studios_order(
    client: httpx.AsyncClient,
) -> None:
    await unload_all(client)
    stream = await _stream(client, model="thinker", input="hi")
    assert _kinds(stream) == [
        "chat.start",
        "model_load.start",
        "model_load.progress",
        "model_load.end",
        "prompt_processing.start",
        "prompt_processing.progress",
        "prompt_processing.end",
        "reasoning.start",
        "reasoning.delta",
        "reasoning.end",
        "message.start",
        "message.delta",
        "message.end",
        "chat.end",
    ]
    assert stream[0] == {"type": "chat.start", "model_instance_id": "thinker"}
    result = stream[-1]["result"]
    assert result["model_instance_id"] == "thinker"
    assert [part["type"] for part in result["output"]] == ["reasoning", "message"]
    assert result["output"][1]["content"] == "It is 42!"
    stats = result["stats"]
    assert stats["total_output_tokens"] == 9
    assert 0 < stats["reasoning_output_tokens"] < 9
    assert stats["tokens_per_second"] > 0
    assert stats["model_load_time_seconds"] > 0
    assert result["response_id"].startswith("resp_")


async def test_even_the_shortest_load_shows_rising_progress_up_to_one(
    client: httpx.AsyncClient,
) -> None:
    await unload_all(client)
    stream = await _stream(client, model="parrot", input="hi")
    progress = [e["progress"] for e in stream if e["type"] == "model_load.progress"]
    assert len(set(progress)) >= 4
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    again = await _stream(client, model="parrot", input="hi")
    assert "model_load.start" not in _kinds(again)
    assert "model_load_time_seconds" not in again[-1]["result"]["stats"]


async def test_a_longer_load_shows_many_true_steps(client: httpx.AsyncClient, models_dir) -> None:
    tinygguf.big(models_dir / "half.gguf", 0.5)
    try:
        stream = await _stream(client, model="half", input="hi", max_output_tokens=1)
        progress = [e["progress"] for e in stream if e["type"] == "model_load.progress"]
        assert len(progress) >= 10
        assert progress == sorted(progress)
        assert progress[-1] == 1.0
        # Not a jump at the end: the weights themselves are seen coming in.
        assert len([p for p in progress if 0.1 < p < 0.9]) >= 5
    finally:
        (models_dir / "half.gguf").unlink()
        await unload_all(client)


async def test_without_stream_the_result_is_the_whole_answer(client: httpx.AsyncClient) -> None:
    body = {"model": "parrot", "input": [{"type": "text", "content": "hi"}], "store": False}
    result = (await client.post(CHAT, json=body)).json()
    assert result["output"] == [{"type": "message", "content": tinygguf.HELLO_TEXT}]
    assert "response_id" not in result


async def test_a_stored_answer_can_be_continued(client: httpx.AsyncClient) -> None:
    first = (await client.post(CHAT, json={"model": "parrot", "input": "hi"})).json()
    body = {"model": "parrot", "input": "more", "previous_response_id": first["response_id"]}
    second = (await client.post(CHAT, json=body)).json()
    assert second["stats"]["input_tokens"] > first["stats"]["input_tokens"]
    body["previous_response_id"] = "resp_unknown"
    assert (await client.post(CHAT, json=body)).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "nobody", "input": "hi"}, 404, "Invalid model identifier"),
        ({"model": "parrot"}, 400, '"input" is required'),
        (
            {"model": "parrot", "input": "hi", "stop": ["a"], "tools": []},
            400,
            "Unrecognized key(s) in object: 'stop', 'tools'",
        ),
        ({"model": "parrot", "input": "hi", "reasoning": "high"}, 400, "does not support"),
        ({"model": "parrot", "input": "hi", "integrations": ["mcp/x"]}, 403, "Permission denied"),
        (
            {"model": "parrot", "input": [{"type": "image", "data_url": "data:,"}]},
            400,
            "does not support images",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_starts(
    client: httpx.AsyncClient, body: dict, status: int, message: str
) -> None:
    await unload_all(client)
    answer = await client.post(CHAT, json={**body, "stream": True})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert await loaded(client) == {}


async def test_a_failed_load_is_an_error_event_with_the_reason(client: httpx.AsyncClient) -> None:
    stream = await _stream(client, model="truncated", input="hi")
    assert stream[-1]["type"] == "error"
    assert stream[-1]["error"]["type"] == "model_load_failed"
    assert "not within the file bounds" in stream[-1]["error"]["message"]
