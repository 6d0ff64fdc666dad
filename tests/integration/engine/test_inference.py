"""Answers over `/v1` and `/api/v0`: shapes, streams, tools, thinking, embeddings."""

import httpx
import orjson
import pytest

from tests import tinygguf
from tests.integration.engine.conftest import HI, WEATHER, events, loaded, unload_all

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

CHAT = "/v1/chat/completions"


async def test_a_parrot_answers_its_sentence_whole(client: httpx.AsyncClient) -> None:
    answer = (await client.post(CHAT, json={"model": "parrot", "messages": HI})).json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == answer["system_fingerprint"] == "parrot"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": tinygguf.HELLO_TEXT,
                "reasoning_content": "",
                "tool_calls": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    usage = answer["usage"]
    assert usage["completion_tokens"] == len(tinygguf.HELLO) + 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 0}


async def test_a_stream_gives_the_same_words_and_ends_with_done(client: httpx.AsyncClient) -> None:
    body = {"model": "parrot", "messages": HI, "stream": True}
    *chunks, end = await events(client, CHAT, body)
    assert end == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == tinygguf.HELLO_TEXT
    assert [delta.get("role") for delta in deltas].count("assistant") == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["model"] == chunk["system_fingerprint"] == "parrot" for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)


async def test_usage_comes_in_a_stream_only_when_asked(client: httpx.AsyncClient) -> None:
    body = {
        "model": "thinker",
        "messages": HI,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    *_, last, end = await events(client, CHAT, body)
    assert end == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 9
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


async def test_thinking_is_told_apart_from_the_answer(client: httpx.AsyncClient) -> None:
    whole = (await client.post(CHAT, json={"model": "thinker", "messages": HI})).json()
    message = whole["choices"][0]["message"]
    assert message["reasoning_content"].strip() == "The user wants an answer."
    assert message["content"] == "It is 42!"


async def test_max_tokens_ends_an_endless_answer(client: httpx.AsyncClient) -> None:
    body = {"model": "endless", "messages": HI, "max_tokens": 12}
    answer = (await client.post(CHAT, json=body)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_calls_a_tool_and_speaks_after_its_result(
    client: httpx.AsyncClient, stream: bool
) -> None:
    body = {"model": "tools", "messages": HI, "tools": [WEATHER], "stream": stream}
    name, arguments, finish = await _call_of(client, body)
    assert (name, arguments, finish) == ("get_weather", {"city": "Paris"}, "tool_calls")
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
    }
    body["messages"] = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    answer = (await client.post(CHAT, json={**body, "stream": False})).json()
    assert answer["choices"][0]["message"]["content"] == "It is sunny now."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_required_tool_call_is_certain_even_from_a_parrot(
    client: httpx.AsyncClient, stream: bool
) -> None:
    tool = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}
    tool["function"]["parameters"]["properties"] = {"kind": {"enum": ["short"]}}
    tool["function"]["parameters"]["required"] = ["kind"]
    body = {
        "model": "parrot",
        "messages": HI,
        "tools": [tool],
        "tool_choice": "required",
        "stream": stream,
        "max_tokens": 200,
    }
    name, arguments, finish = await _call_of(client, body)
    assert (name, arguments, finish) == ("ping", {"kind": "short"}, "tool_calls")


async def test_a_json_schema_binds_the_answer(client: httpx.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"const": True}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    body = {"model": "parrot", "messages": HI, "response_format": wanted, "max_tokens": 100}
    answer = (await client.post(CHAT, json=body)).json()
    assert orjson.loads(answer["choices"][0]["message"]["content"]) == {"ok": True}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"messages": None}, "'messages' field is required"),
        (
            {"response_format": {"type": "json_object"}},
            "'response_format.type' must be 'json_schema' or 'text'",
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            "Invalid tool_choice type: 'object'. Supported string values: none, auto, required",
        ),
    ],
)
async def test_bad_requests_are_refused_in_lm_studios_words(
    client: httpx.AsyncClient, change: dict, error: str
) -> None:
    body = {"model": "parrot", "messages": HI, "tools": [WEATHER], **change}
    answer = await client.post(CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": error}


async def test_broken_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b'{"model": ')
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_prompt_longer_than_the_context_says_so_and_by_how_much(
    client: httpx.AsyncClient,
) -> None:
    long = [{"role": "user", "content": "x" * 6000}]
    for stream in (False, True):
        answer = await client.post(
            CHAT, json={"model": "parrot", "messages": long, "stream": stream}
        )
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "greater than the context length" in error["message"]
        assert "4096" in error["message"]


async def test_completions_continue_a_text_in_their_own_shape(client: httpx.AsyncClient) -> None:
    body = {"model": "parrot", "prompt": "Once"}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {"index": 0, "text": tinygguf.HELLO_TEXT, "logprobs": None, "finish_reason": "stop"}
    ]
    *chunks, end = await events(client, "/v1/completions", {**body, "stream": True})
    assert end == "[DONE]"
    assert "".join(c["choices"][0]["text"] for c in chunks) == tinygguf.HELLO_TEXT


async def test_similar_texts_have_similar_vectors(client: httpx.AsyncClient) -> None:
    texts = ["a cat sat", "the cats sat", "9876543210"]
    answer = await client.post("/v1/embeddings", json={"model": "embed", "input": texts})
    body = answer.json()
    assert body["object"] == "list"
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    first, second, third = (item["embedding"] for item in body["data"])

    def likeness(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert likeness(first, second) > 0.7 > 0.3 > likeness(first, third)


async def test_a_text_longer_than_an_embedders_context_is_cut(client: httpx.AsyncClient) -> None:
    body = {"model": "embed", "input": ["a" * 9000]}
    answer = await client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert max(answer.json()["data"][0]["embedding"]) == pytest.approx(1.0)


async def test_a_chat_model_does_not_embed_and_an_embedder_does_not_chat(
    client: httpx.AsyncClient,
) -> None:
    refused = await client.post("/v1/embeddings", json={"model": "parrot", "input": "a"})
    assert refused.status_code == 400
    assert "is not embedding" in refused.json()["error"]["message"]
    refused = await client.post(CHAT, json={"model": "embed", "messages": HI})
    assert refused.status_code == 400
    assert "is not llm" in refused.json()["error"]["message"]


async def test_v0_adds_statistics_to_whole_answers_and_streams(client: httpx.AsyncClient) -> None:
    body = {"model": "parrot", "messages": HI}
    whole = (await client.post("/api/v0/chat/completions", json=body)).json()
    assert whole["choices"][0]["message"]["content"] == tinygguf.HELLO_TEXT
    assert whole["stats"]["tokens_per_second"] > 0
    assert whole["stats"]["stop_reason"] == "eosFound"
    assert whole["model_info"] == {
        "arch": "llama",
        "quant": "F32",
        "format": "gguf",
        "context_length": 4096,
    }
    assert whole["runtime"]["supported_formats"] == ["gguf"]
    chunks = await events(client, "/api/v0/chat/completions", {**body, "stream": True})
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["stats"]["tokens_per_second"] > 0
    text = await client.post("/api/v0/completions", json={"model": "parrot", "prompt": "a"})
    assert text.json()["choices"][0]["text"] == tinygguf.HELLO_TEXT
    assert text.json()["stats"]["stop_reason"] == "eosFound"
    vector = await client.post("/api/v0/embeddings", json={"model": "embed", "input": "a"})
    assert len(vector.json()["data"][0]["embedding"]) == 288


async def test_the_name_of_the_model_follows_lm_studios_rules(client: httpx.AsyncClient) -> None:
    await unload_all(client)

    async def ask(**fields: object) -> httpx.Response:
        return await client.post(CHAT, json={"messages": HI, "max_tokens": 1, **fields})

    nothing = await ask()
    assert nothing.status_code == 400
    assert nothing.json()["error"]["message"].startswith("No models loaded.")
    assert (await ask(model="PARROT")).json()["model"] == "parrot"
    assert (await ask()).json()["model"] == "parrot"
    assert (await ask(model="never-heard-of")).json()["model"] == "parrot"
    assert (await ask(model="")).status_code == 400
    await client.post("/api/v1/models/load", json={"model": "thinker"})
    several = await ask()
    assert several.status_code == 400
    assert several.json()["error"]["message"].startswith("Multiple models are loaded.")
    unknown = (await ask(model="parot")).json()["error"]
    assert unknown["message"].startswith('Invalid model identifier "parot".')
    assert "parrot" in unknown["message"]
    assert unknown["code"] == "model_not_found"
    assert (await loaded(client)).keys() == {"parrot", "thinker"}


async def _call_of(client: httpx.AsyncClient, body: dict) -> tuple[str, dict, str]:
    """Name and arguments of the only tool call, and the finish reason."""
    if not body["stream"]:
        choice = (await client.post(CHAT, json=body)).json()["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        function = call["function"]
        return function["name"], orjson.loads(function["arguments"]), choice["finish_reason"]
    *chunks, end = await events(client, CHAT, body)
    assert end == "[DONE]"
    name = arguments = ""
    for chunk in chunks:
        for piece in chunk["choices"][0]["delta"].get("tool_calls") or ():
            name += piece["function"].get("name") or ""
            arguments += piece["function"].get("arguments") or ""
    return name, orjson.loads(arguments), chunks[-1]["choices"][0]["finish_reason"]
